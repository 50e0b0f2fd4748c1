"""Codes whose disentanglement is known."""

from __future__ import annotations

import numpy as np

from shapeshd.factors import FloatArray, uniform_factors


def unit_factors(images: int, seed: int = 0) -> FloatArray:
    """Return factors with a variance of about 1 each, (images, 6)."""
    factors = uniform_factors(seed, 0, images)
    return (factors - factors.mean(0)) / factors.std(0)


def noise(images: int, components: int, seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((images, components))
