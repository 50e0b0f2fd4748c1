"""The dense networks that see codes and features: the encoder's head and C1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .layers import full_precision

_FIRST_OUTPUTS = 0.1


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
