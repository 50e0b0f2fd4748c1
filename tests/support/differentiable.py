"""Small networks, and their derivatives by finite differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

STEP = 1e-5  # of central differences, whose error is then about 1e-10


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=rng, dtype=torch.float64)


def perceptron(inputs: int, outputs: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(inputs, 6), nn.SiLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, outputs)
    ).double()


def convolutional(channels: int) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, stride=2, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(16, 1)
    ).double()


@torch.no_grad()
def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Central differences: (n, components of an output, components of an input)."""
    columns = []
    for i in range(x[0].numel()):
        step = torch.zeros_like(x[0]).view(-1)
        step[i] = STEP
        step = step.view_as(x[0])
        columns.append((function(x + step) - function(x - step)).flatten(1) / (2 * STEP))
    return torch.stack(columns, 2)
