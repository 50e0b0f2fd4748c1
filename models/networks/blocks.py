"""Blocks of several layers: from images to a vector, and the dense networks of codes.

The former are what StyleGAN2's discriminator and the encoder's trunk are made of, after Karras et
al. 2020 (arXiv:1912.04958), section 4.1 and figure 7: the residual design, which the paper's
configuration F has for its discriminator.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from shapeshd.errors import UsageError

from .config import PyramidConfig
from .layers import EqualConv, EqualLinear, full_precision, half_size, leaky

SMALLEST = 4  # pixels of the last features
_FIRST_OUTPUTS = 0.1


class ResidualBlock(nn.Module):
    """Halves height and width: two convolutions beside a skip connection, their sum / sqrt(2).

    The skip connection is the filter [1, 3, 3, 1] and a convolution of 1 x 1 without bias; the
    factor keeps the mean square of a sum of two that are independent.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.keep = EqualConv(inputs, inputs, 3)
        self.down = EqualConv(inputs, outputs, 3, down=True)
        self.blur = half_size()
        # After the filter: the same as a convolution that halves, for a quarter of the work.
        self.skip = EqualConv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w), h and w even, to (n, outputs, h/2, w/2)."""
        y = leaky(self.down(leaky(self.keep(x))))
        return (y + self.skip(self.blur(x))) * math.sqrt(0.5)


class Pyramid(nn.Module):
    """A convolution of 1 x 1 that reads the image, then residual blocks down to 4 x 4 pixels.

    Args:
        config: sizes and channels of the features.
        channels: of the images.

    Attributes:
        outputs: channels of the features of 4 x 4 pixels.
    """

    def __init__(self, config: PyramidConfig, channels: int) -> None:
        super().__init__()
        self.shape = (channels, config.size, config.size)
        self.read = EqualConv(channels, config.width(config.size), 1)
        sizes = [config.size >> k for k in range(int(math.log2(config.size // SMALLEST)))]
        self.blocks = nn.ModuleList(
            ResidualBlock(config.width(size), config.width(size // 2)) for size in sizes
        )
        self.outputs = config.width(SMALLEST)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, channels, size, size) to features (n, outputs, 4, 4).

        Raises:
            UsageError: if `x` has another shape.
        """
        if x.ndim != 4 or x.shape[1:] != self.shape:
            raise UsageError(
                f"images must be (n, {', '.join(map(str, self.shape))}), not {tuple(x.shape)}"
            )
        x = leaky(self.read(x))
        for block in self.blocks:
            x = block(x)
        return x


class Condense(nn.Module):
    """The end of a pyramid: a convolution of width 3 on 4 x 4 pixels, then a dense layer.

    Both are computed in float32 at least, autocast or not: of images of 64 pixels or more they are
    under a hundredth of the work, and a logit or a code should not come in steps of eight bits.

    Args:
        inputs: channels of the features.
        width: channels between the two layers.
        outputs: components of the vector.
    """

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.convolution = EqualConv(inputs, width, 3)
        self.dense = EqualLinear(width * SMALLEST**2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, 4, 4) to (n, outputs).

        The dense layer's inputs are ordered by channel, then row, then column, whatever the
        memory format: input 16 c + 4 i + j is channel c at row i and column j.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = leaky(self.convolution(full_precision(x)))
            return leaky(self.dense(x.flatten(1)))


class Perceptron(nn.Module):
    """Dense layers with SiLU and skip connections.

    The first layer makes the hidden vector h, each further one adds to it, h + W silu(h) + b, and
    the last reads it out, W silu(h) + b.

    SiLU, because it is smooth: gradient penalties differentiate it twice, and the density of
    codes that it makes has no kinks for a discriminator of codes to find. Skip connections,
    because with them the inputs, noise among them, reach the outputs at any depth from the first
    step on. Plain layers instead of equalised ones: all hidden layers have one width, so there is
    nothing to equalise, and the usual learning rates of Adam for such networks, 1e-4 to 1e-3,
    hold. Weights begin with the variance 1 / fan in, which for inputs of mean square 1 keeps h
    near it; those of the last layer at a tenth of it in amplitude, so that outputs begin near zero.

    Args:
        inputs: components of the input.
        outputs: components of the output.
        width: components of h.
        layers: those that make h, at least 1; the last one is not counted.
    """

    def __init__(self, inputs: int, outputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.first = _linear(inputs, width)
        self.hidden = nn.ModuleList(_linear(width, width) for _ in range(layers - 1))
        self.last = _linear(width, outputs, _FIRST_OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs) to (n, outputs), in float32 at least, autocast or not."""
        with torch.autocast(x.device.type, enabled=False):
            h = self.first(full_precision(x))
            for layer in self.hidden:
                h = h + layer(nn.functional.silu(h))
            y: Tensor = self.last(nn.functional.silu(h))
        return y


def _linear(inputs: int, outputs: int, scale: float = 1.0) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=scale / math.sqrt(inputs))
    nn.init.zeros_(layer.bias)
    return layer
