"""The layers against SciPy's upfirdn, per-sample convolutions, statistics, second derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import signal
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from shapeshd.models.networks.layers import (
    BINOMIAL,
    EqualConv,
    EqualLinear,
    ModulatedConv,
    Resample,
    double_size,
    half_size,
    leaky,
    upfirdn,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def on_axis(line: np.ndarray, taps: np.ndarray, up: int, down: int, pad: tuple[int, int]) -> object:
    """One axis by SciPy: pad what is enlarged by hand, keep where the filter is all inside."""
    large = np.zeros(len(line) * up)
    large[::up] = line
    front, behind = pad
    large = np.pad(large, (max(front, 0), max(behind, 0)))
    large = large[max(-front, 0) : len(large) - max(-behind, 0)]
    full = signal.upfirdn(taps, large)
    return full[len(taps) - 1 : len(large)][::down]


def by_scipy(x: Tensor, taps: np.ndarray, up: int, down: int, pad: tuple[int, int]) -> Tensor:
    y = np.apply_along_axis(on_axis, 2, x.numpy(), taps, up, down, pad)
    return torch.from_numpy(np.apply_along_axis(on_axis, 3, y, taps, up, down, pad))


@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize("down", [1, 2, 3])
@pytest.mark.parametrize("pad", [(0, 0), (2, 1), (1, 2), (5, 6), (-1, 2), (3, -2), (-2, -1)])
@pytest.mark.parametrize(
    "taps", [(1.0, 3.0, 3.0, 1.0), (0.5, -2.0, 3.0), (2.0,), (1.0, 2, 3, 4, 5)]
)
def test_upfirdn_is_scipys(
    up: int, down: int, pad: tuple[int, int], taps: tuple[float, ...]
) -> None:
    x, line = random(2, 3, 9, 8), np.array(taps)
    kernel = torch.from_numpy(np.outer(line, line))
    torch.testing.assert_close(upfirdn(x, kernel, up, down, pad), by_scipy(x, line, up, down, pad))


def test_doubling_and_halving_are_scipys() -> None:
    x, line = random(2, 3, 6, 8), np.array(BINOMIAL) / sum(BINOMIAL)
    torch.testing.assert_close(double_size()(x), by_scipy(x, 2 * line, 2, 1, (2, 1)))
    torch.testing.assert_close(half_size()(x), by_scipy(x, line, 1, 2, (1, 1)))


def test_a_plane_keeps_its_colour() -> None:
    plane = torch.full((1, 2, 8, 8), 0.7)
    torch.testing.assert_close(
        double_size()(plane)[..., 1:-1, 1:-1], torch.full((1, 2, 14, 14), 0.7)
    )
    torch.testing.assert_close(half_size()(plane)[..., 1:-1, 1:-1], torch.full((1, 2, 2, 2), 0.7))


def explicit(layer: ModulatedConv, x: Tensor, w: Tensor) -> Tensor:
    """Equations 1 and 3 sample by sample, weights written out."""
    images = []
    for image, code in zip(x, w, strict=True):
        style = layer.style.weight / math.sqrt(len(code)) @ code + layer.style.bias
        weight = layer.weight * layer.scale * style[None, :, None, None]
        if layer.demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if layer.blur is None:
            images.append(F.conv2d(image[None], weight, padding=weight.shape[-1] // 2))
            continue
        # Zeros between the pixels, an ordinary convolution with the mirrored kernel, the filter.
        zeros = torch.zeros(1, len(image), 2 * image.shape[1], 2 * image.shape[2]).to(x)
        zeros[:, :, ::2, ::2] = image
        wide = F.conv2d(zeros, weight.flip(2, 3), padding=weight.shape[-1])
        line = 2 * np.array(BINOMIAL) / sum(BINOMIAL)
        full = by_scipy(wide.detach(), line, 1, 1, (3, 3))
        # Padded, the kernel of 3 and the filter of 4 taps reach 3 beyond either end.
        height, width = zeros.shape[2:]
        images.append(full[:, :, 3 : 3 + height, 3 : 3 + width])
    return torch.cat(images)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_modulated_convolution_is_the_explicit_one(demodulate: bool, kernel: int) -> None:
    layer = ModulatedConv(5, 4, kernel, 6, demodulate=demodulate).double()
    x, w = random(3, 5, 7, 6), random(3, 6, seed=1)
    torch.testing.assert_close(layer(x, w), explicit(layer, x, w))


@pytest.mark.parametrize("demodulate", [True, False])
def test_enlarging_convolution_is_the_explicit_one(demodulate: bool) -> None:
    layer = ModulatedConv(5, 4, 3, 6, demodulate=demodulate, up=True).double()
    x, w = random(3, 5, 7, 6), random(3, 6, seed=1)
    made, wanted = layer(x, w), explicit(layer, x, w)
    assert made.shape == (3, 4, 14, 12)
    torch.testing.assert_close(made, wanted.detach())


@pytest.mark.parametrize(("kernel", "down"), [(1, False), (3, False), (1, True), (3, True)])
def test_equal_convolution_by_its_parts(kernel: int, down: bool) -> None:
    layer = EqualConv(4, 3, kernel, down=down).double()
    x = random(2, 4, 8, 6)
    line = np.array(BINOMIAL) / sum(BINOMIAL)
    if down:
        pad = (kernel + 1) // 2
        y = F.conv2d(by_scipy(x, line, 1, 1, (pad, pad)), layer.weight * layer.scale)[..., ::2, ::2]
        assert y.shape == (2, 3, 4, 3)
    else:
        y = F.conv2d(x, layer.weight * layer.scale, padding=kernel // 2)
    torch.testing.assert_close(layer(x), y)


def test_initial_outputs_have_the_variance_of_the_inputs() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 300)
    for rate in (1.0, 0.01):
        layer = EqualLinear(300, 400, rate=rate)
        assert torch.var(layer.weight).item() == pytest.approx(1 / rate**2, rel=0.02)
        effective = layer(torch.eye(300))
        assert effective.var().item() == pytest.approx(1 / 300, rel=0.02)
        assert layer(x).var().item() == pytest.approx(1, rel=0.05)
    y = EqualConv(64, 200, 3)(torch.randn(8, 64, 16, 16))[..., 1:-1, 1:-1]
    assert y.var().item() == pytest.approx(1, rel=0.05)
    assert leaky(torch.randn(10**6)).square().mean().item() == pytest.approx(1.04, rel=0.01)


def test_a_bias_begins_where_it_is_told() -> None:
    layer = EqualLinear(3, 2, bias=1.0, rate=0.01)
    torch.testing.assert_close(layer(torch.zeros(1, 3)), torch.ones(1, 2))


def test_the_rate_scales_a_step_of_the_map() -> None:
    """A step of Adam is about `rate` times as long in the map as at rate 1."""
    lengths = []
    for rate in (1.0, 0.01):
        torch.manual_seed(0)
        layer = EqualLinear(20, 20, rate=rate)
        before = layer(torch.eye(20)).detach()
        adam = torch.optim.Adam(layer.parameters(), lr=1e-3)
        layer(torch.eye(20)).square().sum().backward()
        adam.step()
        lengths.append((layer(torch.eye(20)) - before).norm().item())
    assert lengths[1] / lengths[0] == pytest.approx(0.01, rel=0.01)


def test_demodulated_outputs_have_unit_variance() -> None:
    torch.manual_seed(1)
    layer = ModulatedConv(64, 32, 3, 16)
    x, w = torch.randn(6, 64, 64, 64), 10 * torch.randn(6, 16)
    with torch.no_grad():
        assert layer.style(w).std() > 5  # the styles do differ
        variance = layer(x, w)[..., 1:-1, 1:-1].var((2, 3))  # (6, 32)
    # 62^2 outputs of which neighbours are correlated: each variance is known to a few percent.
    assert variance.mean().item() == pytest.approx(1, abs=0.01)
    assert (variance - 1).abs().max() < 0.2


def gradients_hold(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    for tensor in inputs:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("demodulate", [True, False])
def test_second_derivatives_of_modulated_convolution(up: bool, demodulate: bool) -> None:
    layer = ModulatedConv(2, 2, 3, 3, up=up, demodulate=demodulate).double()
    names = [name for name, _ in layer.named_parameters()]

    def function(x: Tensor, w: Tensor, *parameters: Tensor) -> Tensor:
        with_them = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, with_them, (x, w))

    own = [parameter.detach().clone() for parameter in layer.parameters()]
    gradients_hold(function, random(2, 2, 3, 3), random(2, 3, seed=1), *own)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (EqualLinear(3, 2, rate=0.1), (4, 3)),
        (EqualConv(2, 3, 3), (1, 2, 4, 4)),
        (EqualConv(2, 3, 3, down=True), (1, 2, 4, 4)),
        (double_size(), (1, 2, 3, 3)),
        (half_size(), (1, 2, 4, 4)),
        (Resample(up=3, down=2, pad=(-1, 2), taps=(1, 2, 4)), (1, 2, 4, 4)),
    ],
)
def test_second_derivatives(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer = layer.double()
    names = [name for name, _ in layer.named_parameters()]

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        with_them = dict(zip(names, parameters, strict=True))
        return leaky(torch.func.functional_call(layer, with_them, (x,)))

    own = [parameter.detach().clone() for parameter in layer.parameters()]
    gradients_hold(function, random(*shape), *own)


class Convolutions(TorchDispatchMode):
    """Counts the convolutions that are run in its context."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("layer", [double_size(), half_size(), Resample(pad=(1, 1), gain=4.0)])
