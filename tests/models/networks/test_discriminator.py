"""The discriminator's parts against their definitions, mirrored images, groups, precision."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from shapeshd.errors import UsageError
from shapeshd.models.networks.blocks import Condense, Pyramid, ResidualBlock
from shapeshd.models.networks.config import PyramidConfig
from shapeshd.models.networks.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    GroupDeviation,
    group_deviation,
)
from shapeshd.models.networks.layers import BINOMIAL, EqualConv, EqualLinear
from shapeshd.support.schema import validated

from .test_layers import by_scipy

SMALL = DiscriminatorConfig(size=16, channel_base=64, channel_max=6)


def small(seed: int = 0, **changes: Any) -> Discriminator:
    torch.manual_seed(seed)
    network = Discriminator(replace(SMALL, **changes))
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):  # they begin at zero, which would hide what they do
            nn.init.normal_(parameter, std=0.3)
    return network


def images(n: int, size: int = 16, channels: int = 3, seed: int = 1) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(n, channels, size, size, generator=rng) - 1


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * 2**0.5


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128, 256])
@pytest.mark.parametrize("channels", [3, 6])
def test_logits_of_all_sizes(size: int, channels: int) -> None:
    network = small(size=size, channels=channels, channel_base=512, channel_max=4)
    x = images(4, size, channels)
    logits = network(x)
    assert logits.shape == (4,)
    assert logits.dtype == torch.float32
    assert len(network.pyramid.blocks) == math.log2(size) - 2
    # Every corner of the image counts: nothing is cut off at a border.
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).sum(), x)
    assert gradient[..., [0, 0, -1, -1], [0, -1, 0, -1]].abs().amin(dim=0).max() > 0


# What the authors' program prints of its discriminator at 1024 pixels, in configuration F
# (stylegan2-ada-pytorch): reading the image, three convolutions a block, and the end.
PRINTED = {
    "read": 128,
    1024: (9248, 18496, 2048),
    512: (36928, 73856, 8192),
    256: (147584, 295168, 32768),
    128: (590080, 1180160, 131072),
    64: (2359808, 2359808, 262144),
    32: (2359808, 2359808, 262144),
    16: (2359808, 2359808, 262144),
    8: (2359808, 2359808, 262144),
    "end": (2364416, 4194816, 513),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_numbers_of_parameters_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = Discriminator(DiscriminatorConfig(size=1024))
    assert count(network.pyramid.read) == PRINTED["read"]
    sizes = (1024, 512, 256, 128, 64, 32, 16, 8)
    for size, block in zip(sizes, network.pyramid.blocks, strict=True):
        assert isinstance(block, ResidualBlock)
        assert (count(block.keep), count(block.down), count(block.skip)) == PRINTED[size]
    end = network.condense
    assert (count(end.convolution), count(end.dense), count(network.logit)) == PRINTED["end"]
    assert count(network) == 29_012_513


@pytest.mark.parametrize(("channels", "wanted"), [(3, 28_864_129), (6, 28_864_513)])
def test_numbers_of_parameters_at_256(channels: int, wanted: int) -> None:
    """In closed form: a block of a to b channels has 9 a^2 + a, 9 a b + b and a b."""
    with torch.device("meta"):
        network = Discriminator(DiscriminatorConfig(channels=channels))
    widths = [128, 256, 512, 512, 512, 512, 512]  # of 256, 128, .. 4 pixels
    pairs = [(widths[i], widths[i + 1]) for i in range(6)]
    blocks = sum(9 * a * a + a + 10 * a * b + b for a, b in pairs)
    end = 9 * 513 * 512 + 512 + 16 * 512 * 512 + 512 + 512 + 1
    assert count(network) == (channels + 1) * 128 + blocks + end == wanted


def test_residual_block_is_its_parts() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(3, 5).double()
    nn.init.normal_(block.keep.bias)  # type: ignore[arg-type]
    nn.init.normal_(block.down.bias)  # type: ignore[arg-type]
    x = images(2, 8, 3).double()
    line = np.array(BINOMIAL) / 8

    y = F.conv2d(x, block.keep.weight / 27**0.5, block.keep.bias, padding=1)
    wide = by_scipy(lrelu(y).detach(), line, 1, 1, (2, 2))
    y = lrelu(F.conv2d(wide, block.down.weight / 27**0.5, block.down.bias)[..., ::2, ::2])
    skip = F.conv2d(by_scipy(x, line, 1, 2, (1, 1)), block.skip.weight / 3**0.5)
    assert y.shape == skip.shape == (2, 5, 4, 4)
    torch.testing.assert_close(block(x), (y + skip) / 2**0.5)


def test_skip_connection_is_the_halving_convolution() -> None:
    """Filtered and then read by 1 x 1: the same as `EqualConv` that halves, at less work."""
    torch.manual_seed(0)
    block, whole = ResidualBlock(3, 5), EqualConv(3, 5, 1, down=True, bias=False)
    whole.weight = block.skip.weight
    x = images(2, 12)
    torch.testing.assert_close(block.skip(block.blur(x)), whole(x))


def test_whole_network_is_its_parts() -> None:
    network, x = small(), images(8)
    y = lrelu(F.conv2d(x, network.pyramid.read.weight / 3**0.5, network.pyramid.read.bias))
    for block in network.pyramid.blocks:
        y = block(y)
    assert y.shape == (8, 6, 4, 4)
    y = torch.cat((y, group_deviation(y, 4).view(8, 1, 1, 1).expand(-1, 1, 4, 4)), 1)
    convolution, dense = network.condense.convolution, network.condense.dense
    y = lrelu(F.conv2d(y, convolution.weight / 63**0.5, convolution.bias, padding=1))
    # The order that is promised: input 16 c + 4 i + j is channel c, row i, column j.
    weight = dense.weight.view(6, 6, 4, 4) / 96**0.5
    y = lrelu(torch.einsum("ocij,ncij->no", weight, y) + dense.bias)
    logits = y @ network.logit.weight[0] / 6**0.5 + network.logit.bias
    torch.testing.assert_close(network(x), logits, rtol=1e-4, atol=1e-5)


def test_mirrored_image_and_mirrored_weights_give_the_same() -> None:
    """No path through the network is off by a pixel, or half of one."""
    network, mirrored, x = small(seed=3), small(seed=3), images(4)
    for axis in (2, 3):
        for module in mirrored.modules():
            if isinstance(module, EqualConv):
                module.weight.data = module.weight.data.flip(axis)
        dense = mirrored.condense.dense
        dense.weight.data = dense.weight.data.view(-1, 6, 4, 4).flip(axis).flatten(1)
        x = x.flip(axis)
        torch.testing.assert_close(mirrored(x), network(images(4)), rtol=1e-4, atol=1e-5)
    # The test sees a shift of one pixel.
    assert (mirrored(x.roll(1, 3)) - network(images(4))).abs().max() > 1e-2


def test_deviation_by_hand() -> None:
    """Two groups of two, two channels of 1 x 2 pixels: half differences, averaged."""
    x = torch.tensor(
        [
            [[[1.0, 2.0]], [[3.0, 4.0]]],
            [[[3.0, 2.0]], [[3.0, 10.0]]],
            [[[0.0, 0.0]], [[0.0, 0.0]]],
            [[[0.0, 8.0]], [[0.0, 0.0]]],
        ]
    )
    wanted = torch.tensor([(1 + 0 + 0 + 3) / 4] * 2 + [(0 + 4 + 0 + 0) / 4] * 2)
    torch.testing.assert_close(group_deviation(x, 2), wanted, rtol=0, atol=1e-4)
    # All four as one group: the variance over 4.
    everyone = np.sqrt(x.numpy().var(0) + 1e-8).mean()
    torch.testing.assert_close(group_deviation(x, 4), torch.full((4,), float(everyone)))
    added = GroupDeviation(2)(x)
    assert torch.equal(added[:, :2], x)
    assert torch.equal(added[:, 2], group_deviation(x, 2).view(4, 1, 1).expand(4, 1, 2))


@given(n=st.integers(1, 24), group=st.integers(1, 9))
def test_groups_are_the_largest_divisor(n: int, group: int) -> None:
    """Samples of a group have equal deviations, other groups others; brute force."""
    x = torch.randn(n, 2, 1, 2, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    size = max(d for d in range(1, group + 1) if n % d == 0)
    wanted = np.concatenate(
        [
            np.repeat(np.sqrt(x[i : i + size].numpy().var(0) + 1e-8).mean(), size)
            for i in range(0, n, size)
        ]
    )
    torch.testing.assert_close(group_deviation(x, group), torch.from_numpy(wanted))
    if size > 1:
        assert len(set(np.round(wanted, 9))) == n // size


def test_two_halves_of_a_batch_see_the_same_groups() -> None:
    network, x = small(), images(16)
    whole = network(x)
    halves = torch.cat((network(x[:8]), network(x[8:])))
    torch.testing.assert_close(whole, halves, rtol=1e-4, atol=1e-5)
    # They would not, were the groups others: the logits do depend on their group.
    other = network(x[torch.arange(16).view(4, 4).T.reshape(16)])
    assert (other.view(4, 4).T.reshape(16) - whole).abs().max() > 1e-4


def test_order_within_a_group_and_of_the_groups_does_not_matter() -> None:
    network, x = small(), images(8)
    order = torch.tensor([6, 4, 5, 7, 1, 3, 2, 0])
    torch.testing.assert_close(network(x[order]), network(x)[order], rtol=1e-4, atol=1e-5)


def test_groups_of_one_see_no_other_sample() -> None:
    network, x = small(group=1), images(5)
    alone = torch.cat([network(x[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(network(x), alone, rtol=1e-4, atol=1e-5)
    assert network(x[:0]).shape == (0,)


def test_collapse_shows_in_the_deviation() -> None:
    x = images(4)
    features = small().pyramid(x)
    varied, same = group_deviation(features, 4), group_deviation(features[:1].repeat(4, 1, 1, 1), 4)
    torch.testing.assert_close(same, torch.full((4,), 1e-4), rtol=1e-3, atol=0)
    assert (varied > 100 * same).all()


def test_variance_is_kept_at_the_start() -> None:
    """Features keep their mean square down to 4 x 4 pixels, as equalised layers should."""
    torch.manual_seed(0)
    pyramid = Pyramid(PyramidConfig(size=64, channel_base=4096, channel_max=96), 3)
    x = torch.randn(8, 3, 64, 64)
    assert pyramid.read(x).var().item() == pytest.approx(1, rel=0.3)
    # The filter takes its part of white noise; from block to block it should change little.
    powers = []
    y = lrelu(pyramid.read(x))
    for block in pyramid.blocks:
        y = block(y)
        powers.append(y.square().mean().item())
    assert all(0.1 < power < 2 for power in powers)
    condense = Condense(96, 96, 200)
    assert condense(torch.randn(50, 96, 4, 4)).square().mean().item() == pytest.approx(1, rel=0.3)


def test_every_convolution_has_the_equalised_rate() -> None:
    """Weights of unit variance, scaled by 1/sqrt(fan in); biases at zero."""
    torch.manual_seed(0)
    network = Discriminator(DiscriminatorConfig(size=16, channel_max=64))
    layers = [m for m in network.modules() if isinstance(m, (EqualConv, EqualLinear))]
    assert len(layers) == 1 + 2 * 3 + 3
    for layer in layers:
        fan_in = layer.weight[0].numel()
        assert layer.scale == pytest.approx(fan_in**-0.5)
        sure = 5 / math.sqrt(2 * layer.weight.numel())  # five standard errors of a deviation
        assert layer.weight.std().item() == pytest.approx(1, abs=sure)
        assert layer.bias is None or layer.bias.abs().max() == 0
    others = {id(p) for p in network.parameters()} - {id(p) for m in layers for p in m.parameters()}
    assert not others


def test_second_derivatives() -> None:
    """What R1 needs: of the logits by the image and by all parameters."""
    network = small(size=8, channel_base=16, channel_max=2, group=2).double()
    names = [name for name, _ in network.named_parameters()]

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), (x,))

    x = images(4, 8).double().requires_grad_()
    own = [parameter.detach().clone().requires_grad_() for parameter in network.parameters()]
    assert torch.autograd.gradcheck(function, (x, *own), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, *own), fast_mode=True)


def test_second_derivatives_of_the_deviation() -> None:
    x = torch.randn(6, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: group_deviation(x, 3), (x,))
    assert torch.autograd.gradgradcheck(lambda x: group_deviation(x, 3), (x,))
    same = x[:1].detach().expand(4, -1, -1, -1).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(group_deviation(same, 4).sum(), same, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), same)
    assert gradient.isfinite().all() and second.isfinite().all()


def test_every_parameter_learns() -> None:
    network, x = small(), images(4).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    (network(x).square().sum() + gradient.square().sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@contextmanager
def outputs_of(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what the blocks and the last two stages return."""
    seen: list[Tensor] = []
    kinds = (ResidualBlock, GroupDeviation, EqualConv)
    handles = [
        module.register_forward_hook(lambda _, __, y: seen.append(y))
        for module in network.modules()
        if isinstance(module, kinds)
    ]
    yield seen
    for handle in handles:
        handle.remove()


