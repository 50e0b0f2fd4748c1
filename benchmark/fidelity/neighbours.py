"""Nearest neighbours in feature space: precision and recall, density and coverage.

Around every image lies a closed ball that reaches to its k-th nearest other image of its set.

- precision (Kynkaanniemi et al. 2019, k = 3): share of generated images inside a ball of a real
  one; recall: share of real images inside a ball of a generated one.
- density (Naeem et al. 2020, k = 5): in how many balls of real images a generated one lies, over
  k; its mean is 1 for a perfect generator, and it has no upper bound. Coverage: share of real
  images in whose ball a generated one lies.

**Copies.** The balls are closed and two equal images are at a distance of exactly 0, so a set
of copies is inside its own balls, though their radius is 0. (With open balls, and distances of
about 1e-4 between equal images, the same set would lie outside.) Two identical sets have a
density of 1 + 1/k, for each ball then also holds the copy of its centre.

**The interval** is that of the value at these numbers of images. Both sets are cut into blocks,
a block of one against a block of the other, and the scatter of the blocks' values gives the
standard error, as it shrinks with the square root of the number of images. A share gets Wilson's
interval (1927) at the number of images that so large an error stands for, at most the true one,
as surveys do (Korn and Graubard 1998); so it has a width at 0 and 1, too.

Distances are computed some rows at a time: memory for them does not grow with the images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from shapeshd.benchmark.statistics.intervals import student
from shapeshd.factors import FloatArray

from .intervals import Interval, groups_of

NEIGHBOURS = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}
"""k of each statistic, as published."""

_MOST_BLOCKS = 10
_BLOCK = 100  # images, or more, so that a block's neighbours are like those of all
_VALUES = 40  # of blocks at least, from several ways to cut the sets
_FREEDOM = 9  # degrees of freedom that such an error is taken for
_CELLS = 2**22  # distances at a time: 34 MB
_ZERO = 1e-13  # of the squared norms: below it, a squared distance is rounding
_SLACK = 1 + 1e-9  # the same distance, computed in another order

Statistics = dict[str, float]


def neighbour_statistics(
    generated: FloatArray, real: FloatArray, seed: int = 0
) -> dict[str, Interval]:
    """Return precision, recall, density and coverage with their 95% intervals.

    Args:
        generated: float64 (n, d), n >= 60.
        real: float64 (m, d), m >= 60.
        seed: of the blocks.
    """
    values = neighbour_values(generated, real)
    errors = _standard_errors(generated, real, seed)
    counts = {
        "precision": len(generated),
        "recall": len(real),
        "density": len(generated),
        "coverage": len(real),
    }
    intervals = {}
    for name, value in values.items():
        if name == "density":
            intervals[name] = _mean(value, errors[name], counts[name])
        else:
            intervals[name] = wilson_interval(value, errors[name], counts[name])
    return intervals


def neighbour_values(generated: FloatArray, real: FloatArray) -> Statistics:
    """Return precision, recall, density and coverage; see the module.

    Args:
        generated: float64 (n, d), n > 5.
        real: float64 (m, d), m > 5.
    """
    few, many = NEIGHBOURS["precision"], NEIGHBOURS["density"]
    real_radii, generated_radii = _radii(real, (few, many)), _radii(generated, (few,))[0]
    inside = np.zeros(len(generated), dtype=bool)  # some real image's ball of k = 3
    recalled = np.zeros(len(real), dtype=bool)
    covered = np.zeros(len(real), dtype=bool)
    balls = 0
    for rows, squares in _squared_distances(generated, real):
        inside[rows] = (squares <= real_radii[0]).any(1)
        recalled |= (squares <= generated_radii[rows, None]).any(0)
        held = squares <= real_radii[1]
        covered |= held.any(0)
        balls += int(held.sum())
    return {
        "precision": float(inside.mean()),
        "recall": float(recalled.mean()),
        "density": balls / (many * len(generated)),
        "coverage": float(covered.mean()),
    }


def wilson_interval(share: float, error: float, count: int) -> Interval:
    """Return the 95% interval of a share whose standard error is known.

    Args:
        share: in [0, 1].
        error: its standard error, >= 0; that of `count` independent images if it is smaller.
        count: images.
    """
    scatter, z = share * (1 - share), student(math.inf)
    error *= student(_FREEDOM) / z
    effective = min(float(count), scatter / error**2) if scatter and error else float(count)
    centre = (share + z**2 / (2 * effective)) / (1 + z**2 / effective)
    reach = z * math.sqrt(scatter / effective + z**2 / (4 * effective**2)) / (1 + z**2 / effective)
    return Interval(
        share, max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach))
    )


def _mean(value: float, error: float, count: int) -> Interval:
    reach = student(_FREEDOM) * error
    # Not one image inside a ball: as many could be as the share 0 of so many images leaves open.
    high = value + reach if value > 0 else wilson_interval(0.0, 0.0, count).high
    return Interval(value, max(0.0, value - reach), high)


def _standard_errors(generated: FloatArray, real: FloatArray, seed: int) -> Statistics:
    """Return the standard error of each statistic, from blocks; see the module."""
    blocks = min(max(min(len(generated), len(real)) // _BLOCK, 2), _MOST_BLOCKS)
    variances: dict[str, list[float]] = {name: [] for name in NEIGHBOURS}
    for repeat in range(math.ceil(_VALUES / blocks)):
        place = 2 * (seed + repeat)
        group1 = groups_of(len(generated), place, blocks)
        group2 = groups_of(len(real), place + 1, blocks)
        found = [
            neighbour_values(generated[group1 == block], real[group2 == block])
            for block in range(blocks)
        ]
        for name, own in variances.items():
            own.append(float(np.var([values[name] for values in found], ddof=1)) / blocks)
    return {name: math.sqrt(np.mean(own)) for name, own in variances.items()}


def _radii(points: FloatArray, ranks: tuple[int, ...]) -> list[FloatArray]:
    """Return the squared distances to the k-th nearest other point, for each k: (n,) each."""
    radii = [np.empty(len(points)) for _ in ranks]
    for rows, squares in _squared_distances(points, points):
        squares[np.arange(len(squares)), np.arange(len(points))[rows]] = -1.0  # itself: the first
        nearest = np.partition(squares, ranks, axis=1)
        for own, rank in zip(radii, ranks, strict=True):
            own[rows] = nearest[:, rank] * _SLACK
    return radii


def _squared_distances(first: FloatArray, second: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Yield rows of `first` and their squared distances to all of `second`, a block at a time."""
    norms1, norms2 = (np.einsum("nd,nd->n", points, points) for points in (first, second))
    step = max(1, _CELLS // len(second))
    for start in range(0, len(first), step):
        rows = slice(start, min(start + step, len(first)))
        scale = norms1[rows, None] + norms2
        squares = scale - 2 * (first[rows] @ second.T)
        squares[squares <= _ZERO * scale] = 0.0
        yield rows, squares
