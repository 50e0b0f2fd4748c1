"""95% intervals: of statistics of two sets by the jackknife, and of means, medians and shares.

That of a mean is by Student's t, of a median by the order statistics between which it lies
(exact), of a share by Clopper and Pearson (exact); they are those of independent images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import scipy

from shapeshd.benchmark.statistics.intervals import CONFIDENCE, student
from shapeshd.factors import FloatArray, IntArray

GROUPS = 20


@dataclass(frozen=True)
class Interval:
    """A value and its 95% interval.

    Attributes:
        value: the statistic.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def groups_of(count: int, seed: int, groups: int = GROUPS) -> IntArray:
    """Cut `count` things at random into groups whose sizes differ by one at most.

    Returns:
        The group of each, int64 (count,) in 0 .. groups - 1.
    """
    return np.random.default_rng(seed).permutation(np.arange(count) % groups)


def jackknife(value: float, left_out: Sequence[float] | FloatArray) -> Interval:
    """Return the interval of a statistic by the delete-a-group jackknife.

    Args:
        value: of all.
        left_out: of all but group g, for each group.
    """
    groups = len(left_out)
    spread = np.asarray(left_out) - np.mean(left_out)
    error = math.sqrt((groups - 1) / groups * float(spread @ spread))
    reach = student(groups - 1) * error
    return Interval(value, value - reach, value + reach)


def mean_interval(values: FloatArray) -> dict[str, float]:
    """Return ``value``, ``low`` and ``high`` of the mean of (n,) values, n >= 2."""
    value = float(values.mean())
    half = student(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"value": value, "low": value - half, "high": value + half}


def median_interval(values: FloatArray) -> dict[str, float]:
    """Return ``value``, ``low`` and ``high`` of the median of (n,) values, n >= 6."""
    ordered = np.sort(values)
    below = int(scipy.stats.binom.ppf((1 - CONFIDENCE) / 2, len(values), 0.5)) - 1
    below = max(0, below)
    low, high = float(ordered[below]), float(ordered[-1 - below])
    return {"value": float(np.median(values)), "low": low, "high": high}


def share_interval(count: int, of: int) -> dict[str, float]:
    """Return ``value``, ``low`` and ``high`` of a share, and its ``count``."""
    found = scipy.stats.binomtest(count, of).proportion_ci(CONFIDENCE, "exact")
    return {"value": count / of, "low": float(found.low), "high": float(found.high), "count": count}
