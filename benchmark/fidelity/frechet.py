"""Frechet distance of two sets of features: FID (Heusel et al. 2017, eq. 6).

Each set is summed up by a normal distribution, and the distance of the two distributions is

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^(1/2) S2 S1^(1/2))^(1/2).

The last trace is the sum of the singular values of R1^T R2, for any factors S = R R^T. They come
from `eigh`, which holds also where a covariance has not its full rank (fewer images than features).
No square root is taken of a product of covariances: that would lose half of the digits of its small
eigenvalues, and give a set another distance from itself than 0.

**Bias.** The value of finite sets is too large, by about c / n: of two sets of real images it is
above 0. So it compares only at equal numbers of images. `Frechet.infinity` is without the term
in 1 / n, what FID-infinity (Chong and Forsyth 2020) extrapolates to: the jackknife tells the
term from the values with a group left out. It may lie below 0, as every unbiased estimate of 0
must. It is None where there are too few images for that term to be all.

**The intervals.** That of `distance` is of its expectation *at these numbers of images*, bias and
all; that of `infinity` of the distance of the true distributions. Both come from the jackknife over
20 groups (8 where there are more than 1024 features, for time), each left out of both sets in turn,
with Student's quantile. `distance` is done on its square root, whose scatter is more even. Where
the two distributions are equal the jackknife is known to give too large a variance (Efron and Stein
1981).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from shapeshd.factors import FloatArray

from .intervals import GROUPS, Interval, groups_of, jackknife

_ENOUGH = 2.0
"""Images per feature from which on the bias is taken for its first term."""
_LARGE = 1024  # features
_FEW_GROUPS = 8


@dataclass(frozen=True)
class Frechet:
    """The distance of two sets of features.

    Attributes:
        distance: its value and 95% interval at these numbers of images, >= 0.
        infinity: the same for images without end, without bias of order 1 / n; None for too
            few images.
    """

    distance: Interval
    infinity: Interval | None


@dataclass(frozen=True)
class Moments:
    """Sums over a set: of 1, of the features (d,), and of their products (d, d).

    Features should lie near 0, such as about the mean of real ones: sums of products lose digits
    far from it.
    """

    count: int
    first: FloatArray
    second: FloatArray

    @classmethod
    def of(cls, features: FloatArray) -> Moments:
        """Return the sums over features, float64 (n, d)."""
        return cls(len(features), features.sum(0), features.T @ features)

    def plus(self, other: Moments) -> Moments:
        """Return the sums over two sets."""
        return Moments(
            self.count + other.count, self.first + other.first, self.second + other.second
        )

    def without(self, other: Moments) -> Moments:
        """Return the sums over the set less those over a part of it."""
        return Moments(
            self.count - other.count, self.first - other.first, self.second - other.second
        )

    def normal(self) -> tuple[FloatArray, FloatArray]:
        """Return mean and unbiased covariance."""
        mean = self.first / self.count
        covariance = (self.second - self.count * np.outer(mean, mean)) / (self.count - 1)
        return mean, covariance


def frechet_between(
    mean1: FloatArray, covariance1: FloatArray, mean2: FloatArray, covariance2: FloatArray
) -> float:
    """Return the squared Frechet distance of two normal distributions; see the module.

    Args:
        mean1: (d,).
        covariance1: (d, d), symmetric and nowhere negative, of any rank.
        mean2: (d,).
        covariance2: (d, d), likewise.
    """
    cross = linalg.svdvals(_factor(covariance1).T @ _factor(covariance2)).sum()
    difference = mean1 - mean2
    squares = difference @ difference + np.trace(covariance1 + covariance2)
    return max(float(squares - 2 * cross), 0.0)


def _factor(covariance: FloatArray) -> FloatArray:
    """Return R of shape (d, rank) with R R^T = covariance."""
    values, vectors = linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))


def frechet_distance(generated: FloatArray, real: FloatArray, seed: int = 0) -> Frechet:
    """Return the Frechet distance of two sets of features.

    Args:
        generated: float64 (n, d).
        real: float64 (m, d).
        seed: of the groups that are left out.
    """
    centre = real.mean(0)  # sums of products lose digits far from 0
    sets = [features - centre for features in (generated, real)]
    whole = [Moments.of(features) for features in sets]
    value = _between(whole[0], whole[1])
    groups = GROUPS if generated.shape[1] <= _LARGE else _FEW_GROUPS
    parts = [groups_of(len(features), seed + place, groups) for place, features in enumerate(sets)]
    left_out = [
        _between(
            whole[0].without(Moments.of(sets[0][parts[0] == group])),
            whole[1].without(Moments.of(sets[1][parts[1] == group])),
        )
        for group in range(groups)
    ]
    known = min(len(generated), len(real)) >= _ENOUGH * generated.shape[1]
    return Frechet(_on_root(value, left_out), _extrapolated(value, left_out) if known else None)


def _on_root(value: float, left_out: list[float]) -> Interval:
    root = jackknife(math.sqrt(value), np.sqrt(left_out))
    return Interval(value, max(root.low, 0.0) ** 2, root.high**2)


def _extrapolated(value: float, left_out: list[float]) -> Interval:
    bias = (len(left_out) - 1) * (float(np.mean(left_out)) - value)
    plain = jackknife(value, left_out)
    reach, unbiased = plain.high - value, value - bias
    return Interval(unbiased, max(0.0, unbiased - reach), max(0.0, unbiased) + reach)


def _between(generated: Moments, real: Moments) -> float:
    return frechet_between(*generated.normal(), *real.normal())
