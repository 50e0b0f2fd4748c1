"""The interval of the divergence: how often it holds the truth, and what else it must be."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from shapeshd.benchmark.statistics.chi_square import divergence_statistic
from shapeshd.benchmark.statistics.decomposition import HIGHER_ORDER, decompose
from shapeshd.benchmark.statistics.histogram import min_samples
from shapeshd.benchmark.statistics.intervals import Estimate
from shapeshd.factors import NUM_BINS
from tests.support.histograms import variance_of

from .test_chi_square import Floats, distributions, draw, histograms


def test_interval_of_one_factor_is_the_noncentral_chi_squares() -> None:
    """Near the null n D_hat + k - 1 is a noncentral chi-square variable of mean n D + k - 1."""
    n, k = 50_000, 12
    tilt = 1 + 0.05 * np.cos(2 * np.pi * np.arange(k) / k)
    counts = draw(n, tilt / k, 8)
    statistic = divergence_statistic(counts, np.full(k, float(k)))
    x2 = n * statistic.value + k - 1

    def end(probability: float) -> float:
        return float(
            optimize.brentq(
                lambda size: stats.ncx2.cdf(x2, k - 1, size) - probability, 1e-9, 500
            )
        ) / n  # fmt: skip

    estimate = statistic.estimate()
    assert estimate.low == pytest.approx(end(0.975), rel=0.05)
    assert estimate.high == pytest.approx(end(0.025), rel=0.05)
    assert statistic.p_value() == pytest.approx(stats.chi2.sf(x2, k - 1), rel=0.05)


@pytest.mark.parametrize("samples_in_spike", [10, 14, 40])
@pytest.mark.parametrize("n", [632, 2_000])
def test_interval_covers_a_spike(n: int, samples_in_spike: int) -> None:
    """Much mass in one bin: the variance grows with the supposed divergence.

    2,000 bins with 632 samples are as 165,888 with 5,761: 14 sqrt(k).
    """
    rng = np.random.default_rng([n, samples_in_spike])
    k, mass, runs = 2_000, samples_in_spike / n, 400
    p = np.full(k, (1 - mass) / k)
    p[0] += mass
    true = k * (p**2).sum() - 1
    found = [
        divergence_statistic(rng.multinomial(n, p), np.full(k, float(k))).estimate()
        for _ in range(runs)
    ]
    assert sum(one.low <= true <= one.high for one in found) >= 0.92 * runs


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize(("n", "moved"), [(2_000, 0.01), (2_000, 0.03), (10_000, 0.003)])
def test_interval_covers_mass_in_rare_bins(n: int, moved: float, uneven: bool) -> None:
    """A sixth of the bins is 1,000 times as rare, and holds too much: few samples collide there."""
    rng = np.random.default_rng([n, int(1_000 * moved), uneven])
    k, rare, runs = 2_000, 340, 250
    q = np.where(np.arange(k) < rare, 1e-3, 1.0)
    q /= q.sum()
    hits = 0
    for _ in range(runs):
        p = q * (1 - moved)
        p[:rare] += moved * (rng.dirichlet(np.ones(rare)) if uneven else np.full(rare, 1 / rare))
        estimate = divergence_statistic(rng.multinomial(n, p), 1 / q).estimate()
        hits += estimate.low <= (p**2 / q).sum() - 1 <= estimate.high
    assert hits >= 0.92 * runs


@pytest.mark.parametrize("strength", [0.0, 0.15, 0.6])
def test_interval_covers_sources_of_known_divergence(strength: float) -> None:
    rng = np.random.default_rng(9)
    k, n, hits, z = 800, 2_000, 0, []
    for _ in range(300):
        weights = np.exp(strength * rng.normal(size=k))
        p = weights / weights.sum()
        true = k * (p**2).sum() - 1
        statistic = divergence_statistic(rng.multinomial(n, p), np.full(k, float(k)))
        estimate = statistic.estimate()
        hits += estimate.low - 1e-12 <= true <= estimate.high
        z.append((estimate.value - true) / estimate.standard_error)
    assert hits >= 0.925 * 300
    assert abs(np.mean(z)) < 0.25
    assert 0.85 < np.std(z) < 1.15


@settings(max_examples=60)
@given(counts=histograms(most=200), data=st.data())
def test_interval_is_sane(counts: Floats, data: st.DataObject) -> None:
    distribution = data.draw(distributions(len(counts)))
    statistic = divergence_statistic(counts, 1 / distribution)
    estimate = statistic.estimate()
    assert 0 <= estimate.low <= estimate.high
    assert estimate.low <= estimate.reported + 1e-9
    assert estimate.high >= estimate.reported - 1e-9
    assert estimate.standard_error >= 0
    assert 0 <= statistic.p_value() <= 1
    assert math.isfinite(estimate.high)


def test_more_samples_narrow_the_interval() -> None:
    p = np.arange(1, 101) / 5050
    widths = []
    for n in (1_000, 10_000, 100_000):
        estimate = divergence_statistic(draw(n, p, 1), np.full(100, 100.0)).estimate()
        widths.append(estimate.high - estimate.low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


@pytest.mark.parametrize("n", [20_000, 100_000])
def test_chosen_images_of_which_no_two_share_a_bin_have_the_noise_of_an_ideal_source(
    n: int,
) -> None:
    """They leave no collision to estimate it from; its own would be 0."""
    counts = np.zeros(NUM_BINS, np.int64)
    counts[np.random.default_rng(10).permutation(NUM_BINS)[:n]] = 1
    found = decompose(counts)
    ideal = stats.chi2(NUM_BINS - 1)  # of n D + k - 1, at D = 0
    for estimate in (found.total, found.part(HIGHER_ORDER).delta):
        assert estimate.low == 0
        assert estimate.standard_error == pytest.approx(ideal.std() / n, rel=0.06)
        assert estimate.high == pytest.approx((ideal.isf(0.025) - ideal.mean()) / n, rel=0.06)


def test_an_ordinary_source_keeps_its_own_noise() -> None:
    """Also with the fewest samples chance leaves more than half of that under the distribution."""
    rng = np.random.default_rng(11)
    for k, runs in ((4, 500), (144, 500), (20_000, 50)):
        n = min_samples(k)
        for counts in rng.multinomial(n, np.full(k, 1 / k), runs):
            statistic = divergence_statistic(counts, np.full(k, float(k)))
            if statistic.value < 0:
                own = replace(statistic, zeta1=max(statistic.zeta1, 0.0))
                error = math.sqrt(variance_of(own))
                assert statistic.estimate().standard_error == pytest.approx(error)


@pytest.mark.parametrize("n", [1_000, 5_761, 6_000, 20_000, 100_000])
def test_no_interval_exceeds_what_is_possible(n: int) -> None:
    counts = np.zeros(NUM_BINS, np.int64)
    counts[7] = n
    estimate = divergence_statistic(counts, np.full(NUM_BINS, float(NUM_BINS))).estimate()
    assert estimate.high == NUM_BINS - 1
    # Clopper and Pearson: the bin's share is at least 2.5%^(1/n).
    assert estimate.low == pytest.approx((NUM_BINS - 1) * 0.025 ** (2 / n), rel=2e-3)


def test_scaled_estimate() -> None:
    estimate = Estimate(0.5, 0.1, 0.3, 0.7)
    assert estimate.scaled(2, 1) == Estimate(2.0, 0.2, 1.6, 2.4, 1.0)
    wider = estimate.scaled(2, 1, 0.3)
    assert wider.low < 1.6 < 2.4 < wider.high
    assert wider.standard_error == pytest.approx(math.hypot(0.2, 0.3))
