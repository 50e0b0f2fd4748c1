"""The statistic against SciPy, brute force over samples, all outcomes, and known answers."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shapeshd.benchmark.statistics.bin_counts import bin_counts
from shapeshd.benchmark.statistics.chi_square import (
    PROTOCOL,
    chi_square,
    chi_square_p_value,
    chi_square_variance,
    divergence_statistic,
    goodness_of_fit,
    rarity,
)
from shapeshd.benchmark.statistics.histogram import (
    min_samples,
    min_samples_under,
    read_histogram,
)
from shapeshd.benchmark.statistics.intervals import u_statistic
from shapeshd.benchmark.statistics.references import detection_limit, memorizer
from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, NUM_BINS
from tests.support.histograms import UNIFORM, Floats, distributions, draw, variance_of


def histograms(max_bins: int = 8, most: int = 40) -> st.SearchStrategy[Floats]:
    return st.lists(st.integers(0, most), min_size=2, max_size=max_bins).map(
        lambda counts: np.array([counts[0] + 4, *counts[1:]])
    )


def outcomes(n: int, p: Floats) -> Iterator[tuple[Floats, float]]:
    """Yield every histogram of n samples of p with its probability."""
    k = len(p)
    for bars in itertools.combinations(range(n + k - 1), k - 1):
        counts = np.diff([-1, *bars, n + k - 1]) - 1
        yield counts, float(stats.multinomial.pmf(counts, n, p))


# Exact references.


@given(counts=histograms(), data=st.data())
def test_chi_square_is_scipys(counts: Floats, data: st.DataObject) -> None:
    distribution = data.draw(distributions(len(counts)))
    n = counts.sum()
    histogram = read_histogram(counts, distribution)
    assert chi_square(histogram) == pytest.approx(
        stats.chisquare(counts, n * distribution).statistic, rel=1e-9, abs=1e-9
    )


@given(counts=histograms())
def test_p_value_is_scipys_for_the_uniform_distribution(counts: Floats) -> None:
    histogram = read_histogram(counts, bins=len(counts))
    expected = stats.chisquare(counts)
    x2 = chi_square(histogram)
    assert x2 == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert chi_square_p_value(x2, histogram) == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@given(counts=histograms(most=10**6))
def test_identity_of_chi_square_and_divergence(counts: Floats) -> None:
    n, k = int(counts.sum()), len(counts)
    histogram = read_histogram(counts, bins=k)
    estimate = divergence_statistic(histogram.counts, histogram.weights).value
    assert chi_square(histogram) == pytest.approx((n - 1) * estimate + (k - 1), rel=1e-9, abs=1e-6)


@given(counts=histograms(), data=st.data())
def test_identity_for_any_distribution(counts: Floats, data: st.DataObject) -> None:
    distribution = data.draw(distributions(len(counts)))
    n = int(counts.sum())
    estimate = divergence_statistic(counts, 1 / distribution).value
    expected = (n - 1) * estimate + (counts / distribution).sum() / n - 1
    assert chi_square(read_histogram(counts, distribution)) == pytest.approx(
        expected, rel=1e-9, abs=1e-9
    )


@settings(max_examples=15)
@given(p=distributions(3), q=distributions(3), n=st.integers(4, 9))
def test_estimate_and_variance_are_unbiased_over_all_outcomes(p: Floats, q: Floats, n: int) -> None:
    found = [(divergence_statistic(c, 1 / q), mass) for c, mass in outcomes(n, p)]
    mean = sum(mass * statistic.value for statistic, mass in found)
    variance = sum(mass * (statistic.value - mean) ** 2 for statistic, mass in found)
    assert mean == pytest.approx((p**2 / q).sum() - 1, abs=1e-9)
    expected = sum(mass * variance_of(statistic) for statistic, mass in found)
    assert expected == pytest.approx(variance, rel=1e-7, abs=1e-10)
    # Its ingredients: Var E[h | x], E h(x, x) - theta, and what is left of the variance.
    projected = p / q - 1
    zeta1 = (p * projected**2).sum() - (p @ projected) ** 2
    assert sum(mass * s.zeta1 for s, mass in found) == pytest.approx(zeta1, abs=1e-8)
    trace = (p / q).sum() - 1 - mean
    assert sum(mass * s.trace for s, mass in found) == pytest.approx(trace, abs=1e-8)
    tau = (variance - 4 * zeta1 / n) * n * (n - 1) / 2
    assert sum(mass * s.tau for s, mass in found) == pytest.approx(tau, abs=1e-7)


@settings(max_examples=25)
@given(samples=st.lists(st.integers(0, 3), min_size=4, max_size=7), seed=st.integers(0, 99))
def test_u_statistic_is_brute_force_over_tuples(samples: list[int], seed: int) -> None:
    """Any symmetric kernel: means over pairs, triples, quadruples of different samples."""
    half = np.random.default_rng(seed).normal(size=(4, 4))
    h = half + half.T
    counts = np.bincount(samples, minlength=4)
    squares = sum(h[x, y] ** 2 for x, y in itertools.permutations(samples, 2))
    found = u_statistic(counts, h @ counts, np.diag(h).copy(), squares)
    value = np.mean([h[x, y] for x, y in itertools.permutations(samples, 2)])
    triples = np.mean([h[x, y] * h[x, z] for x, y, z in itertools.permutations(samples, 3)])
    square = np.mean([h[a, b] * h[c, d] for a, b, c, d in itertools.permutations(samples, 4)])
    second = squares / (len(samples) * (len(samples) - 1))
    assert found.value == pytest.approx(value)
    assert found.zeta1 == pytest.approx(triples - square, abs=1e-9)
    assert found.tau == pytest.approx(second - square - 2 * (triples - square), abs=1e-9)


@settings(max_examples=15)
@given(q=distributions(3), n=st.integers(1, 9))
def test_the_variance_of_chi_square_is_exact_over_all_outcomes(q: Floats, n: int) -> None:
    found = [(chi_square(read_histogram(c, q)), mass) for c, mass in outcomes(n, q)]
    mean = sum(mass * x2 for x2, mass in found)
    variance = sum(mass * (x2 - mean) ** 2 for x2, mass in found)
    assert mean == pytest.approx(2, rel=1e-9)
    assert chi_square_variance(n, 3, rarity(1 / q)) == pytest.approx(variance, rel=1e-9)


def test_variance_is_the_formula_of_power_sums() -> None:
    """k^2 [4 (n - 2) (S3 - S2^2) + 2 (S2 - S2^2)] / (n (n - 1)) for the uniform distribution."""
    p = np.array([0.4, 0.3, 0.2, 0.1])
    k, n = 4, 6
    s2, s3 = (p**2).sum(), (p**3).sum()
    expected = k**2 * (4 * (n - 2) * (s3 - s2**2) + 2 * (s2 - s2**2)) / (n * (n - 1))
    found = sum(
        mass * variance_of(divergence_statistic(c, np.full(k, float(k))))
        for c, mass in outcomes(n, p)
    )
    assert found == pytest.approx(expected)


# Known answers.


def test_one_mode_dropped() -> None:
    """Without a fraction f of the bins D = f / (1 - f)."""
    p = np.ones(BIN_SHAPE)
    p[:, :, :, :, 2] = 0
    fit = goodness_of_fit(draw(200_000, (p / p.sum()).ravel(), 1))
    assert fit.divergence.low < 1 / 3 < fit.divergence.high
    assert fit.p_value < 1e-12


def test_memorised_training_set() -> None:
    images, n = 300_000, 200_000
    counts = draw(images, UNIFORM, 2)
    fit = goodness_of_fit(draw(n, counts / images, 3))
    true = NUM_BINS * ((counts / images) ** 2).sum() - 1
    assert fit.divergence.low < true < fit.divergence.high
    assert true == pytest.approx(memorizer(images).divergence, rel=0.02)


def test_prediction_from_few_samples_is_the_full_run() -> None:
    weights = np.exp(0.18 * np.random.default_rng(4).normal(size=NUM_BINS))
    p = weights / weights.sum()
    full = goodness_of_fit(draw(20 * NUM_BINS, p, 5))
    assert full.prediction.protocol == PROTOCOL == "chi2-20k"
    assert full.prediction.samples == 3_317_760
    predicted = full.prediction.reduced_chi_square
    assert predicted.value == pytest.approx(full.reduced_chi_square, rel=1e-9)
    assert full.reduced_chi_square == pytest.approx(1.66, abs=0.03)  # the paper's own model
    part = goodness_of_fit(draw(100_000, p, 6)).prediction.reduced_chi_square
    assert part.low < full.reduced_chi_square < part.high
    assert part.standard_error == pytest.approx(0.12, abs=0.02)


def test_everything_in_one_bin() -> None:
    counts = np.zeros(NUM_BINS, dtype=np.int64)
    counts[7] = 10**8
    fit = goodness_of_fit(counts)
    assert fit.divergence.value == pytest.approx(NUM_BINS - 1, rel=1e-12)
    assert fit.divergence.low == pytest.approx(NUM_BINS - 1, rel=1e-6)
    assert fit.chi_square == pytest.approx(1e8 * (NUM_BINS - 1))
    assert fit.p_value == 0
    assert fit.distances.kullback_leibler == pytest.approx(math.log(NUM_BINS), abs=1e-3)
    assert fit.distances.total_variation == pytest.approx(1 - 1 / NUM_BINS)


def test_perfectly_even_counts() -> None:
    """More even than chance: the raw estimate is negative, what is reported is not."""
    fit = goodness_of_fit(np.full(NUM_BINS, 3))
    assert fit.chi_square == 0
    assert fit.p_value == 1
    n = 3 * NUM_BINS
    assert fit.divergence.value == pytest.approx(-(NUM_BINS - 1) / (n - 1))
    assert fit.divergence.reported == fit.divergence.low == 0
    assert fit.divergence.high > 0  # the interval is never shorter than the noise
    assert fit.prediction.reduced_chi_square.reported == 1


# Rare bins, other distributions.


def test_rare_bins_take_more_samples() -> None:
    uniform = np.full(2_000, 1 / 2_000)
    assert min_samples_under(uniform) == min_samples(2_000) == min_samples_under(None, 2_000)
    q = np.where(np.arange(2_000) < 340, 1e-3, 1.0)
    q /= q.sum()
    needed = min_samples_under(q)
    assert needed == math.ceil(math.sqrt(2) * (1 / q).sum() / 2_000**1.5 / 2) > 4_000
    assert min_samples_under(np.append(q, 0.0)) == needed
    assert min_samples_under(np.array([1e-320, 1.0])) > 2**31
    with pytest.raises(UsageError, match=rf"rare.* {needed:,} "):
        goodness_of_fit(draw(needed - 1, q, 0), q)
    goodness_of_fit(draw(needed, q, 0), q)


def test_p_value_of_rare_bins_is_calibrated() -> None:
    """With many rare bins SciPy's chi-square would reject far too often."""
    rng = np.random.default_rng(10)
    q = np.concatenate([np.full(200, 1.0), np.full(600, 0.002)])
    q /= q.sum()
    values = []
    for _ in range(600):
        histogram = read_histogram(rng.multinomial(1_000, q), q)
        values.append(chi_square_p_value(chi_square(histogram), histogram))
    assert np.mean(np.array(values) < 0.05) < 0.085
    x2 = [chi_square(read_histogram(rng.multinomial(1_000, q), q)) for _ in range(600)]
    assert np.mean(stats.chi2.sf(x2, 799) < 0.05) > 0.12


