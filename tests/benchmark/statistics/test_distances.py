"""Kullback-Leibler divergence and total variation against sums over the distribution of a count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from shapeshd.benchmark.statistics.distances import (
    _grassberger,
    distances,
    kullback_leibler,
    total_variation_ideal,
)
from shapeshd.benchmark.statistics.histogram import (
    Histogram,
    read_histogram,
)
from shapeshd.factors import NUM_BINS
from tests.support.histograms import UNIFORM, Floats, distributions, draw


@pytest.mark.parametrize("mean", [0.1, 0.6, 2.0, 20.0])
def test_grassbergers_bias(mean: float) -> None:
    """E n G(n) = m ln m + m E1(2 m) for a Poisson count of mean m."""
    n = np.arange(1, 200)
    found = (stats.poisson.pmf(n, mean) * n * _grassberger(n)).sum()
    assert found == pytest.approx(mean * math.log(mean) + mean * special.exp1(2 * mean), rel=1e-9)


@pytest.mark.parametrize("mean", [0.12, 0.6, 1.0, 4.0])
def test_a_small_kullback_leibler_is_seen_as_documented(mean: float) -> None:
    """Half of the bins a little fuller: the second order of E n G(n) in the density."""
    n, step = np.arange(1, 200), 0.01
    means = mean * np.array([1 - step, 1, 1 + step])[:, None]
    low, middle, high = stats.poisson.pmf(n, means) @ (n * _grassberger(n)) / mean
    plain = [x * math.log(x * mean) for x in (1 - step, 1, 1 + step)]
    seen = (low - 2 * middle + high) / (plain[0] - 2 * plain[1] + plain[2])
    assert seen == pytest.approx(1 + (2 * mean - 1) * math.exp(-2 * mean), rel=1e-3)


@pytest.mark.parametrize("n", [400, 1_600])
def test_kullback_leibler_is_unbiased_under_the_distribution(n: int) -> None:
    rng = np.random.default_rng(14)
    q = rng.dirichlet(np.full(800, 4.0))
    found = [kullback_leibler(read_histogram(rng.multinomial(n, q), q)) for _ in range(400)]
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error
    plain = math.log(800) / 4  # what no correction would be off by, at least
    assert error < plain / 100


def test_kullback_leibler_of_a_known_source() -> None:
    p = np.exp(0.3 * np.random.default_rng(15).normal(size=NUM_BINS))
    p /= p.sum()
    true = float(stats.entropy(p, UNIFORM))
    found = kullback_leibler(read_histogram(draw(20 * NUM_BINS, p, 16)))
    assert found == pytest.approx(true, rel=0.02)
    sparse = kullback_leibler(read_histogram(draw(332_000, p, 17)))
    assert sparse == pytest.approx(true, rel=0.2)


@given(q=distributions(5), n=st.integers(4, 60))
def test_total_variation_of_an_ideal_sampler(q: Floats, n: int) -> None:
    j = np.arange(n + 1)
    expected = sum(
        float(stats.binom.pmf(j, n, mass) @ np.abs(j / n - mass)) for mass in q
    ) / 2  # fmt: skip
    histogram = Histogram(np.array([n, 0, 0, 0, 0]), q, 1 / q)
    assert total_variation_ideal(histogram) == pytest.approx(expected, rel=1e-9)
    assert distances(histogram).total_variation == pytest.approx(1 - q[0])
