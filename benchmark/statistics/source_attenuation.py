"""The attenuation of one source: what the errors of reading *its* images leave of a divergence.

A recognizer errs more on images that are blurred, noisy or compressed than on those that its card
speaks of. Where such images of known factors were read, two of each joint bin, the share of noise
over all bins that is left is the probability that both are read alike: with C the confusion of the
k joint bins, |C|_F^2 / k is the mean over bins i of sum_j C_ij^2. Of noise in the interactions of a
set T of factors it leaves, less the part of mean 0 (see `attenuation`),

    a_T = E prod_{f in T} (k_f m_f - 1) / (k_f - 1),   m_f = 1 if factor f is read alike, else 0.

No independence of errors is assumed, neither of factors nor of scenes. An image could lie anywhere
in its bin with the same error, so m_f is replaced by its mean over that place: then every image
tells something, not only those close to a border.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shapeshd.errors import UsageError
from shapeshd.factors import FACTORS, Factor, FloatArray, bin_indices

from .decomposition import HIGHER_ORDER, Decomposition
from .interactions import ORDER
from .intervals import NORMAL, student

METHOD_ERROR = 0.2
"""Standard error of the share that is lost, relative to it, which more images do not lower: known
images with the differences of others are not quite those of the source. Measured by
tests/experiments/truth/degraded_images.py."""
_LEAST = 0.02  # a share below cannot be divided by
_FEWEST = 8  # pairs


@dataclass(frozen=True)
class Share:
    """A share that is left, with its standard error and 95% interval, within [0, 1]."""

    value: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class SourceAttenuation:
    """What the errors of reading the images of a source leave of a divergence.

    Attributes:
        pairs: of images that were read, each in one joint bin.
        factors: of noise over the bins of each factor.
        joint: of noise over all joint bins.
        higher_order: of noise in the interactions of four factors and more.
    """

    pairs: int
    factors: Mapping[str, Share]
    joint: Share
    higher_order: Share


@dataclass(frozen=True)
class Corrected:
    """A divergence that is corrected for the attenuation, with its 95% interval."""

    value: float
    low: float
    high: float


def source_attenuation(
    truth: FloatArray, read: FloatArray, *, method_error: float = METHOD_ERROR
) -> SourceAttenuation:
    """Estimate the attenuation from images of known factors.

    Args:
        truth: (2 m, 6), m >= 8; the rows 2 j and 2 j + 1 lie in one joint bin, and the bins are
            drawn uniformly.
        read: (2 m, 6), as recognised.
        method_error: standard error of the share that is lost, relative to it, beside that of the
            sample.

    Raises:
        UsageError: if the shapes are others, or two rows of a pair lie in different bins.
    """
    bins = bin_indices(truth)
    if truth.shape != read.shape or len(truth) < 2 * _FEWEST or len(truth) % 2:
        raise UsageError(
            f"attenuation takes pairs of rows, {2 * _FEWEST} rows at least, not {truth.shape} and "
            f"{read.shape}"
        )
    if (bins[::2] != bins[1::2]).any():
        raise UsageError("two rows of a pair lie in different joint bins")
    excess = []  # k_f m_f - 1 of each pair
    for column, factor in enumerate(FACTORS):
        where = _read_bins(factor, bins[:, column], truth[:, column], read[:, column])
        excess.append(factor.bins * (where[::2] * where[1::2]).sum(1) - 1)
    # The coefficients of prod (1 + (k_f m_f - 1) z), by the number of factors in T.
    orders = np.ones((len(bins) // 2, 1))
    freedom = np.ones(1)
    for factor, column_excess in zip(FACTORS, excess, strict=True):
        grown = np.pad(orders, ((0, 0), (0, 1)))
        grown[:, 1:] += orders * column_excess[:, None]
        orders = grown
        freedom = np.convolve(freedom, [1.0, factor.bins - 1.0])
    return SourceAttenuation(
        pairs=len(orders),
        factors={
            factor.name: _share(values / (factor.bins - 1), method_error)
            for factor, values in zip(FACTORS, excess, strict=True)
        },
        joint=_share(orders[:, 1:].sum(1) / freedom[1:].sum(), method_error),
        higher_order=_share(
            orders[:, ORDER + 1 :].sum(1) / freedom[ORDER + 1 :].sum(), method_error
        ),
    )


def corrected_divergence(parts: Decomposition, left: Share) -> Corrected:
    """Return D corrected for what errors take away of its fine structure.

    The higher-order interactions are divided by their attenuation, since what they hold is as
    fine as the bins. Parts of up to three factors stay as they are seen: what is coarse loses
    little, and they would be corrected too far. The interval takes the errors of D and of its
    higher-order part to go together, and that of the attenuation as independent. Errors of
    reading only take away: what D is surely seen to be, it is at least.

    Args:
        parts: the decomposition of D as it is seen.
        left: of the higher-order interactions of the same source.
    """
    total, higher = parts.total, parts.part(HIGHER_ORDER).delta
    share = max(left.value, _LEAST)
    more = 1 / share - 1
    # What is estimated below 0 is noise, about which an interval lies as if it were 0.
    added, about = more * higher.reported, total.reported + more * higher.reported
    of_share = NORMAL * left.standard_error / share**2 * higher.reported
    below = total.reported - total.low + more * (higher.reported - higher.low)
    above = total.high - total.reported + more * (higher.high - higher.reported)
    low = max(total.low, about - math.hypot(below, of_share))
    high = max(low, about + math.hypot(above, of_share))
    return Corrected(total.value + added, low, high)


def _read_bins(factor: Factor, bins: np.ndarray, truth: FloatArray, read: FloatArray) -> FloatArray:
    """Return where an image of each bin with the same error is read: shares (n, k_f).

    It may lie anywhere in its bin; with a shift of s bins it is read floor(s) bins on, or one
    more with the probability of the remainder.
    """
    rows = np.arange(len(bins))
    shares = np.zeros((len(bins), factor.bins))
    if factor.topology == "discrete":
        shares[rows, np.rint(read).astype(np.int64)] = 1
        return shares
    error = read - truth
    if factor.topology == "circle":
        error = (error + factor.period / 2) % factor.period - factor.period / 2
    shift = error * (factor.bins / factor.period)
    whole = np.floor(shift)
    for step, share in ((0, 1 - (shift - whole)), (1, shift - whole)):
        places = bins + whole.astype(np.int64) + step
        if factor.topology == "circle":
            places %= factor.bins
        np.add.at(shares, (rows, places.clip(0, factor.bins - 1)), share)
    return shares


def _share(values: FloatArray, method_error: float) -> Share:
    value = float(np.clip(values.mean(), 0, 1))
    of_sample = float(values.std(ddof=1)) / math.sqrt(len(values))
    error = math.hypot(of_sample, method_error * (1 - value))
    reach = student(len(values) - 1) * error
    return Share(value, error, max(0.0, value - reach), min(1.0, value + reach))
