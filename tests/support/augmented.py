"""Images and helpers of the tests of augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from shapeshd.models.augment.transforms import (
    AugmentConfig,
    Parameters,
    draw,
)

MANY = 4000
LEAST_P_VALUE = 1e-4  # of tests whose random numbers are fixed: they pass or fail for ever


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Images of independent pixels, in which any misplaced pixel shows."""
    return 2 * torch.rand(shape, generator=generator(seed), dtype=torch.float64) - 1


def only(name: str, count: int, size: tuple[int, int] = (32, 32), p: float = 1.0) -> Parameters:
    return draw(count, size, p, AugmentConfig((name,)), generator(7))


def waves(height: int, width: int, seed: int = 0) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A smooth function of the plane that is its own reflection at the edges of an image.

    cos(pi k x / (w - 1)) is even about the first and the last pixel's centre, so that the image
    that it makes, continued by reflection, is the function itself, wherever one looks.
    """
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(4, 4)) / (1 + np.arange(4)[:, None] + np.arange(4))

    def function(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        across = [np.cos(math.pi * k * x / (width - 1)) for k in range(4)]
        down = [np.cos(math.pi * k * y / (height - 1)) for k in range(4)]
        return sum(weights[j, i] * down[j] * across[i] for i in range(4) for j in range(4))

    return function


def angles(turns: np.ndarray) -> np.ndarray:
    """The angles of rotations about the grey axis, half turns."""
    return Rotation.from_matrix(turns).as_rotvec() @ np.ones(3) / math.sqrt(3) / math.pi
