"""Kullback-Leibler divergence and total variation, beside the chi-square divergence.

Both are biased upwards when taken from frequencies: an ideal sampler seems to be far from the
distribution as long as the bins hold few samples. No unbiased estimate exists. What the
distribution itself would give at the same n is computed and subtracted, so that an ideal sampler
gives 0 on average. Neither has an interval; decide by the divergence.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy import special

from shapeshd.factors import FloatArray, IntArray

from .histogram import Histogram


@dataclass(frozen=True)
class Distances:
    """Two other distances of the source p from the distribution q.

    Attributes:
        kullback_leibler: KL(p || q) in nats, bias-corrected; see `kullback_leibler`.
        total_variation: half the sum of |n_i / n - q_i|, in [0, 1], not corrected.
        total_variation_ideal: its expectation for an ideal sampler at this n.
    """

    kullback_leibler: float
    total_variation: float
    total_variation_ideal: float

    def to_json(self) -> dict[str, float]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def distances(histogram: Histogram) -> Distances:
    """Return the distances of a histogram from its distribution."""
    return Distances(
        kullback_leibler(histogram), total_variation(histogram), total_variation_ideal(histogram)
    )


def kullback_leibler(histogram: Histogram) -> float:
    """Estimate KL(p || q) = sum_i p_i ln(p_i / q_i), in nats; noise can bring it below 0.

    The entropy of p is estimated by Grassberger (2003, arXiv:physics/0307138): n_i ln n_i is
    replaced by n_i G(n_i), whose bias for a Poisson count of mean m is m E1(2 m) instead of
    about 1/2 (E1 is the exponential integral). What is left of the bias under the distribution,
    sum_i q_i E1(2 n q_i) and the effect of a fixed n, is subtracted. So it is unbiased under
    the distribution. A small KL is then seen 1 + (2 m - 1) exp(-2 m) times as large as it is, m = n
    / k: up to 14% too large from 0.5 samples per bin on, but only 40% of it at n = 20,000 (m =
    0.12).
    """
    n, counts, distribution = histogram.samples, histogram.counts, histogram.distribution
    occupied = counts > 0
    held = counts[occupied]
    plain = float(held @ (_grassberger(held) - np.log(n * distribution[occupied]))) / n
    means = n * distribution
    # With n fixed, counts vary less than Poisson's: half the curvature m E[m G(m)]'' is missing.
    curvature = 1 + np.exp(-2 * means) * (2 * means - 1)
    bias = float(distribution @ special.exp1(2 * means)) - float(distribution @ curvature) / (2 * n)
    return plain - bias


def _grassberger(counts: IntArray) -> FloatArray:
    """Return G(n) = psi(n) + (-1)^n [psi((n + 1) / 2) - psi(n / 2)] / 2 for n >= 1."""
    n = counts.astype(np.float64)
    sign = np.where(counts % 2, -1.0, 1.0)
    half: FloatArray = sign * (special.psi((n + 1) / 2) - special.psi(n / 2)) / 2
    digamma: FloatArray = special.psi(n)
    return digamma + half


def total_variation(histogram: Histogram) -> float:
    """Return half the sum of |n_i / n - q_i|, in [0, 1]."""
    frequencies = histogram.counts / histogram.samples
    return float(np.abs(frequencies - histogram.distribution).sum()) / 2


def total_variation_ideal(histogram: Histogram) -> float:
    """Return the expected total variation between the distribution and n samples of it.

    The mean absolute deviation of a binomial count is De Moivre's
    2 (1 - q) m C(n, m) q^m (1 - q)^(n - m), with m = floor(n q) + 1.
    """
    n, distribution = histogram.samples, histogram.distribution
    m = np.floor(n * distribution) + 1
    log_binomial = special.gammaln(n + 1) - special.gammaln(m + 1) - special.gammaln(n - m + 1)
    log_mass = log_binomial + m * np.log(distribution) + (n - m) * np.log1p(-distribution)
    return float(((1 - distribution) * m * np.exp(log_mass)).sum()) / n
