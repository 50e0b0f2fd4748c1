"""How a class-conditional StyleGAN2(-ADA) network takes its labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-8


class LabelledNetwork(nn.Module):
    """A generator whose mapping network also sees an embedding of the class.

    Its input is z and the embedding, an affine function of the one-hot label, each scaled to a
    mean square of 1, side by side; after the conditional networks of Karras et al. 2020
    (arXiv:2006.06676).

    Args:
        network: latents (n, latent_dim + width) -> images; it normalises nothing itself.
        weight: of the embedding as it is stored, (width, classes), unit variance.
        bias: (width,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, network: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("weight", weight / weight.shape[1] ** 0.5)
        self.register_buffer("bias", bias)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Map latents (n, latent_dim) and one-hot labels (n, classes), float32, to images."""
        embedded = F.linear(labels, self.weight, self.bias)
        images: Tensor = self.network(torch.cat([_normalised(z), _normalised(embedded)], 1))
        return images


def _normalised(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + _EPSILON)
