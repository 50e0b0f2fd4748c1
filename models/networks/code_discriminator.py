"""The discriminators of codes: C of equation 2, C1 of equation 4, C2 of equation 5.

They return logits; C in the equations is the sigmoid of these, and stands in the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import Perceptron
from .layers import full_precision


class CodeDiscriminator(nn.Module):
    """C1, which sees differences of two codes; or C, the same network, which sees codes.

    Args:
        latent_dim: components of a code.
        width: of the hidden layers.
        layers: how many of them there are, at least 1; see `Perceptron`.
    """

    def __init__(self, latent_dim: int, width: int, layers: int) -> None:
        super().__init__()
        self.body = Perceptron(latent_dim, 1, width, layers)

    def forward(self, z: Tensor) -> Tensor:
        """Map (n, latent_dim) to logits (n,), in float32 at least, autocast or not."""
        logits: Tensor = self.body(z)
        return logits[:, 0]


class LinearCodeDiscriminator(nn.Module):
    """C2: an affine function of a code, so simple that it does not oscillate (section 4.1).

    It begins at zero: before it has seen a code it takes no side.

    Args:
        latent_dim: components of a code.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.affine = nn.Linear(latent_dim, 1)
        nn.init.zeros_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)

    def forward(self, z: Tensor) -> Tensor:
        """Map (n, latent_dim) to logits (n,), in float32 at least, autocast or not."""
        with torch.autocast(z.device.type, enabled=False):
            logits: Tensor = self.affine(full_precision(z))
        return logits[:, 0]
