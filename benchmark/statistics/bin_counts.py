"""How many bins hold exactly j samples (figure 2 of the paper), and how many hold none."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import scipy

from shapeshd.errors import UsageError
from shapeshd.factors import NUM_BINS, FloatArray

from .histogram import Histogram, read_histogram

_CELLS_AT_A_TIME = 2**22
_DEVIATIONS = 6
_FEW = 0.1
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class EmptyBins:
    """Number of empty bins.

    Attributes:
        observed: bins without a sample.
        expected: their expected number under the distribution, sum_i (1 - q_i)^n.
        deviation: standard deviation of that number under the distribution.
    """

    observed: int
    expected: float
    deviation: float

    def to_json(self) -> dict[str, float]:
        """Return the fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class BinCounts:
    """Figure 2: entry j of both lists speaks of the bins that hold exactly j samples.

    Attributes:
        observed: numbers of bins, j = 0 .. length - 1.
        expected: sum_i P(Binomial(n, q_i) = j), the expectation under the distribution.
        observed_beyond: bins that hold more samples than the lists go.
        expected_beyond: their expected number.
    """

    observed: tuple[int, ...]
    expected: tuple[float, ...]
    observed_beyond: int
    expected_beyond: float


def empty_bins(histogram: Histogram) -> EmptyBins:
    """Count the empty bins, and say how many the distribution leads one to expect.

    The variance is that of independent counts less what a fixed n takes away (exact as n
    and k grow together).
    """
    n, distribution = histogram.samples, histogram.distribution
    empty = np.exp(n * np.log1p(-distribution))
    variance = float((empty * (1 - empty)).sum()) - n * float(distribution @ empty) ** 2
    return EmptyBins(
        observed=int((histogram.counts == 0).sum()),
        expected=float(empty.sum()),
        deviation=math.sqrt(max(0.0, variance)),
    )


def is_collapsed(occupied: int, expected: float) -> bool:
    """Tell whether so few bins hold a sample that a source has collapsed to a few kinds of images.

    They must be fewer than a tenth of those that as many samples of the distribution occupy on
    average, mu, and this must have a probability below 1e-9 for such samples. Whether bins are
    occupied is negatively associated (Dubhashi and Ranjan 1998, "Balls and bins"), so Chernoff's
    bound holds as for independent ones: P(occupied <= x) <= exp(x - mu + x ln(mu / x)) for x < mu.
    At a tenth that is exp(-0.67 mu): only a distribution on some thirty bins has to care.

    Args:
        occupied: bins that hold a sample, >= 1.
        expected: mu, the bins less `EmptyBins.expected`.
    """
    if occupied >= _FEW * expected:
        return False
    bound = occupied - expected + occupied * math.log(expected / occupied)
    return bound < math.log(_NEGLIGIBLE)


def bin_counts(
    counts: npt.ArrayLike,
    distribution: npt.ArrayLike | None = None,
    *,
    bins: int = NUM_BINS,
    length: int | None = None,
) -> BinCounts:
    """Count the bins that hold exactly j samples, beside the binomial expectation.

    Args:
        counts: integers of shape (k,) or a table of k cells.
        distribution: k probabilities of total 1; None for the uniform distribution.
        bins: k, where `distribution` is None.
        length: j runs from 0 to `length` - 1, >= 1; by default as far as the expectation of
            an ordinary bin reaches, twice over. The rest is counted in `observed_beyond`.

    Raises:
        UsageError: if the input is no histogram of this distribution, or `length` is below 1.
    """
    histogram = read_histogram(counts, distribution, bins=bins)
    if length is None:
        mean = histogram.samples / histogram.bins
        length = math.ceil(2 * (mean + _DEVIATIONS * math.sqrt(mean) + 1))
    if length < 1:
        raise UsageError(f"length must be at least 1, not {length}")
    observed = np.bincount(np.minimum(histogram.counts, length), minlength=length + 1)
    expected = _expected(histogram, length)
    return BinCounts(
        observed=tuple(int(number) for number in observed[:length]),
        expected=tuple(float(number) for number in expected),
        observed_beyond=int(observed[length]),
        expected_beyond=max(0.0, histogram.bins - float(expected.sum())),
    )


def _expected(histogram: Histogram, length: int) -> FloatArray:
    """Return sum_i P(Binomial(n, q_i) = j) for j < length; equal probabilities go together."""
    values, multiplicity = np.unique(histogram.distribution, return_counts=True)
    expected = np.zeros(length)
    step = max(1, _CELLS_AT_A_TIME // length)
    for first in range(0, len(values), step):
        part = values[first : first + step, None]
        masses = scipy.stats.binom.pmf(np.arange(length), histogram.samples, part)
        expected += multiplicity[first : first + step] @ masses
    return expected
