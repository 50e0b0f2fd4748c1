"""The input of every statistic: counts, and the distribution that they should follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shapeshd.errors import UsageError
from shapeshd.factors import NUM_BINS, FloatArray, IntArray

PROTOCOL = "chi2-20k"
"""Name of the paper's protocol: n = 20 k samples, 20 expected in each bin."""

PROTOCOL_VERSION = 1
"""Raised when the same images, read alike, give another number: other bins, another estimator of D
or of an interval, other samples of the same seed. Results of different versions do not compare."""

PER_BIN = 20

MAX_SAMPLES = 2**31
"""Up to here pairs of samples count exactly in 64 bits."""

MAX_NULL_ERROR = 0.1
"""Largest standard error of the divergence, for an ideal sampler, that still means something."""

MAX_NULL_SKEWNESS = 2.0
"""Largest skewness of it that rare bins may cause, for an ideal sampler."""

_TOTAL_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts over the bins that the distribution allows, and the distribution.

    Attributes:
        counts: int64 of shape (k,), each >= 0.
        distribution: float64 of shape (k,), each > 0, of total 1: the expected probabilities q.
        weights: float64 of shape (k,): 1 / q, and exactly k where the distribution is uniform.
    """

    counts: IntArray
    distribution: FloatArray
    weights: FloatArray

    @property
    def samples(self) -> int:
        """n, the number of samples."""
        return int(self.counts.sum())

    @property
    def bins(self) -> int:
        """k, the number of bins of positive probability."""
        return len(self.counts)


def read_histogram(
    counts: npt.ArrayLike, distribution: npt.ArrayLike | None = None, *, bins: int = NUM_BINS
) -> Histogram:
    """Check counts and distribution, and put them side by side.

    Bins of probability 0 drop out; a sample in one of them would make every divergence
    infinite and is refused.

    Args:
        counts: whole numbers >= 0, of shape (k,) or a table of k cells in C order, such as
            `BIN_SHAPE`.
        distribution: expected probabilities, k numbers >= 0 of total 1; None for the uniform
            distribution.
        bins: k, where `distribution` is None.

    Raises:
        UsageError: if the counts are no histogram of k bins, hold no sample or more than
            `MAX_SAMPLES`, or if the distribution is none or forbids a sample.
    """
    array = check_counts(counts)
    if distribution is None:
        _check_length(array.size, bins)
        if bins < 2:
            raise UsageError(f"a test needs at least 2 bins, not {bins}")
        return Histogram(array, np.full(bins, 1 / bins), np.full(bins, float(bins)))
    probabilities = check_distribution(distribution)
    _check_length(array.size, probabilities.size)
    possible = probabilities > 0
    forbidden = np.flatnonzero(array[~possible])
    if forbidden.size:
        first = np.flatnonzero(~possible)[forbidden[0]]
        raise UsageError(
            f"bin {first} holds {array[first]} samples, but its probability under the "
            "distribution is 0"
        )
    if possible.sum() < 2:
        raise UsageError("the distribution puts everything into one bin: nothing can be tested")
    probabilities = probabilities[possible]
    return Histogram(array[possible], probabilities, 1 / probabilities)


def check_counts(counts: npt.ArrayLike) -> IntArray:
    """Return `counts` as int64 of shape (k,), or raise `UsageError`."""
    array = _numbers(counts, "counts")
    if array.dtype.kind not in "iu":
        raise UsageError(f"counts must be integers, not {array.dtype}")
    flat = array.ravel()
    if flat.size and flat.min() < 0:
        where = int(np.argmin(flat))
        raise UsageError(f"counts must not be negative, but bin {where} holds {flat[where]}")
    total = sum(map(int, flat)) if flat.size < 64 else int(flat.sum(dtype=np.float64))
    if total == 0:
        raise UsageError("the histogram holds no sample")
    if total > MAX_SAMPLES:
        raise UsageError(f"the histogram holds {total:,} samples, more than {MAX_SAMPLES:,}")
    return flat.astype(np.int64)


def check_distribution(distribution: npt.ArrayLike) -> FloatArray:
    """Return `distribution` as float64 (k,) of total exactly 1, or raise `UsageError`."""
    array = _numbers(distribution, "probabilities")
    if array.dtype.kind not in "fiu":
        raise UsageError(f"probabilities must be numbers, not {array.dtype}")
    flat = array.ravel().astype(np.float64)
    wrong = ~((flat >= 0) & (flat <= 1))  # NaN is wrong too
    if wrong.any():
        where = int(np.argmax(wrong))
        raise UsageError(f"the distribution gives bin {where} the probability {flat[where]:g}")
    total = math.fsum(flat)
    if abs(total - 1) > _TOTAL_TOLERANCE:
        raise UsageError(f"the probabilities of the distribution sum up to {total:.9g}, not 1")
    return flat / total


def min_samples(bins: int = NUM_BINS) -> int:
    """Return the fewest samples that a test on so many bins takes.

    With n of them the divergence of an ideal sampler is estimated with the standard error
    sqrt(2 (k - 1) / (n (n - 1))), whatever the distribution; it must not be above `MAX_NULL_ERROR`.
    At k = 165,888 that takes 5,761 samples (about 100 colliding pairs, or more under a distribution
    that is not uniform). k counts the bins of positive probability.
    """
    pairs = 2 * (bins - 1) / MAX_NULL_ERROR**2
    return max(4, math.ceil(0.5 + math.sqrt(0.25 + pairs)))


def min_samples_under(distribution: FloatArray | None, bins: int = NUM_BINS) -> int:
    """Return the fewest samples that a test of a distribution takes, rare bins considered.

    Bins of probability q_i give the divergence of an ideal sampler the skewness
    sqrt(2) sum_i 1/q_i / (n k^(3/2)), k bins being possible: that of few collisions, each of great
    weight. Where it is above `MAX_NULL_SKEWNESS`, samples moved into rare bins can stay without
    a collision, and no interval holds the divergence that they make (simulated:
    ``tests/experiments/truth/levels.py``). For bins as likely as each other `min_samples` is
    always enough.

    Args:
        distribution: probabilities, of any shape; None for the uniform distribution.
        bins: k, where `distribution` is None.
    """
    if distribution is None:
        return min_samples(bins)
    possible = distribution[distribution > 0]
    k = possible.size
    with np.errstate(over="ignore"):
        skewed = math.sqrt(2) * float((1 / possible).sum()) / k**1.5 / MAX_NULL_SKEWNESS
    return max(min_samples(k), math.ceil(min(skewed, MAX_SAMPLES + 1)))


def require_samples(samples: int, bins: int, distribution: FloatArray | None = None) -> None:
    """Raise `UsageError` if `samples` are too few to test a distribution on `bins` bins."""
    needed = min_samples_under(distribution, bins)
    if samples < needed:
        rare = ", some of them rare" if needed > min_samples(bins) else ""
        raise UsageError(
            f"{samples:,} samples are too few for {bins:,} bins{rare}: at least {needed:,} are "
            "needed"
        )


def _numbers(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    if isinstance(values, Sequence) and not len(values):
        raise UsageError(f"{what} are missing")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{what} must be numbers: {error}") from None


def _check_length(given: int, expected: int) -> None:
    if given != expected:
        raise UsageError(f"the histogram has {given:,} bins, but the distribution has {expected:,}")
