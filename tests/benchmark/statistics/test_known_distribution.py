"""The test of a histogram against a known distribution, beside SciPy's and simulations."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from shapeshd.benchmark.statistics.chi_square import (
    chi_square,
    divergence_statistic,
    goodness_of_fit,
    predict,
)
from shapeshd.benchmark.statistics.histogram import read_histogram
from shapeshd.benchmark.statistics.measurement_error import (
    MeasurementError,
    Outside,
    split_outside,
)
from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, NAMES
from tests.experiments.truth.known_distributions import DISTRIBUTIONS, faults, with_fault
from tests.support.drawn import no_spheres
from tests.support.simulated_results import (
    accuracy,
)


def perfect_confusions() -> dict[str, Any]:
    return {name: np.eye(bins) * 50 for name, bins in zip(NAMES, BIN_SHAPE, strict=True)}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_chi_square_is_scipys(name: str) -> None:
    distribution = DISTRIBUTIONS[name]()
    q = distribution.expected()
    counts = np.random.default_rng(0).multinomial(
        400_000, with_fault(distribution, faults(distribution)[1])
    )
    fit = goodness_of_fit(counts, q)
    possible = q > 0
    expected = stats.chisquare(counts[possible], 400_000 * q[possible])
    assert fit.chi_square == pytest.approx(expected.statistic, rel=1e-9)
    assert fit.bins == distribution.bins == possible.sum()
    assert fit.degrees_of_freedom == distribution.bins - 1
    n, d = fit.samples, fit.divergence.value
    inverse = (counts[possible] / q[possible]).sum() / n
    assert fit.chi_square == pytest.approx((n - 1) * d + inverse - 1)


def test_the_p_value_is_scipys_where_no_bin_is_rare() -> None:
    q = no_spheres().marginal("shape", "scale").ravel()
    counts = np.random.default_rng(1).multinomial(5_000, q)
    fit = goodness_of_fit(counts, q)
    found = stats.chisquare(counts[q > 0], 5_000 * q[q > 0])
    assert fit.p_value == pytest.approx(found.pvalue, rel=0.02)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_reduced_chi_square_of_an_ideal_sampler_is_1(name: str) -> None:
    distribution, rng = DISTRIBUTIONS[name](), np.random.default_rng(2)
    q = distribution.expected()
    histograms = [read_histogram(counts, q) for counts in rng.multinomial(8_000, q, 40)]
    reduced = np.array([chi_square(one) / (distribution.bins - 1) for one in histograms])
    estimates = [divergence_statistic(h.counts, h.weights).estimate() for h in histograms]
    predictions = [predict(*pair) for pair in zip(histograms, estimates, strict=True)]
    predicted = np.array([found.reduced_chi_square.value for found in predictions])
    for values in (reduced, predicted):
        assert abs(values.mean() - 1) < 4 * values.std() / math.sqrt(len(values))
    # One run at 20 per bin scatters as X^2 does: its exact variance, not that of the uniform
    # distribution.
    m, k = 20 * distribution.bins, distribution.bins
    spread = (2 * (k - 1) + ((1 / q[q > 0]).sum() - k**2 - 2 * k + 2) / m) / (k - 1) ** 2
    assert predictions[0].run_deviation == pytest.approx(math.sqrt(spread), rel=1e-9)


def test_the_fewest_samples_scatter_alike_under_every_distribution() -> None:
    """Var D_hat is 2 (k - 1) / (n (n - 1)), whatever the distribution: the rule counts bins."""
    q = np.array([0.4, 0.3, 0.2, 0.05, 0.05])
    rng = np.random.default_rng(3)
    counts = rng.multinomial(50, q, 40_000)
    found = (counts * (counts - 1) / q).sum(1) / (50 * 49) - 1
    assert found.mean() == pytest.approx(0, abs=4 * found.std() / 200)
    assert found.var() == pytest.approx(2 * 4 / (50 * 49), rel=0.05)


def test_what_lies_outside_is_counted_and_left_out() -> None:
    distribution = no_spheres()
    counts = np.random.default_rng(4).multinomial(9_000, distribution.expected())
    clean, none = split_outside(counts, distribution)
    np.testing.assert_array_equal(clean, counts)
    assert (none.samples, none.share, none.surely, none.wrong) == (0, 0.0, 0.0, False)
    dirty = counts.copy()
    for place, extra in zip(
        np.flatnonzero(distribution.expected() == 0)[[7, 900]], (5, 7), strict=True
    ):
        dirty[place] += extra
    clean, some = split_outside(dirty, distribution)
    np.testing.assert_array_equal(clean, counts)
    assert (some.samples, some.bins, some.share) == (12, 2, 12 / 9_012)
    low = stats.binomtest(12, 9_012).proportion_ci(0.95, "exact").low
    assert some.surely == pytest.approx(low)
    assert some.wrong  # nothing explains them
    assert not Outside(12, 2, 12 / 9_012, explained=0.001, surely=low).wrong
    with pytest.raises(UsageError, match=r"probability .*is 0"):
        goodness_of_fit(dirty, distribution.expected())


def test_a_share_known_from_few_images_is_bounded() -> None:
    """10,000 held-out images without an error allow one sample in a million, and not one in 500."""
    distribution = no_spheres()
    confusions = {
        name: np.eye(bins) * 10_000 / bins for name, bins in zip(NAMES, BIN_SHAPE, strict=True)
    }
    read = MeasurementError.of(distribution, confusions)
    least = 2_500 / distribution.marginal("shape").max()
    assert read.images == pytest.approx(min(least, 10_000))
    assert read.outside == 0
    assert read.outside_at_most == pytest.approx(1 - 0.025 ** (1 / read.images), rel=1e-6)
    rng, n = np.random.default_rng(4), 1_000_000
    for stray, wrong in ((1, False), (300, False), (2_000, True)):
        counts = rng.multinomial(n - stray, distribution.expected())
        counts[np.flatnonzero(distribution.expected() == 0)[0]] += stray
        found = split_outside(counts, distribution, read)[1]
        assert (found.samples, found.wrong) == (stray, wrong)
    assert split_outside(counts, distribution)[1].explained_at_most == 0


def test_a_misread_distribution_is_that_of_misread_images() -> None:
    """The factors of many images, each moved by the confusions at random, fill the same bins."""
    distribution, found = no_spheres(), json.loads(json.dumps(accuracy()))
    found["factors"]["shape"]["confusion"] = [
        [90, 5, 5, 0],
        [0, 95, 5, 0],
        [0, 0, 9, 0],
        [0, 9, 0, 91],
    ]
    confusions = {name: found["factors"][name]["confusion"] for name in NAMES}
    measurement_error = MeasurementError.of(distribution, confusions)
    assert math.fsum(measurement_error.read) == pytest.approx(1)
    assert measurement_error.outside == pytest.approx(0.25 * 0.05 + 0.5 * 0.05)
    shape = distribution.marginal("shape") @ np.array([[0.9, 0.05, 0.05, 0], [0, 0.95, 0.05, 0],
                                              [0, 0, 1, 0], [0, 0.09, 0, 0.91]])  # fmt: skip
    inside = shape[[0, 1, 3]] / shape[[0, 1, 3]].sum()
    expected = (inside**2 / [0.25, 0.5, 0.25]).sum() - 1
    assert measurement_error.divergence("shape") == pytest.approx(expected)
    assert measurement_error.divergence() >= measurement_error.divergence("shape")
    perfect = MeasurementError.of(distribution, perfect_confusions())
    assert (perfect.outside, perfect.divergence()) == (0.0, pytest.approx(0, abs=1e-9))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_prediction_holds_what_the_protocol_gives(name: str) -> None:
    """Of an ideal sampler that is 1, though the weights make its offset uncertain."""
    distribution, rng = DISTRIBUTIONS[name](), np.random.default_rng(6)
    q, held = distribution.expected(), 0
    for counts in rng.multinomial(8_000, q, 40):
        histogram = read_histogram(counts, q)
        divergence = divergence_statistic(histogram.counts, histogram.weights).estimate()
        predicted = predict(histogram, divergence).reduced_chi_square
        assert predicted.floor <= predicted.low <= predicted.high
        assert predicted.floor <= 1
        held += predicted.low <= 1 <= predicted.high
    assert held >= 35
