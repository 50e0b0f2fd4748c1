"""Images of a score that nearly equal another one, told by their recognised factors.

An image that is saved as JPEG twice, or given again with some noise, has another hash and the same
factors, but for the recognizer's errors. Two images are *near* if their shape is the same and each
other factor differs by a small part w of a bin at most.

How many pairs are near by chance? If the density of a source does not change within 4 w, a pair of
which all factors lie within 4 w lies within w in factor f with the same probability r_f whatever
the others do. Where a factor alone is concentrated on few values, or ends there, r_f is above 1/4:
it is taken from the source's own images, as the share of the pairs that are within 4 w in factor f,
and of one shape, which are within w. So of M pairs within 4 w in all factors, near ones are
binomial with the probability prod_f r_f, about 1/1000, by chance, and many of copies are. Factors
that depend on each other closely, such as one colour for two things, raise it by 4 for each such
factor: near copies are told from 20 times that probability on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

from shapeshd.benchmark.result.formatting import number
from shapeshd.benchmark.result.source_checks import NearCopiesRecord
from shapeshd.factors import FACTORS, SHAPE, FloatArray, IntArray

from .seen_factors import SeenFactors

WIDTHS = (1 / 32, 1 / 16, 1 / 8)
"""w that are tried, in bins: the recognizer's errors, and those on images of lower quality."""

_WIDER = 4
_EQUAL = 1e-4  # bins up to which factors are those of equal images, which are named apart
_FAR_ABOVE = 20  # times chance: two factors that follow from others make 16
_LEVEL = 1e-6 / len(WIDTHS)
_FEWEST = 3  # pairs
_OTHERS = [column for column in range(len(FACTORS)) if column != SHAPE]


class NearPairs(NamedTuple):
    """Pairs of one width.

    Attributes:
        width: w, bins.
        near: how many pairs are within it in all factors, and not equal.
        expected: how many would be by chance.
        p_value: of so many or more, if they were `_FAR_ABOVE` times as probable as by chance.
    """

    width: float
    near: int
    expected: float
    p_value: float


def describe_near_copies(seen: SeenFactors) -> NearCopiesRecord | None:
    """Return what near copies there are; None if no factors were kept.

    Args:
        seen: factors of all images, or of those with some numbers.
    """
    seen.settle()
    compared = len(seen.numbers)
    if compared < 2:
        return None
    factors = seen.factors.astype(np.float64)
    found = [one for one in near_pairs(factors) if one.p_value < _LEVEL]
    best = max(found, key=lambda one: one.near - one.expected, default=None)
    if best is None or best.near < _FEWEST:
        text = f"none among {compared:,}"
        return NearCopiesRecord(compared=compared, copies=0, share=0.0, text=text)
    rows, others = _nearest(factors, best.width)
    copies, share = len(rows), len(rows) / compared
    example = _example(seen.numbers, rows, others)
    # Of M images, each one of N at random, M (M - 1) / 2 / N pairs are copies of each other; this
    # holds as well for those M of them whose factors were kept.
    size = max(1, round(compared * (compared - 1) / 2 / (best.near - best.expected)))
    of = f"{copies:,} of {compared:,} images"
    if seen.zeros:
        of += " that were compared with one another"
    text = (
        f"{of} have a near copy, such as images {example[0]:,} and {example[1]:,}: all six "
        f"recognised factors differ by at most {number(best.width, 2)} of a bin in "
        f"{best.near:,} pairs, where {number(best.expected, 2)} would by chance. So it is with "
        "images that were saved or degraded twice, and with a source that repeats about "
        f"{size:,} images with small changes"
    )
    return NearCopiesRecord(
        compared=compared, copies=copies, share=share, pairs=best.near, expected=best.expected,
        width=best.width, p_value=best.p_value, example=example, set_size=size, text=text,
    )  # fmt: skip


