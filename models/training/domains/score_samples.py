"""Scores a generator during training: counts its samples' factors and tests them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shapeshd.benchmark.recognizer.reader import count_bins
from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.decomposition import decompose
from shapeshd.factors import FloatArray, joint_bins


@torch.no_grad()
def score_samples(
    factors_of: Callable[[Tensor], FloatArray],
    samples: int,
    latent_dim: int,
    rng: torch.Generator,
    batch: int,
) -> dict[str, Any]:
    """Return the goodness of fit of samples, ``fit``, and its decomposition, ``parts``.

    Args:
        factors_of: gives the factors, float64 (n, 6), of what is made of codes (n, latent_dim).
        samples: how many to draw.
        latent_dim: components of a code.
        rng: draws the codes, on its own device.
        batch: samples at a time.
    """
    sizes = (min(batch, samples - start) for start in range(0, samples, batch))
    codes = (torch.randn(n, latent_dim, generator=rng, device=rng.device) for n in sizes)
    counts = count_bins(joint_bins(factors_of(z)) for z in codes)
    return {"fit": goodness_of_fit(counts).to_json(), "parts": decompose(counts).to_json()}
