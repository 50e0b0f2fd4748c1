"""Generators in this process whose every image says in which bin it lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shapeshd.benchmark import Score, score
from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.factors import BIN_SHAPE, IntArray

from .fake_scores import ReadsWritten, written_images

DIM = len(BIN_SHAPE)
FEW = 5_761  # the fewest samples that can be tested


def scored(generator: Any, samples: int | None = FEW, **options: Any) -> Score:
    """Score a generator, read by `ReadsWritten` unless `options` name another recognizer."""
    return score(
        generator, samples, recognizer=options.pop("recognizer", ReadsWritten()), **options
    )


def bins_of(latents: Tensor, tilt: float = 0.0) -> IntArray:
    """Return the joint bins (n,) of normal latents (n, 6): uniform, if `tilt` is 0."""
    unit = torch.special.ndtr(latents.double() + tilt).numpy()
    rows = np.minimum((unit * BIN_SHAPE).astype(int), np.array(BIN_SHAPE) - 1)
    return np.ravel_multi_index(tuple(rows.T), BIN_SHAPE)


def true_counts(samples: int, seed: int = 0, tilt: float = 0.0) -> IntArray:
    """Return the histogram of `samples` samples, drawn at once."""
    bins = bins_of(normal_latents(seed, 0, samples, DIM), tilt)
    return np.bincount(bins, minlength=int(np.prod(BIN_SHAPE)))


class Telling(nn.Module):
    """An nn.Module: latents (n, 6) -> uint8 images (n, 3, 64, 64); wrong in training mode.

    Args:
        tilt: added to every latent; other than 0, all factors are biased.
    """

    latent_dim = DIM

    def __init__(self, tilt: float = 0.0) -> None:
        super().__init__()
        self.tilt = nn.Parameter(torch.tensor(tilt))
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(2)
        self.seen: list[tuple[bool, bool, bool]] = []

    def forward(self, latents: Tensor) -> Tensor:
        self.seen.append((self.training, self.drop.training, torch.is_grad_enabled()))
        tilt = float(self.tilt) + 3.0 * self.training
        return written_images(bins_of(latents, tilt), 64)

    def sample(self, n: int) -> Tensor:
        """Draw from PyTorch's own generator."""
        return self(torch.randn(n, DIM))


def random_states() -> list[Any]:
    """Return what all random generators would go on from, fit for ==."""
    import random

    state: Any = np.random.get_state()  # noqa: NPY002
    kind, keys, *rest = state
    return [torch.get_rng_state().tolist(), random.getstate(), kind, keys.tolist(), rest]