def test_channels_last_changes_only_the_rounding() -> None:
    network, x = small(), images(8)
    wanted = network(x)
    network = network.to(memory_format=torch.channels_last)
    with outputs_of(network) as seen:
        made = network(x.to(memory_format=torch.channels_last))
    assert len(seen) == 1 + 2 * 4 + 1 + 1
    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in seen)
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-5)


def test_autocast_keeps_the_end_fine() -> None:
    network, x = small(channel_max=32, channel_base=512), images(16)
    wanted = network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16), outputs_of(network) as seen:
        logits = network(x)
    assert logits.dtype == torch.float32
    assert {y.dtype for y in seen[:9]} == {torch.bfloat16}  # the convolutions and the blocks
    assert {y.dtype for y in seen[9:]} == {torch.float32}
    assert (logits - wanted).std() < 0.05 * wanted.std()


def test_gradients_under_autocast() -> None:
    network, x = small(), images(4).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(x)
    (rough,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    rough.square().sum().backward()
    (fine,) = torch.autograd.grad(network(x).sum(), x)
    assert torch.cosine_similarity(rough.flatten(), fine.flatten(), dim=0) > 0.99


def test_one_graph() -> None:
    network, x = small(), images(8)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x))


def test_config_survives_json() -> None:
    config = replace(SMALL, channels=6)
    assert (
        validated(DiscriminatorConfig, json.loads(json.dumps(config.to_json())), complete=True)
        == config
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 48}, "size .*power of two, not 48"),
        ({"size": 4}, "size must be"),
        ({"channels": 0}, "channels must be"),
        ({"channels": 3.0}, "channels must be"),
        ({"group": 0}, "group must be"),
        ({"channel_max": True}, "channel_max must be"),
        ({"channel_base": 15}, "channel_base must be"),
        ({"depth": 3}, "depth: .*no such key"),
    ],
)
def test_bad_config(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        validated(DiscriminatorConfig, {**SMALL.to_json(), **changes}, complete=True)


def test_config_that_lacks_a_field() -> None:
    values = SMALL.to_json()
    del values["group"]
    with pytest.raises(UsageError, match="group is missing"):
        validated(DiscriminatorConfig, values, complete=True)


@pytest.mark.parametrize("shape", [(2, 6, 16, 16), (2, 3, 16, 8), (3, 16, 16), (2, 3, 32, 32)])
def test_bad_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"images .*\(n, 3, 16, 16\)"):
        small()(torch.zeros(shape))
