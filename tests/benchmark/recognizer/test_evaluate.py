"""The accuracy against plain loops, and its two kinds of errors against cases made by hand."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

from shapeshd.benchmark.recognizer.evaluate import SHOWN_GROSS_ERRORS, accuracy, evaluate
from shapeshd.errors import UsageError
from shapeshd.factors import FACTORS, NAMES, FloatArray, uniform_factors

BASE = np.array([[0.12, 0.55, 0.97, 1.4, 2.0, 3.0]])


def changed(**values: float) -> FloatArray:
    row = BASE.copy()
    for name, value in values.items():
        row[0, NAMES.index(name)] = value
    return row


def measurement_error(truth: FloatArray, seed: int) -> FloatArray:
    """Errors of all sizes, the values inside of their ranges as a recognizer gives them."""
    random = np.random.default_rng(seed)
    found = truth.copy()
    size = 10.0 ** random.uniform(-4, 0, truth.shape) * random.choice([-1, 1], truth.shape)
    for column, factor in enumerate(FACTORS):
        if factor.topology == "discrete":
            wrong = random.random(len(truth)) < 0.1
            found[wrong, column] = random.integers(0, factor.bins, wrong.sum())
            continue
        found[:, column] += size[:, column] * factor.period / 2
        if factor.topology == "circle":
            found[:, column] %= 1.0
        else:
            found[:, column] = np.clip(found[:, column], factor.low, factor.high)
    return found


def bin_by_hand(column: int, value: float) -> int:
    factor = FACTORS[column]
    if factor.topology == "discrete":
        return round(value)
    edges = [factor.low + factor.period * i / factor.bins for i in range(1, factor.bins)]
    return sum(value >= edge for edge in edges)


def error_by_hand(column: int, truth: float, found: float) -> float:
    if FACTORS[column].topology != "circle":
        return found - truth
    return min((found - truth + turn for turn in (-1, 0, 1)), key=abs)


def test_the_accuracy_against_loops() -> None:
    truth = uniform_factors(2, 0, 1500)
    found = measurement_error(truth, 0)
    result = accuracy(truth, found)
    right = [True] * 1500
    gross = [False] * 1500
    for column, factor in enumerate(FACTORS):
        row = result.factors[factor.name]
        errors, table = [], Counter()
        border = gross_errors = 0
        for image in range(1500):
            a, b = truth[image, column], found[image, column]
            pair = bin_by_hand(column, a), bin_by_hand(column, b)
            table[pair] += 1
            error = error_by_hand(column, a, b)
            errors.append(error)
            far = abs(error) > factor.period / factor.bins / 2
            if factor.topology == "discrete":
                far = pair[0] != pair[1]
            gross_errors += far
            border += pair[0] != pair[1] and not far
            right[image] &= pair[0] == pair[1]
            gross[image] |= far
        confusion = np.array(row.confusion)
        assert confusion.shape == (factor.bins, factor.bins)
        assert dict(table) == {
            (a, b): confusion[a, b] for a, b in zip(*np.nonzero(confusion), strict=True)
        }
        assert row.accuracy == pytest.approx(sum(table[i, i] for i in range(12)) / 1500)
        assert (row.border_errors, row.gross_errors) == (border, gross_errors)
        assert border > 0 or factor.topology == "discrete"
        assert gross_errors > 0
        if factor.topology == "discrete":
            assert row.mean_absolute_error is row.bias is row.unit is row.largest_error is None
            continue
        by = 360 if factor.topology == "circle" else 1
        sizes = sorted(abs(error) * by for error in errors)
        assert row.mean_absolute_error == pytest.approx(sum(sizes) / 1500)
        assert row.median_absolute_error == pytest.approx((sizes[749] + sizes[750]) / 2)
        assert row.largest_error == pytest.approx(sizes[-1])
        assert row.p99_absolute_error is not None
        assert sizes[1483] <= row.p99_absolute_error <= sizes[1485]
        assert row.bias == pytest.approx(sum(errors) * by / 1500, abs=1e-12)
        assert row.unit == ("degree" if by == 360 or factor.unit == "degree" else factor.unit)
    assert result.images == 1500
    assert result.joint_accuracy == pytest.approx(sum(right) / 1500)
    assert list(result.factors) == list(NAMES)
    assert result.gross_errors.count == sum(gross)


def test_a_perfect_reading() -> None:
    truth = uniform_factors(3, 0, 200)
    result = accuracy(truth, truth.copy())
    gross = result.gross_errors
    assert (result.joint_accuracy, gross.count, gross.worst) == (1.0, 0, ())
    assert all(factor.accuracy == 1 for factor in result.factors.values())
    assert all(not factor.largest_error for factor in result.factors.values())
    assert sum(factor.border_errors for factor in result.factors.values()) == 0


@pytest.mark.parametrize(
    ("name", "truth", "found", "right", "border", "gross_error"),
    [
        # a bin of a hue is 1/12 = 0.0833 of a turn
        ("floor_hue", 0.0830, 0.0836, False, 1, 0),
        ("floor_hue", 0.0840, 0.1660, True, 0, 1),  # nearly a whole bin, yet in the same one
        ("floor_hue", 0.0800, 0.1250, False, 0, 1),
        ("floor_hue", 0.0800, 0.1210, False, 1, 0),
        # round the circle
        ("wall_hue", 0.9990, 0.0010, False, 1, 0),
        ("wall_hue", 0.0010, 0.9990, False, 1, 0),
        ("object_hue", 0.9700, 0.0200, False, 0, 1),
        ("object_hue", 0.0000, 1.0000, True, 0, 0),  # the same red
        # a bin of the scale is 0.25
        ("scale", 1.2400, 1.2600, False, 1, 0),
        ("scale", 1.2400, 1.3700, False, 0, 1),
        ("scale", 1.9900, 2.0000, True, 0, 0),
        # a bin of the orientation is 10 degrees
        ("orientation", 9.9, 10.1, False, 1, 0),
        ("orientation", 0.1, 5.2, True, 0, 1),
        ("orientation", -30.0, 30.0, False, 0, 1),  # no circle
        ("shape", 2.0, 3.0, False, 0, 1),
        ("shape", 0.0, 3.0, False, 0, 1),
    ],
)
def test_errors_at_borders_and_gross_errors(
    name: str, truth: float, found: float, right: bool, border: int, gross_error: int
) -> None:
    result = accuracy(changed(**{name: truth}), changed(**{name: found}))
    row = result.factors[name]
    assert (row.accuracy == 1, row.border_errors, row.gross_errors) == (right, border, gross_error)
    assert (result.joint_accuracy == 1, result.gross_errors.count) == (right, gross_error)
    assert len(result.gross_errors.worst) == gross_error
    others = [factor for other, factor in result.factors.items() if other != name]
    assert all(factor.accuracy == 1 and not factor.gross_errors for factor in others)


def test_a_hue_s_error_is_the_short_way_and_in_degrees() -> None:
    truth = np.repeat(BASE, 2, 0)
    found = truth.copy()
    truth[:, 0], found[:, 0] = (0.99, 0.02), (0.01, 0.97)
    row = accuracy(truth, found).factors["floor_hue"]
    assert row.mean_absolute_error == pytest.approx((0.02 + 0.05) / 2 * 360)
    assert row.bias == pytest.approx((0.02 - 0.05) / 2 * 360)
    assert row.largest_error == pytest.approx(0.05 * 360)


def test_an_image_with_two_gross_errors_counts_once() -> None:
    result = accuracy(BASE, changed(shape=0.0, scale=1.9))
    assert result.gross_errors.count == 1
    worst = result.gross_errors.worst
    assert [(row.image, row.factor) for row in worst] == [
        (0, "shape"),
        (0, "scale"),
    ]


def test_the_worst_come_first_and_not_all_are_shown() -> None:
    """By the size of the error in bins; a wrong shape is worse than anything."""
    truth = np.repeat(BASE, 30, 0)
    found = truth.copy()
    found[:, 3] = 1.4 + np.linspace(0.13, 0.5, 30)
    found[4, 4] = 0.0
    found[7, 1] = 0.05  # half a turn
    result = accuracy(truth, found)
    assert result.gross_errors.count == 30
    worst = result.gross_errors.worst
    assert len(worst) == SHOWN_GROSS_ERRORS
    assert worst[0].to_json() == {"image": 4, "factor": "shape", "true": 2.0, "recognised": 0.0}
    assert (worst[1].image, worst[1].factor) == (7, "wall_hue")
    assert [row.image for row in worst[2:]] == list(range(29, 11, -1))


def test_the_json_is_json_and_says_the_same() -> None:
    truth = uniform_factors(2, 0, 300)
    result = accuracy(truth, measurement_error(truth, 1))
    values = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert list(values["factors"]) == list(NAMES)
    assert values["images"] == 300
    assert values["joint_accuracy"] == result.joint_accuracy
    assert values["gross_errors"]["count"] == result.gross_errors.count
    assert values["border_errors"] == sum(
        factor.border_errors for factor in result.factors.values()
    )
    for name, factor in result.factors.items():
        row = values["factors"][name]
        assert row["accuracy"] == factor.accuracy
        assert row["confusion"] == [list(counts) for counts in factor.confusion]
        assert "name" not in row


@pytest.mark.parametrize("shapes", [((0, 6), (0, 6)), ((3, 6), (2, 6)), ((3, 6), (3, 5))])
def test_what_cannot_be_compared(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        accuracy(np.zeros(shapes[0]), np.zeros(shapes[1]))


def test_batches_make_one_accuracy() -> None:
    truth = uniform_factors(2, 0, 100)
    found = measurement_error(truth, 1)
    images = torch.arange(100)

    def recognizer(batch: torch.Tensor) -> FloatArray:
        return found[batch.numpy()]

    parts = [(images[:1], truth[:1]), (images[1:70], truth[1:70]), (images[70:], truth[70:])]
    assert evaluate(recognizer, parts).to_json() == accuracy(truth, found).to_json()
    with pytest.raises(UsageError, match="no images"):
        evaluate(recognizer, [])