def near_pairs(factors: FloatArray) -> list[NearPairs]:
    """Count near pairs of each width, and what chance makes of them; O(n log n).

    Args:
        factors: as recognised, (n, 6).
    """
    reaches = sorted({reach for w in WIDTHS for reach in (w, _WIDER * w)})
    radii = np.array([_EQUAL, *reaches])
    together = np.zeros(len(radii))
    alone = np.zeros((len(_OTHERS), len(radii)))
    for places in _by_shape(factors):
        together += _pairs(places, _periods(), radii)
        for column, period in enumerate(_periods()):
            alone[column] += _pairs_alone(places[:, column], period, radii)
    alone -= together[0]  # equal images say nothing of chance
    together -= together[0]
    found = []
    for width in WIDTHS:
        inner, outer = (1 + reaches.index(reach) for reach in (width, _WIDER * width))
        near, wide = int(together[inner]), int(together[outer])
        chance = float(np.prod(alone[:, inner] / np.maximum(alone[:, outer], 1)))
        often = min(1.0, _FAR_ABOVE * chance)
        p_value = float(scipy.special.bdtrc(near - 1, wide, often)) if near else 1.0
        found.append(NearPairs(width, near, wide * chance, p_value))
    return found


def _periods() -> list[float]:
    """Return the length of each circle in bins; 0 of an interval."""
    circles = [FACTORS[column].topology == "circle" for column in _OTHERS]
    return [FACTORS[column].bins * circle for column, circle in zip(_OTHERS, circles, strict=True)]


def _by_shape(factors: FloatArray) -> list[FloatArray]:
    """Return the places of the images of each shape, in bins: (m, 5)."""
    places = _places(factors)
    shapes = np.rint(factors[:, SHAPE])
    return [places[shapes == shape] for shape in np.unique(shapes)]


def _places(factors: FloatArray) -> FloatArray:
    found = np.empty((len(factors), len(_OTHERS)))
    for place, (column, period) in enumerate(zip(_OTHERS, _periods(), strict=True)):
        factor = FACTORS[column]
        found[:, place] = (factors[:, column] - factor.low) * (factor.bins / factor.period)
        if period:
            found[:, place] %= period
            found[found[:, place] >= period, place] = 0  # rounding
    return found


def _pairs(places: FloatArray, periods: list[float], radii: FloatArray) -> FloatArray:
    """Return how many pairs are within each radius in all columns, float64."""
    tree = scipy.spatial.cKDTree(places, boxsize=periods)
    return np.asarray((tree.count_neighbors(tree, radii, p=np.inf) - len(places)) / 2, float)


def _pairs_alone(values: FloatArray, period: float, radii: FloatArray) -> FloatArray:
    """Return how many pairs of (n,) values are within each radius, below half a period."""
    ordered = np.sort(values)
    onwards = np.concatenate([ordered, ordered + period]) if period else ordered
    ends = np.searchsorted(onwards, ordered[:, None] + radii, side="right")
    return np.asarray((ends - np.arange(1, len(ordered) + 1)[:, None]).sum(axis=0), float)


def _nearest(factors: FloatArray, width: float) -> tuple[IntArray, IntArray]:
    """Return the rows of images with a near copy, and the row of the nearest of each."""
    places, shapes = _places(factors), np.rint(factors[:, SHAPE])
    rows, others = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for shape in np.unique(shapes):
        here = np.flatnonzero(shapes == shape)
        if len(here) < 2:
            continue
        tree = scipy.spatial.cKDTree(places[here], boxsize=_periods())
        apart, nearest = tree.query(places[here], k=2, p=np.inf, distance_upper_bound=width)
        own = nearest[:, 0] == np.arange(len(here))
        other = np.where(own, nearest[:, 1], nearest[:, 0])
        far = np.where(own, apart[:, 1], apart[:, 0])
        near = (far > _EQUAL) & (far <= width)
        rows.append(here[near])
        others.append(here[other[near]])
    return np.concatenate(rows), np.concatenate(others)


def _example(numbers: IntArray, rows: IntArray, others: IntArray) -> tuple[int, int]:
    first = int(np.argmin(numbers[rows]))
    one, other = sorted((int(numbers[rows[first]]), int(numbers[others[first]])))
    return one, other
