"""How many bins hold no sample, one, two ..., against the binomial distribution."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from shapeshd.benchmark.statistics.bin_counts import bin_counts, empty_bins, is_collapsed
from shapeshd.benchmark.statistics.histogram import (
    read_histogram,
)
from shapeshd.factors import NUM_BINS
from tests.support.histograms import UNIFORM, draw


def test_the_bound_of_a_collapse_holds_for_few_bins() -> None:
    """Chernoff's bound is compared with the exact probability, by inclusion and exclusion."""
    for bins, n in ((20, 40), (60, 60), (400, 300)):
        expected = bins * (1 - (1 - 1 / bins) ** n)
        few = max(1, math.ceil(0.1 * expected) - 1)
        exact = sum(
            math.comb(bins, m) * _surjections(n, m) / Fraction(bins) ** n for m in range(1, few + 1)
        )
        assert not is_collapsed(few, expected) or exact < 1e-9
        assert is_collapsed(few, expected) == (bins > 20)
        assert not is_collapsed(math.ceil(0.1 * expected), expected)


def _surjections(n: int, m: int) -> int:
    return sum((-1) ** j * math.comb(m, j) * (m - j) ** n for j in range(m + 1))


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