def test_prediction_for_another_distribution() -> None:
    """The prediction, held against the mean of full runs."""
    rng = np.random.default_rng(11)
    k = 60
    q = rng.dirichlet(np.full(k, 3.0))
    p = q * np.exp(0.3 * rng.normal(size=k))
    p /= p.sum()
    runs = [chi_square(read_histogram(rng.multinomial(20 * k, p), q)) for _ in range(4_000)]
    true = np.mean(runs) / (k - 1)
    hits = 0
    for _ in range(200):
        predicted = goodness_of_fit(rng.multinomial(600, p), q).prediction.reduced_chi_square
        hits += predicted.low <= true <= predicted.high
    assert hits >= 0.91 * 200


# Invariances.


@given(counts=histograms(), data=st.data())
def test_order_of_bins_does_not_matter(counts: Floats, data: st.DataObject) -> None:
    distribution = data.draw(distributions(len(counts)))
    order = np.array(data.draw(st.permutations(range(len(counts)))))
    a = divergence_statistic(counts, 1 / distribution).estimate()
    b = divergence_statistic(counts[order], 1 / distribution[order]).estimate()
    assert a.to_json() == pytest.approx(b.to_json(), rel=1e-6, abs=1e-9)


def test_bins_of_probability_zero_drop_out() -> None:
    q = np.array([0.2, 0.3, 0.5])
    counts = np.array([300, 200, 500])
    wide = goodness_of_fit(np.insert(counts, 1, 0), np.insert(q, 1, 0.0))
    assert wide == goodness_of_fit(counts, q)
    assert wide.bins == 3


