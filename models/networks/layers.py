"""The layers of StyleGAN2, after Karras et al. 2020 (arXiv:1912.04958), in plain PyTorch.

Three ideas make them. *Equalised learning rate* (Karras et al. 2018, arXiv:1710.10196): weights
are stored with unit variance and scaled by 1/sqrt(fan in) on use, so that Adam moves all layers
at one relative speed. *Modulation and demodulation* (section 2.2): a style scales a
convolution's input channels, and its outputs are divided by the standard deviation that they
would then have. *Filtered resampling* (Zhang 2019, arXiv:1904.11486): sizes change by two with
the filter [1, 3, 3, 1].

All of it is built of PyTorch's own operations: every layer can be differentiated twice, which R1
and the path-length penalty need, keeps the memory format of its input, and runs under autocast.
Styles and the factors of demodulation are then still computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BINOMIAL = (1.0, 3.0, 3.0, 1.0)
_SLOPE = 0.2
_EPSILON = 1e-8


def leaky(x: Tensor) -> Tensor:
    """Return the leaky ReLU of slope 0.2, times sqrt(2), which keeps about the mean square."""
    return F.leaky_relu(x, _SLOPE) * math.sqrt(2)


def full_precision(x: Tensor) -> Tensor:
    """Return `x` in float32 if it is in a shorter format; float64 stays."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class EqualLinear(nn.Module):
    """An affine map with an equalised learning rate.

    Args:
        inputs: components of the input.
        outputs: components of the output.
        bias: what each component of the bias begins at.
        rate: the factor by which it learns more slowly than other layers; the initial map
            does not depend on it.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale = rate / math.sqrt(inputs)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class EqualConv(nn.Module):
    """A convolution with an equalised learning rate that keeps the size, or halves it.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: width of the kernel, odd.
        down: whether to halve height and width, which must be even: the input is filtered and
            then convolved with a stride of two.
        bias: whether there is a bias; it begins at zero.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, down: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        # Padded for both filters at once, so that no border is filtered twice.
        self.blur = Resample(pad=((kernel + 1) // 2,) * 2) if down else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h, w), or (n, outputs, h/2, w/2)."""
        weight = self.weight * self.scale
        if self.blur is not None:
            return F.conv2d(self.blur(x), weight, self.bias, stride=2)
        return F.conv2d(x, weight, self.bias, padding=self.weight.shape[-1] // 2)


class ModulatedConv(nn.Module):
    """A convolution whose weights each sample's style scales (equations 1 and 3).

    The weights w of sample b become s_bi w_oik, and with demodulation these over
    sqrt(sum_ik (s_bi w_oik)^2 + 1e-8). No weights are formed per sample: to scale input
    channels before and output channels after one shared convolution is the same.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: width of the kernel, odd.
        style: components of the vector w that the style is an affine function of.
        demodulate: whether the outputs are normalised.
        up: whether to double height and width: zeros are set between the pixels, and what is
            convolved is then filtered. The kernel is applied as a convolution proper, mirrored
            against what PyTorch calls one, as its transposed convolution does.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        style: int,
        *,
        demodulate: bool = True,
        up: bool = False,
    ) -> None:
        super().__init__()
        self.style = EqualLinear(style, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.demodulate = demodulate
        # The transposed convolution makes 2h + kernel - 2 pixels, the filter takes three away.
        short = 5 - kernel
        self.blur = Resample(pad=(short - short // 2, short // 2), gain=4.0) if up else None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return the convolved images.

        Args:
            x: (n, inputs, h, w).
            w: (n, style).

        Returns:
            (n, outputs, h, w), or (n, outputs, 2h, 2w).
        """
        with torch.autocast(x.device.type, enabled=False):
            style = self.style(full_precision(w))
            weight = self.weight * self.scale
            if self.demodulate:
                power = style.square() @ weight.square().sum((2, 3)).T
                factor = torch.rsqrt(power + _EPSILON)[:, :, None, None]
        x = x * style[:, :, None, None].to(x.dtype)
        if self.blur is not None:
            y = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        else:
            y = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        return y * factor.to(y.dtype) if self.demodulate else y


class Resample(nn.Module):
    """`upfirdn` with a fixed filter.

    Args:
        up: see `upfirdn`.
        down: see `upfirdn`.
        pad: see `upfirdn`.
        gain: what the filter sums to; up^2 keeps the mean of what is enlarged.
        taps: the filter along an axis, up to a factor.
    """

    kernel: Tensor

    def __init__(
        self,
        *,
        up: int = 1,
        down: int = 1,
        pad: tuple[int, int] = (0, 0),
        gain: float = 1.0,
        taps: Sequence[float] = BINOMIAL,
    ) -> None:
        super().__init__()
        line = torch.tensor(taps, dtype=torch.float64)
        kernel = torch.outer(line, line) * (gain / line.sum() ** 2)
        # Not saved: it is no part of what a network has learned.
        self.register_buffer("kernel", kernel.float(), persistent=False)
        self.up, self.down, self.pad = up, down, pad

    def forward(self, x: Tensor) -> Tensor:
        """Return the resampled (n, c, h', w')."""
        return upfirdn(x, self.kernel, self.up, self.down, self.pad)


def double_size() -> Resample:
    """Return the filter that takes (n, c, h, w) to (n, c, 2h, 2w)."""
    return Resample(up=2, pad=(2, 1), gain=4.0)


def half_size() -> Resample:
    """Return the filter that takes (n, c, h, w), h and w even, to (n, c, h/2, w/2)."""
    return Resample(down=2, pad=(1, 1))


def upfirdn(
    x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)
) -> Tensor:
    """Upsample, filter and downsample each channel.

    Along both axes, up - 1 zeros are set after each pixel; zeros are added (or, where negative,
    pixels cut off) in front and behind; this is convolved with the kernel wherever the kernel
    has all its pixels; and of the result every `down`-th is kept, from the first on.

    Args:
        x: (n, c, h, w).
        kernel: (t, t).
        up: factor of enlargement, at least 1.
        down: factor of reduction, at least 1.
        pad: in front and behind, pixels of the enlarged image.

    Returns:
        (n, c, (h up + pad[0] + pad[1] - t) // down + 1, and the same of w).
    """
    if down > 1 and x.device.type == "cpu" and x.dtype != full_precision(x).dtype:
        # On a CPU the gradient of such a convolution is many times slower in a short format.
        with torch.autocast("cpu", enabled=False):
            return upfirdn(full_precision(x), kernel, up, down, pad).to(x.dtype)
    channels, taps = x.shape[1], kernel.shape[-1]
    weight = kernel.to(x.dtype).expand(channels, 1, taps, taps)
    if up == 1:
        common = max(0, min(pad))
        front, behind = pad[0] - common, pad[1] - common
        if front or behind:
            x = F.pad(x, (front, behind, front, behind))
        return _each_channel(x, weight.flip(2, 3), down, common, transposed=False)
    # A transposed convolution gives the full convolution of the enlarged image less the zeros
    # after its last pixel: so much of it is too many (or, negative, too few) in front, behind.
    front, behind = taps - 1 - pad[0], taps - up - pad[1]
    common = max(0, min(front, behind))
    y = _each_channel(x, weight, up, common, transposed=True)
    front, behind = common - front, common - behind
    if front or behind:
        y = F.pad(y, (front, behind, front, behind))
    return y[:, :, ::down, ::down] if down > 1 else y


def _each_channel(
    x: Tensor, weight: Tensor, stride: int, padding: int, *, transposed: bool
) -> Tensor:
    """Convolve each channel of `x` with its constant kernel, of shape (channels, 1, t, t)."""
    if torch.is_autocast_enabled(x.device.type):
        short = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(short), weight.to(short)
    # What is compiled cannot be differentiated twice anyway, and what is traced holds no Python.
    made = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if x.requires_grad and torch.is_grad_enabled() and not made:
        y: Tensor = _Filter.apply(x, weight, stride, padding, transposed)
        return y
    return _convolved(x, weight, stride, padding, transposed)


def _convolved(x: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool) -> Tensor:
    convolve = F.conv_transpose2d if transposed else F.conv2d
    return convolve(x, weight, stride=stride, padding=padding, groups=weight.shape[0])


class _Filter(torch.autograd.Function):
    """A convolution of each channel whose kernel has no gradient.

    PyTorch's own derivative of the backward pass finds the kernel's gradient too, wanted or not,
    by one convolution for each channel: hundreds in every layer, in each step with R1 or with the
    path-length penalty.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, *how: Any) -> Tensor:
        return _convolved(x, weight, *how)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, *ctx.how = inputs
        ctx.save_for_backward(weight)
        last = x.stride(1) == 1
        ctx.like = x.shape, torch.channels_last if last else torch.contiguous_format

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        return _FilterBackward.apply(*gradients, weight, ctx.like, *ctx.how), *[None] * 4


class _FilterBackward(torch.autograd.Function):
    """The gradient of `_Filter` by its input: linear, so that its own gradient is the filter."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, weight: Tensor, like: Any, *how: Any) -> Tensor:
        (shape, order), (stride, padding, transposed) = like, how
        # Its values are not read.
        x = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=order)
        found: Tensor = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0],
            weight.shape[0], [True, False, False],
        )[0]  # fmt: skip
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, weight, _, *ctx.how = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        return _Filter.apply(*gradients, weight, *ctx.how), *[None] * 5
