"""Scores a generator during training: counts its samples' factors and tests them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from shapeshd.benchmark.recognizer.reader import count_bins
from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.decomposition import decompose
from shapeshd.factors import FloatArray, joint_bins
from shapeshd.models.config import Codes
from shapeshd.models.networks.flow import Flow


def latent_dim_of(generator: nn.Module, codes: Codes) -> int:
    """Return the components of a latent: a flow has as many as a sample, others as a code."""
    return generator.latent_dim if isinstance(generator, Flow) else codes.latent_dim


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
        factors_of: gives the factors, float64 (n, 6), of what is made of latents (n, latent_dim).
        samples: how many to draw.
        latent_dim: components of a latent.
        rng: draws the latents, on its own device.
        batch: samples at a time.
    """
    sizes = (min(batch, samples - start) for start in range(0, samples, batch))
    codes = (torch.randn(n, latent_dim, generator=rng, device=rng.device) for n in sizes)
    counts = count_bins(joint_bins(factors_of(z)) for z in codes)
    return {"fit": goodness_of_fit(counts).to_json(), "parts": decompose(counts).to_json()}
