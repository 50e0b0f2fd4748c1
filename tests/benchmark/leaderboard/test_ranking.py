"""Ranks against brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shapeshd.benchmark.leaderboard.ranking import places, ranks, significantly_different
from shapeshd.benchmark.leaderboard.row import leaderboard_row
from shapeshd.benchmark.report.tables import source_row
from shapeshd.benchmark.statistics.chi_square import divergence_statistic
from shapeshd.benchmark.statistics.histogram import read_histogram
from shapeshd.factors import NUM_BINS
from tests.support.simulated_results import simulated_result

MODELS = st.lists(
    st.tuples(st.floats(-1, 20) | st.just(math.inf), st.sampled_from([0.0, 0.05, 0.5, 3.0])),
    min_size=1,
    max_size=9,
)


def z_test(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The p-value of a pair, by SciPy's normal distribution."""
    if a[0] == b[0]:
        return 1.0
    error = math.hypot(a[1], b[1])
    return 2 * stats.norm.cdf(-abs(a[0] - b[0]) / error) if error else 0.0


def holm(models: list[tuple[float, float]], level: float) -> set[tuple[int, int]]:
    """Pairs that are significantly different, as Holm wrote it down: the smallest p-value first."""
    pairs = list(itertools.combinations(range(len(models)), 2))
    ordered = sorted(pairs, key=lambda pair: z_test(models[pair[0]], models[pair[1]]))
    apart: set[tuple[int, int]] = set()
    for left, (a, b) in zip(range(len(pairs), 0, -1), ordered, strict=True):
        if z_test(models[a], models[b]) > level / left:
            break
        apart |= {(a, b), (b, a)}
    return apart


@given(MODELS)
@settings(max_examples=150)
def test_pairs_and_ranks_against_holms_own_words(models: list[tuple[float, float]]) -> None:
    values, errors = zip(*models, strict=True)
    apart = significantly_different(values, errors)
    expected = holm(models, 0.05)
    assert {(int(a), int(b)) for a, b in np.argwhere(apart)} == expected
    found = ranks(values, apart)
    for row, value in enumerate(values):
        better = [b for b in range(len(values)) if values[b] < value and (row, b) in expected]
        assert found[row] == 1 + len(better)
    for a, b in expected:  # so those of equal rank are never significantly different
        assert (found[a] < found[b]) == (values[a] < values[b])
        assert found[a] != found[b]


def test_known_ranks() -> None:
    values, errors = [0.0, 0.01, 0.5, 0.5, math.inf, math.inf], [0.01] * 6
    apart = significantly_different(values, errors)
    assert ranks(values, apart) == [1, 1, 3, 3, 5, 5]
    assert not significantly_different([1.0], [0.1]).any()
    wide = significantly_different([0.0, 0.3, 1.0], [0.05, 2.0, 0.05])  # the middle one is anywhere
    assert wide[0, 2] and not wide[0, 1] and not wide[1, 2]
    assert ranks([0.0, 0.3, 1.0], wide) == [1, 1, 2]


def test_equally_good_models_are_rarely_split() -> None:
    """Of 150 tables of four models of one distribution, about 5% are split, ideal or not."""
    rng = np.random.default_rng(5)
    tilt = np.repeat([1.3, 1.1, 0.9, 0.7], NUM_BINS // 4) / NUM_BINS
    for distribution in (np.full(NUM_BINS, 1 / NUM_BINS), tilt):
        drawn = (read_histogram(rng.multinomial(20_000, distribution)) for _ in range(60))
        fits = [divergence_statistic(one.counts, one.weights).estimate() for one in drawn]
        values = np.array([fit.value for fit in fits])
        errors = np.array([fit.standard_error for fit in fits])
        tables = [rng.choice(60, 4, replace=False) for _ in range(150)]
        split = sum(significantly_different(values[rows], errors[rows]).any() for rows in tables)
        assert split <= stats.binom.ppf(0.9999, 150, 0.06)
        # z of pairs is standard normal: its variance is 1
        z = (values[::2] - values[1::2]) / np.hypot(errors[::2], errors[1::2])
        assert 0.5 < z.std() < 1.5


def test_what_lies_outside_of_the_distribution_comes_last_and_distributions_are_ranked_apart() -> (
    None
):
    distribution = {
        "text": "scale 1,0",
        "digest": "aa",
        "bins": 2,
        "probabilities": {},
        "measurement_error": None,
    }
    wrong = {"samples": 10, "bins": 1, "share": 0.1, "explained": 0.0, "surely": 0.05,
             "wrong": True}  # fmt: skip
    found = places(
        [
            simulated_result("unbiased"),
            simulated_result("everything"),
            simulated_result("unbiased", outside=wrong),
            simulated_result("everything", distribution=distribution),
            simulated_result("tilted", distribution=distribution),
        ]
    )
    assert [place.rank for place in found] == [1, 2, 3, 2, 1]
    assert [place.not_different_from for place in found] == [(), (), (), (), ()]
    assert leaderboard_row(simulated_result("unbiased", outside=wrong))["divergence"] == math.inf
    row = source_row(simulated_result("unbiased", outside=wrong))
    assert (row.divergence, row.interval) == ("infinite", "infinite")
