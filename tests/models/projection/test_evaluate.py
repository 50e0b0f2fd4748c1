"""Which images count as not generated: by their factors, and by their residual."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shapeshd.benchmark.recognizer.card import Accuracy, FactorAccuracy, GrossErrors
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.factors import FACTORS, NAMES, bin_indices, uniform_factors
from shapeshd.images.resize import resized
from shapeshd.models.data.images import open_training_images
from shapeshd.models.projection.evaluate import (
    ResidualLimit,
    choose_limit,
    compare_factors,
    factor_distance,
    outer_fence,
)
from tests.support.projections import (
    SIZE,
    spec,
)


def errors_of(**largest: float | None) -> Accuracy:
    """Return what a card says of a recognizer whose largest errors are these."""
    factors = {
        name: FactorAccuracy(accuracy=1.0, largest_error=largest.get(name), confusion=())
        for name in NAMES
    }
    none = GrossErrors(count=0, worst=())
    return Accuracy(
        images=1, joint_accuracy=1.0, factors=factors, gross_errors=none, border_errors=0
    )


def truth(count: int = 8) -> Any:
    """Factors in the middle of bins, so that nothing is near a border."""
    bins = bin_indices(uniform_factors(3, 0, count))
    rows = np.empty(bins.shape)
    for column, factor in enumerate(FACTORS):
        width = factor.period / factor.bins
        whole = factor.topology == "discrete"
        rows[:, column] = bins[:, column] if whole else factor.low + (bins[:, column] + 0.5) * width
    return rows


def test_distances_of_factors() -> None:
    a, b = np.zeros((2, 6)), np.zeros((2, 6))
    a[0], b[0] = (0.95, 0.5, 0.0, 1.0, 3, -30), (0.05, 0.25, 1.0, 2.0, 0, 30)
    np.testing.assert_allclose(factor_distance(a, b)[0], (0.1, 0.25, 0.0, 1.0, 3, 60), atol=1e-12)
    np.testing.assert_array_equal(factor_distance(a, b), factor_distance(b, a))
    assert not factor_distance(a, b)[1].any()


def test_a_factor_is_wrong_in_another_bin() -> None:
    """One factor of each image is moved by a bin: that one is wrong, and it alone."""
    true = truth(6)
    found = true.copy()
    for column, factor in enumerate(FACTORS):
        step = 1 if factor.topology == "discrete" else factor.period / factor.bins
        down = bin_indices(true)[column, column] == factor.bins - 1
        found[column, column] += -step if down else step
    verdict = compare_factors(true, true, found)
    np.testing.assert_array_equal(verdict.wrong, np.eye(6, dtype=bool))
    assert verdict.compared.all() and not verdict.errors.any()
    assert not compare_factors(true, true, true).wrong.any()


def test_a_border_that_the_recognizer_cannot_see_is_no_fault() -> None:
    true = truth()
    true[:, 0] = 1 / 12 - 0.001  # of a turn, just before a border
    read = true.copy()
    read[:, 0] = 1 / 12 + 0.002
    assert compare_factors(true, true, read).wrong[:, 0].all()
    card = errors_of(floor_hue=0.004 * 360, shape=None)
    assert not compare_factors(true, true, read, card).wrong.any()
    card = errors_of(floor_hue=0.002 * 360, shape=None)
    assert compare_factors(true, true, read, card).wrong[:, 0].all()
    # What it errs by on these very images counts as well, all of them together.
    original = true.copy()
    original[3, 0] -= 0.004
    verdict = compare_factors(true, original, read)
    assert not verdict.wrong.any()
    np.testing.assert_allclose(verdict.errors, (0.004, 0, 0, 0, 0, 0), atol=1e-12)


def test_what_is_misread_in_the_original_is_not_compared() -> None:
    true = truth()
    original, read = true.copy(), true.copy()
    original[2, 1] = (true[2, 1] + 0.3) % 1
    original[4, 4] = (true[4, 4] + 1) % 4
    read[:, 1], read[:, 4] = (true[:, 1] + 0.5) % 1, (true[:, 4] + 2) % 4
    verdict = compare_factors(true, original, read)
    expected = np.ones((8, 6), dtype=bool)
    expected[2, 1] = expected[4, 4] = False
    np.testing.assert_array_equal(verdict.compared, expected)
    np.testing.assert_array_equal(verdict.wrong[:, 1], expected[:, 1])
    np.testing.assert_array_equal(verdict.wrong[:, 4], expected[:, 4])
    assert not verdict.errors.any()  # a gross error says nothing of the others
    # However badly a card speaks of a recognizer, a bin in the middle is far enough.
    card = errors_of(**{name: 1e3 for name in NAMES if name != "shape"})
    assert compare_factors(true, true, read, card).wrong[:, 1].all()


def test_fence() -> None:
    residuals = np.arange(101.0)
    assert outer_fence(residuals) == 75 + 3 * 50
    assert outer_fence(np.array([4.0])) == 4
    normal = np.random.default_rng(0).normal(30, 2, 10_000)
    assert (normal > outer_fence(normal)).sum() <= 1
    with_some = np.concatenate([normal, np.full(500, 60.0)])
    assert (with_some > outer_fence(with_some)).sum() == 500


def test_the_limit_is_above_what_the_search_leaves() -> None:
    residuals = np.array([1.0, 1.1, 1.2, 1.3, 9.0])
    for own in ([], [0.1, 1.5]):
        limit = choose_limit(residuals, np.array(own))
        assert (limit.rmse, limit.source) == (pytest.approx(1.3 + 3 * 0.2), "fence")
    assert choose_limit(residuals, np.array([0.1, 12.0])) == ResidualLimit(12, "reference")
    assert choose_limit(residuals, np.array([0.1, 12.0]), 0.5) == ResidualLimit(0.5, "given")


def test_the_recognizer_is_read_in_its_own_size(checkpoint: Path) -> None:
    """A guard for the test above that trusts it: it does read these renders at 64 pixels."""
    reader = load_recognizer("lite")
    data = open_training_images(spec(), SIZE)
    read = reader(resized(data.batch(range(20)), reader.size))
    verdict = compare_factors(uniform_factors(5, 0, 20), read, read, reader.card.accuracy)
    assert not verdict.wrong.any() and verdict.compared.mean() > 0.95