def test_second_derivatives_of_filters_take_no_convolution_for_each_channel(
    layer: nn.Module,
) -> None:
    """As PyTorch's own do, for the gradient by a kernel that is constant."""
    x = random(2, 16, 8, 8).float().requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with Convolutions() as found:
        gradient.square().sum().backward()
    assert 0 < found.count < 4


@pytest.mark.parametrize(
    "layer",
    [
        EqualConv(8, 6, 3),
        EqualConv(8, 6, 3, down=True),
        EqualConv(8, 6, 1, down=True),
        double_size(),
    ],
)
def test_channels_last_stays(layer: nn.Module) -> None:
    x = torch.randn(2, 8, 8, 8)
    last = layer.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, layer(x))


@pytest.mark.parametrize("up", [True, False])
def test_modulated_channels_last_stays(up: bool) -> None:
    layer = ModulatedConv(8, 6, 3, 4, up=up)
    x, w = torch.randn(2, 8, 8, 8), torch.randn(2, 4)
    wanted = layer(x, w)
    layer = layer.to(memory_format=torch.channels_last)
    last = layer(x.to(memory_format=torch.channels_last), w)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, wanted, rtol=1e-4, atol=1e-5)


def test_filters_are_not_saved() -> None:
    assert set(ModulatedConv(2, 2, 3, 2, up=True).state_dict()) == {
        "weight",
        "style.weight",
        "style.bias",
    }


def test_filters_that_halve_lose_nothing_in_a_short_format():
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)).bfloat16()
    x.requires_grad_(True)
    y = half_size()(x)
    (gradient,) = torch.autograd.grad(y.float().square().sum(), x)
    exact = half_size()(x.float())
    assert y.dtype == gradient.dtype == torch.bfloat16
    assert torch.equal(y, exact.bfloat16())
