"""Distributions and histograms drawn from them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from shapeshd.benchmark.statistics.intervals import UStatistic
from shapeshd.factors import NUM_BINS

UNIFORM = np.full(NUM_BINS, 1 / NUM_BINS)

Floats = np.ndarray


def distributions(k: int) -> st.SearchStrategy[Floats]:
    """Probabilities of k bins, none below about 0.02."""
    return st.lists(st.floats(0.1, 2), min_size=k, max_size=k).map(
        lambda values: np.array(values) / sum(values)
    )


def variance_of(found: UStatistic) -> float:
    """Return the unbiased estimate of the variance of a U-statistic."""
    n = found.samples
    return 4 * found.zeta1 / n + 2 * found.tau / (n * (n - 1))


def draw(n: int, p: Floats, seed: int) -> Floats:
    return np.random.default_rng(seed).multinomial(n, p)