def test_merging_bins_of_equal_ratio_keeps_the_divergence() -> None:
    """D sees p / q alone: bins of one ratio can be merged (sufficiency)."""
    p, q = np.array([0.1, 0.2, 0.7]), np.array([0.2, 0.4, 0.4])
    assert (p**2 / q).sum() == pytest.approx((0.3**2 / 0.6) + 0.7**2 / 0.4)
    counts = draw(100_000, p, 12)
    fine = goodness_of_fit(counts, q).divergence
    coarse = goodness_of_fit([counts[0] + counts[1], counts[2]], [0.6, 0.4]).divergence
    assert fine.value == pytest.approx(coarse.value, abs=2e-4)
    assert fine.standard_error == pytest.approx(coarse.standard_error, rel=0.01)


def test_a_table_is_its_flat_histogram() -> None:
    counts = draw(20_000, UNIFORM, 13)
    assert goodness_of_fit(counts.reshape(BIN_SHAPE)) == goodness_of_fit(counts)
    assert goodness_of_fit(counts, UNIFORM.reshape(BIN_SHAPE)).divergence.value == pytest.approx(
        goodness_of_fit(counts).divergence.value
    )


# Refusals.


def test_min_samples() -> None:
    assert min_samples() == 5_761
    for k in (2, 12, 5_000):
        n = min_samples(k)
        assert math.sqrt(2 * (k - 1) / (n * (n - 1))) <= 0.1
        assert n == 4 or math.sqrt(2 * (k - 1) / ((n - 1) * (n - 2))) > 0.1


