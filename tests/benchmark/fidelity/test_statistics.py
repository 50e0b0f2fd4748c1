"""Statistics of image fidelity against SciPy, brute force, closed forms and torch-fidelity."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from shapeshd.benchmark.fidelity import neighbours
from shapeshd.benchmark.fidelity.compare_features import (
    MIN_IMAGES,
    compare_features,
    inception_score,
    theoretical,
)
from shapeshd.benchmark.fidelity.frechet import frechet_between, frechet_distance
from shapeshd.benchmark.fidelity.intervals import groups_of, jackknife
from shapeshd.benchmark.fidelity.kernel import kernel_distance
from shapeshd.benchmark.fidelity.neighbours import neighbour_values, wilson_interval
from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray

NAMES = ("fid", "kid", "precision", "recall", "density", "coverage")


def normal(count: int, dimension: int, seed: int, scale: float = 1.0) -> FloatArray:
    return scale * np.random.default_rng(seed).normal(size=(count, dimension))


def covariance(dimension: int, rank: int, seed: int) -> FloatArray:
    root = normal(dimension, rank, seed)
    return root @ root.T / rank


# Frechet distance


@pytest.mark.parametrize("seed", range(3))
def test_frechet_is_that_of_a_matrix_square_root(seed: int) -> None:
    first, second = covariance(12, 30, seed), covariance(12, 30, seed + 10)
    means = normal(2, 12, seed)
    root = linalg.sqrtm(first @ second)
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(first + second - 2 * root).real
    assert frechet_between(means[0], first, means[1], second) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_covariances_that_commute_has_a_closed_form() -> None:
    first, second = np.array([4.0, 1.0, 0.0, 9.0]), np.array([1.0, 1.0, 0.25, 0.0])
    basis = linalg.qr(normal(4, 4, 0))[0]
    means = np.array([[1.0, 2, 3, 4], [0.0, 2, 3, 6]])
    expected = 5.0 + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    found = frechet_between(means[0], basis * first @ basis.T, means[1], basis * second @ basis.T)
    assert found == pytest.approx(expected, rel=1e-9)


def test_frechet_of_covariances_without_full_rank() -> None:
    # tr (S1 S2)^(1/2) is the nuclear norm of X1 X2^T for S = X^T X: an SVD, no covariance.
    first, second = normal(10, 40, 1), normal(7, 40, 2)
    cross = linalg.svdvals(first @ second.T).sum()
    expected = (first**2).sum() + (second**2).sum() - 2 * cross
    zero = np.zeros(40)
    found = frechet_between(zero, first.T @ first, zero, second.T @ second)
    assert found == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("count", [100, 400])
def test_frechet_of_a_set_with_itself_is_zero(count: int) -> None:
    """The spectrum falls over twelve orders of magnitude, as that of real features does."""
    spectrum = np.logspace(3, -9, 200)
    features = normal(count, 200, 3) * np.sqrt(spectrum) @ linalg.qr(normal(200, 200, 4))[0]
    found = frechet_distance(features, features.copy()).distance.value
    assert found <= 1e-12 * spectrum.sum()


def test_frechet_is_torch_fidelitys() -> None:
    metric = pytest.importorskip("torch_fidelity.metric_fid")
    first, second = normal(300, 8, 1), 1.5 * normal(200, 8, 2) + 0.3
    sums = [metric.fid_features_to_statistics(torch.from_numpy(x)) for x in (first, second)]
    expected = metric.fid_statistics_to_metric(*sums, False)["frechet_inception_distance"]
    assert frechet_distance(first, second).distance.value == pytest.approx(expected, rel=1e-9)


def test_frechet_does_not_lose_digits_far_from_zero() -> None:
    first, second = normal(200, 5, 1), normal(200, 5, 2)
    near = frechet_distance(first, second).distance
    far = frechet_distance(first + 1e5, second + 1e5).distance
    assert far.value == pytest.approx(near.value, rel=1e-6)
    assert far.high == pytest.approx(near.high, rel=1e-5)


def test_bias_of_frechet_is_taken_away_and_the_intervals_hold() -> None:
    """40 pairs of sets of known distributions: the mean of all values, and the true distance."""
    wide = 1.3
    truth = 20 * 0.3**2
    found = [frechet_distance(normal(300, 20, i, wide), normal(300, 20, 1000 + i), i)
             for i in range(40)]  # fmt: skip
    values = np.array([one.distance.value for one in found])
    extrapolated = np.array([one.infinity.value for one in found if one.infinity])
    assert values.mean() > truth + 0.3
    assert abs(extrapolated.mean() - truth) < 4 * extrapolated.std() / math.sqrt(40)
    mean = values.mean()
    assert sum(one.distance.low <= mean <= one.distance.high for one in found) >= 35
    assert (
        sum(one.infinity.low <= truth <= one.infinity.high for one in found if one.infinity) >= 35
    )


def test_too_few_images_have_no_extrapolation() -> None:
    assert frechet_distance(normal(100, 51, 0), normal(200, 51, 1)).infinity is None
    assert frechet_distance(normal(100, 50, 0), normal(200, 50, 1)).infinity is not None


# Kernel distance


def brute_kernel(first: FloatArray, second: FloatArray) -> float:
    def k(x: FloatArray, y: FloatArray) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n, m = len(first), len(second)
    own1 = sum(k(first[i], first[j]) for i in range(n) for j in range(n) if i != j)
    own2 = sum(k(second[i], second[j]) for i in range(m) for j in range(m) if i != j)
    cross = sum(k(x, y) for x in first for y in second)
    return own1 / (n * (n - 1)) + own2 / (m * (m - 1)) - 2 * cross / (n * m)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (45, 60)])
def test_kernel_distance_by_a_double_loop(n: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shapeshd.benchmark.fidelity.kernel._CELLS", 17 * m)
    first, second = normal(n, 6, 1), normal(m, 6, 2) + 0.4
    found = kernel_distance(first, second)
    assert found.value == pytest.approx(brute_kernel(first, second), rel=1e-9)
    parts = groups_of(n, 0), groups_of(m, 1)
    left_out = [brute_kernel(first[parts[0] != g], second[parts[1] != g]) for g in range(20)]
    assert found.high == pytest.approx(jackknife(found.value, left_out).high, rel=1e-9)


def test_kernel_distance_is_torch_fidelitys() -> None:
    metric = pytest.importorskip("torch_fidelity.metric_kid")
    first, second = normal(150, 9, 3), normal(150, 9, 4) * 1.2
    told = metric.kid_features_to_metric(
        torch.from_numpy(first), torch.from_numpy(second),
        kid_subsets=1, kid_subset_size=150, verbose=False,
    )  # fmt: skip
    expected = told["kernel_inception_distance_mean"]
    assert kernel_distance(first, second).value == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_of_equal_distributions_is_zero_in_the_mean_and_in_the_interval() -> None:
    found = [kernel_distance(normal(150, 8, i), normal(150, 8, 500 + i), i) for i in range(60)]
    values = np.array([one.value for one in found])
    assert (values < 0).any()
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(60)
    assert sum(one.low <= 0 <= one.high for one in found) >= 54


# Nearest neighbours


def brute_neighbours(generated: FloatArray, real: FloatArray) -> dict[str, float]:
    def radius(points: FloatArray, i: int, k: int) -> float:
        return sorted(math.dist(points[i], points[j]) for j in range(len(points)) if j != i)[k - 1]

    real3 = [radius(real, i, 3) for i in range(len(real))]
    real5 = [radius(real, i, 5) for i in range(len(real))]
    made3 = [radius(generated, i, 3) for i in range(len(generated))]
    inside3 = [[math.dist(y, x) <= r for x, r in zip(real, real3, strict=True)] for y in generated]
    inside5 = [[math.dist(y, x) <= r for x, r in zip(real, real5, strict=True)] for y in generated]
    recalled = [[math.dist(x, y) <= r for y, r in zip(generated, made3, strict=True)] for x in real]
    return {
        "precision": float(np.mean([any(row) for row in inside3])),
        "recall": float(np.mean([any(row) for row in recalled])),
        "density": float(np.sum(inside5)) / (5 * len(generated)),
        "coverage": float(np.mean(np.any(inside5, axis=0))),
    }


@settings(max_examples=30)
@given(
    n=st.integers(6, 25),
    m=st.integers(6, 25),
    levels=st.sampled_from([1, 2, 4, 1000]),
    shift=st.sampled_from([0.0, 0.5, 3.0]),
    seed=st.integers(0, 10_000),
)
def test_neighbours_by_loops_also_with_copies(
    n: int, m: int, levels: int, shift: float, seed: int
) -> None:
    """With few levels many points are equal, and many distances."""
    rng = np.random.default_rng(seed)
    generated = rng.integers(0, levels, (n, 3)) + shift
    real = rng.integers(0, levels, (m, 3)).astype(float)
    assert neighbour_values(generated, real) == pytest.approx(brute_neighbours(generated, real))


def test_rows_of_distances_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generated, real = normal(90, 4, 1), normal(80, 4, 2)
    whole = neighbour_values(generated, real)
    monkeypatch.setattr(neighbours, "_CELLS", 13 * 80)
    assert neighbour_values(generated, real) == whole


def test_precision_and_recall_are_torch_fidelitys() -> None:
    metric = pytest.importorskip("torch_fidelity.metric_prc")
    generated, real = 1.3 * normal(200, 6, 5) + 0.3, normal(250, 6, 6)
    told = metric.calculate_precision_recall_full(
        torch.from_numpy(generated), torch.from_numpy(real)
    )
    found = neighbour_values(generated, real)
    assert 0 < found["precision"] < 1
    assert (found["precision"], found["recall"]) == pytest.approx(told)


@pytest.mark.parametrize("offset", [0.0, 3e3])
def test_copies_far_from_zero_are_at_no_distance(offset: float) -> None:
    """A set of one image, and the same again: the balls have no radius, yet hold each other."""
    same = np.repeat(normal(1, 50, 0), 100, axis=0) + offset
    values = neighbour_values(same, same)
    assert (values["precision"], values["recall"], values["coverage"]) == (1, 1, 1)
    other = neighbour_values(same + 1.0, same)
    assert set(other.values()) == {0.0}


def test_density_of_a_perfect_generator_is_one() -> None:
    found = [neighbour_values(normal(200, 5, i), normal(200, 5, 100 + i)) for i in range(30)]
    density = np.array([values["density"] for values in found])
    assert abs(density.mean() - 1) < 4 * density.std() / math.sqrt(30)


def test_a_share_has_wilsons_interval_and_a_width_at_its_ends() -> None:
    z = 1.959964
    for good in (0, 30, 100):
        found = wilson_interval(good / 100, 0.0, 100)
        for end in {found.low, found.high} - {0.0, 1.0}:  # where a normal test is at its 5%
            assert abs(good / 100 - end) == pytest.approx(z * math.sqrt(end * (1 - end) / 100))
    assert (wilson_interval(0, 0, 100).low, wilson_interval(1, 0, 100).high) == (0, 1)
    assert wilson_interval(0.3, 0.2, 100).high > wilson_interval(0.3, 0.0, 100).high


# All of them


def test_the_intervals_of_neighbours_hold_about_as_often_as_they_say() -> None:
    """40 pairs of sets; the mean of all values stands for the expectation."""
    pairs = [(1.2 * normal(200, 5, i), normal(200, 5, 900 + i)) for i in range(40)]
    found = [neighbours.neighbour_statistics(*pair, seed=i) for i, pair in enumerate(pairs)]
    for name in ("precision", "recall", "density", "coverage"):
        mean = float(np.mean([one[name].value for one in found]))
        assert sum(one[name].low <= mean <= one[name].high for one in found) >= 34, name


def test_equal_sets_are_perfect() -> None:
    features = normal(150, 6, 0)
    found = compare_features(features, features)
    assert found["fid"]["value"] == pytest.approx(0, abs=1e-9)
    assert found["fid"]["low"] == 0
    assert found["kid"]["value"] <= 0
    assert [found[name]["value"] for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert found["density"]["value"] == pytest.approx(1.2)  # 1 + 1/k: see the module
    assert found["precision"]["low"] < 1


def test_what_is_wrong_shows_in_the_statistic_that_is_made_for_it() -> None:
    """Two modes: one dropped, both collapsed to points, spread too far."""
    real = np.concatenate((normal(150, 5, 1), normal(150, 5, 2) + 8))
    again = np.concatenate((normal(150, 5, 3), normal(150, 5, 4) + 8))
    ideal = compare_features(again, real)
    dropped = compare_features(normal(300, 5, 5), real)
    assert dropped["precision"]["high"] > ideal["precision"]["low"]
    assert dropped["recall"]["high"] < 0.62 < ideal["recall"]["low"]
    assert dropped["coverage"]["high"] < 0.62 < ideal["coverage"]["low"]
    copies = compare_features(np.repeat(real[:5], 60, axis=0), real)
    assert copies["precision"]["value"] == 1
    assert copies["recall"]["high"] < 0.1
    assert copies["coverage"]["high"] < 0.3
    spread = compare_features(3 * again, real)
    assert spread["precision"]["high"] < ideal["precision"]["low"]
    assert spread["density"]["high"] < ideal["density"]["low"]
    for wrong in (dropped, copies, spread):
        assert wrong["fid"]["low"] > ideal["fid"]["high"]
        assert wrong["kid"]["low"] > 0


def test_theoretical_is_one_half_against_the_other() -> None:
    real = normal(401, 6, 0)
    assert theoretical(real, seed=3) == compare_features(real[:200], real[200:400], seed=3)


def test_the_result_is_json_and_the_seed_moves_no_value() -> None:
    features = normal(120, 4, 0).astype(np.float32), normal(130, 4, 1).astype(np.float32)
    first, second = compare_features(*features), compare_features(*features, seed=7)
    assert json.loads(json.dumps(first)) == first
    assert first == compare_features(*features)
    assert (first["generated"], first["real"]) == (120, 130)
    assert 0 <= first["fid_infinity"]["low"] < first["fid_infinity"]["high"]
    for name in NAMES:
        assert first[name]["low"] <= first[name]["value"] <= first[name]["high"]
        assert first[name]["value"] == pytest.approx(second[name]["value"], rel=1e-6)
        assert first[name]["low"] != second[name]["low"]


@pytest.mark.parametrize(
    ("generated", "real", "message"),
    [
        (np.zeros((MIN_IMAGES - 1, 3)), np.zeros((200, 3)), "99 generated images"),
        (np.zeros((200, 3)), np.zeros((5, 3)), "5 real images"),
        (np.zeros((200, 3)), np.zeros((200, 4)), "3 features and real ones 4"),
        (np.zeros(200), np.zeros((200, 4)), "must be of shape"),
        (np.full((200, 4), np.nan), np.zeros((200, 4)), "NaN or infinity"),
        (np.zeros((200, 4)), np.full((200, 4), np.inf), "NaN or infinity"),
    ],
)
def test_what_cannot_be_compared(generated: Any, real: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare_features(generated, real)


def test_the_inception_score_is_torch_fidelitys() -> None:
    """Of the same ten parts; and one image of each class, or of one class alone, by hand."""
    metric = pytest.importorskip("torch_fidelity.metric_isc")
    features, weights = normal(123, 7, 0), normal(30, 7, 1)
    parts = np.array_split(np.random.default_rng(5).permutation(123), 10)
    logits = torch.from_numpy(features @ weights.T)
    scores = [
        metric.isc_features_to_metric(logits[part], splits=1, shuffle=False)[
            metric.KEY_METRIC_ISC_MEAN
        ]
        for part in parts
    ]
    found = inception_score(features, weights, seed=5)
    assert found["value"] == pytest.approx(np.mean(scores), rel=1e-9)
    half = stats.sem(scores) * stats.t.ppf(0.975, 9)
    assert found["high"] - found["value"] == pytest.approx(half, rel=1e-9)
    # Far logits, whose shares of most classes are 0 in floating point.
    certain = 1e4 * np.eye(4)
    assert inception_score(np.zeros((50, 4)), certain)["value"] == pytest.approx(1)
    parts = np.array_split(np.random.default_rng(0).permutation(40), 10)
    each = np.empty((40, 4))
    for part in parts:
        each[part] = np.eye(4)
    assert inception_score(each, certain)["value"] == pytest.approx(4)


def test_the_inception_score_stands_where_it_has_a_meaning() -> None:
    features, weights = normal(200, 5, 3), normal(9, 5, 4)
    assert compare_features(features[:100], features[100:])["inception_score"] is None
    found = theoretical(features, class_weights=weights)
    assert found["inception_score"] == inception_score(features[:100], weights)


def test_features_without_any_variance_are_no_error() -> None:
    found = compare_features(np.zeros((100, 3)), np.zeros((100, 3)))
    assert (found["fid"]["value"], found["kid"]["value"]) == (0, 0)
    assert found["precision"]["value"] == 1
