"""How many bins hold no sample, one, two ..., against the binomial distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from shapeshd.benchmark.statistics.bin_counts import bin_counts, empty_bins
from shapeshd.benchmark.statistics.histogram import (
    read_histogram,
)
from shapeshd.factors import NUM_BINS
from tests.support.histograms import UNIFORM, draw


def test_empty_bins() -> None:
    rng = np.random.default_rng(18)
    n, k = 1_000, 500
    found = [int((rng.multinomial(n, np.full(k, 1 / k)) == 0).sum()) for _ in range(3_000)]
    result = empty_bins(read_histogram(draw(n, np.full(k, 1 / k), 19), bins=k))
    assert result.expected == pytest.approx(k * (1 - 1 / k) ** n)
    assert np.mean(found) == pytest.approx(result.expected, abs=0.6)
    assert np.std(found) == pytest.approx(result.deviation, rel=0.05)


def test_figure_2_follows_the_binomial() -> None:
    n = 20 * NUM_BINS
    figure = bin_counts(draw(n, UNIFORM, 20))
    assert sum(figure.observed) == NUM_BINS
    assert sum(j * bins for j, bins in enumerate(figure.observed)) == n
    j = np.arange(len(figure.observed))
    np.testing.assert_allclose(figure.expected, NUM_BINS * stats.binom.pmf(j, n, 1 / NUM_BINS))
    enough = np.array(figure.expected) > 20
    residual = (np.array(figure.observed) - figure.expected)[enough]
    assert (residual**2 / np.array(figure.expected)[enough]).mean() < 2.5


def test_figure_2_of_another_distribution_and_a_short_one() -> None:
    q = np.array([0.1, 0.1, 0.3, 0.5])
    figure = bin_counts([1, 1, 4, 14], q, length=3)
    assert figure.observed == (0, 2, 0)
    assert figure.observed_beyond == 2
    for j in range(3):
        assert figure.expected[j] == pytest.approx(stats.binom.pmf(j, 20, q).sum())
    assert sum(figure.expected) + figure.expected_beyond == pytest.approx(4)