def test_too_few_samples_are_refused_saying_how_many_it_takes() -> None:
    with pytest.raises(UsageError, match=r"400 samples .* 5,761"):
        goodness_of_fit(draw(400, UNIFORM, 0))
    goodness_of_fit(draw(5_761, UNIFORM, 0))


@pytest.mark.parametrize(
    ("counts", "distribution", "message"),
    [
        ([1, -2, 3], [0.2, 0.3, 0.5], "bin 1 holds -2"),
        ([1, 2], [0.2, 0.3, 0.5], "2 bins, .* 3"),
        ([1, 2, 3], None, "3 bins, .* 165,888"),
        ([0, 0, 0], [0.2, 0.3, 0.5], "holds no sample"),
        ([1.0, 2.0, 3.0], [0.2, 0.3, 0.5], "counts must be integers.* float64"),
        ([True, False, True], [0.2, 0.3, 0.5], "counts must be integers.* bool"),
        (["a", "b"], [0.5, 0.5], "counts must be integers"),
        ([[1], [2, 3]], [0.5, 0.5], "counts must be numbers"),
        ([], [], "counts are missing"),
        ([2**62, 2**62, 2**62], [0.2, 0.3, 0.5], "more than 2,147,483,648"),
        ([5, 4, 3], [0.5, 0.0, 0.5], "bin 1 holds 4 .*probability"),
        ([5, 0, 0], [1.0, 0.0, 0.0], "everything into one bin"),
        ([5, 4, 3], [0.2, 0.3, 0.6], "sum up to 1.1"),
        ([5, 4, 3], [-0.2, 0.6, 0.6], "bin 0 .*-0.2"),
        ([5, 4, 3], [np.nan, 0.5, 0.5], "bin 0 .*nan"),
        ([5, 4, 3], [np.inf, 0.5, 0.5], "bin 0 .*inf"),
        ([5, 4, 3], ["a", "b", "c"], "probabilities must be numbers"),
        ([5, 4, 3], [0.2, 0.3, 0.5], "12 samples are too few .*21"),
    ],
)
def test_what_means_nothing_is_refused(counts: object, distribution: object, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        goodness_of_fit(counts, distribution)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: memorizer(0),
        lambda: detection_limit(1),
        lambda: detection_limit(100, level=0.0),
        lambda: detection_limit(100, power=1.0),
        lambda: detection_limit(100, margin=-0.1),
        lambda: bin_counts([30, 30], bins=2, length=0),
        lambda: divergence_statistic(np.array([1, 2]), np.array([2.0, 2.0])),
        lambda: read_histogram([5], bins=1),
    ],
)
def test_arguments_out_of_range_are_refused(call: object) -> None:
    with pytest.raises(UsageError):
        call()  # type: ignore[operator]


def test_results_are_json() -> None:
    counts = draw(20_000, UNIFORM, 23)
    fit = goodness_of_fit(counts)
    assert json.loads(json.dumps(fit.to_json(), allow_nan=False))
    assert fit.to_json()["divergence"]["reported"] == fit.divergence.reported
    assert fit.to_json()["expected_per_bin"] == fit.expected_per_bin == 20_000 / NUM_BINS
