"""Goodness of fit of a histogram: reduced chi-square, divergence, and what they predict.

n_i samples lie in bin i, n in all; the distribution expects the probability q_i in each of k bins,
the source has the probabilities p_i. The reduced chi-square (equation 1 of the paper) grows with
n. What does not is the chi-square divergence

    D = sum_i p_i^2 / q_i - 1        (uniform distribution: k sum_i p_i^2 - 1),

estimated without bias from collisions, pairs of samples in one bin:

    D_hat = sum_i n_i (n_i - 1) / q_i / (n (n - 1)) - 1.

For the uniform distribution X^2 = (n - 1) D_hat + (k - 1) holds exactly; in general the last term
is sum_i n_i / (n q_i) - 1, whose mean is k - 1 under the distribution. So the value that the
paper's protocol would give, with 20 samples per bin, is predicted from any number of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import scipy

from shapeshd.factors import NUM_BINS, FloatArray, IntArray

from .bin_counts import EmptyBins, empty_bins
from .distances import Distances, distances
from .histogram import PER_BIN as PER_BIN
from .histogram import PROTOCOL as PROTOCOL
from .histogram import PROTOCOL_VERSION as PROTOCOL_VERSION
from .histogram import Histogram, read_histogram, require_samples
from .intervals import Estimate, UStatistic, u_statistic


@dataclass(frozen=True)
class Prediction:
    """The reduced chi-square that a protocol is expected to give.

    Attributes:
        protocol: its name, `PROTOCOL`.
        samples: its number of samples, 20 k.
        reduced_chi_square: the expectation over runs; one run scatters about it by
            `run_deviation`.
        run_deviation: standard deviation of one run of an ideal sampler.
    """

    protocol: str
    samples: int
    reduced_chi_square: Estimate
    run_deviation: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {
            "protocol": self.protocol,
            "samples": self.samples,
            "reduced_chi_square": self.reduced_chi_square.to_json(),
            "run_deviation": self.run_deviation,
        }


@dataclass(frozen=True)
class GoodnessOfFit:
    """What a histogram says about its source.

    Attributes:
        samples: n.
        bins: k, bins of positive probability.
        chi_square: Pearson's X^2.
        degrees_of_freedom: k - 1.
        reduced_chi_square: X^2 / (k - 1), equation 1.
        p_value: probability that an ideal sampler gives as large an X^2, or a larger one.
        divergence: D.
        prediction: reduced chi-square at 20 samples per bin.
        distances: Kullback-Leibler divergence and total variation.
        empty_bins: their number, beside the distribution's.
    """

    samples: int
    bins: int
    chi_square: float
    degrees_of_freedom: int
    reduced_chi_square: float
    p_value: float
    divergence: Estimate
    prediction: Prediction
    distances: Distances
    empty_bins: EmptyBins

    @property
    def expected_per_bin(self) -> float:
        """n / k."""
        return self.samples / self.bins

    def to_json(self) -> dict[str, Any]:
        """Return the fields and `expected_per_bin`, ready for JSON."""
        return {
            "samples": self.samples,
            "bins": self.bins,
            "expected_per_bin": self.expected_per_bin,
            "chi_square": self.chi_square,
            "degrees_of_freedom": self.degrees_of_freedom,
            "reduced_chi_square": self.reduced_chi_square,
            "p_value": self.p_value,
            "divergence": self.divergence.to_json(),
            "prediction": self.prediction.to_json(),
            "distances": self.distances.to_json(),
            "empty_bins": self.empty_bins.to_json(),
        }


def goodness_of_fit(
    counts: npt.ArrayLike, distribution: npt.ArrayLike | None = None, *, bins: int = NUM_BINS
) -> GoodnessOfFit:
    """Test a histogram against its expected distribution.

    Args:
        counts: n_i, integers of shape (k,) or a table of k cells in C order (`BIN_SHAPE`).
        distribution: q_i, k probabilities of total 1; None for the uniform distribution. Bins of
            probability 0 must be empty, and do not count in k.
        bins: k, where `distribution` is None.

    Raises:
        UsageError: if the input is no histogram of this distribution (see `read_histogram`), or if
            there are fewer samples than `min_samples_under` says; the message tells the number.
    """
    histogram = read_histogram(counts, distribution, bins=bins)
    n, k = histogram.samples, histogram.bins
    require_samples(n, k, histogram.distribution)
    x2 = chi_square(histogram)
    divergence = divergence_statistic(histogram.counts, histogram.weights).estimate()
    return GoodnessOfFit(
        samples=n,
        bins=k,
        chi_square=x2,
        degrees_of_freedom=k - 1,
        reduced_chi_square=x2 / (k - 1),
        p_value=chi_square_p_value(x2, histogram),
        divergence=divergence,
        prediction=predict(histogram, divergence),
        distances=distances(histogram),
        empty_bins=empty_bins(histogram),
    )


def chi_square(histogram: Histogram) -> float:
    """Return Pearson's X^2 = sum_i (n_i - n q_i)^2 / (n q_i), the numerator of equation 1."""
    n = histogram.samples
    residual = histogram.counts - n * histogram.distribution
    return float(residual**2 @ histogram.weights) / n


def chi_square_p_value(x2: float, histogram: Histogram) -> float:
    """Return the probability that an ideal sampler gives `x2` or more.

    That of the chi-square distribution with k - 1 degrees of freedom (SciPy), whose variance
    2 (k - 1) is that of X^2 for the uniform distribution at any n (less the factor 1 - 1/n). Rare
    bins make the variance larger (`chi_square_variance`); then the distribution is stretched to
    it, its mean k - 1 kept (Satterthwaite).
    """
    n, k = histogram.samples, histogram.bins
    stretch = max(1.0, chi_square_variance(n, k, rarity(histogram.weights)) / (2 * (k - 1)))
    return float(scipy.stats.chi2.sf(x2 / stretch, (k - 1) / stretch))


def rarity(weights: FloatArray) -> float:
    """Return sum_i 1/q_i - k^2: 0 where all bins are as likely as each other.

    Args:
        weights: 1 / q_i of the k bins of positive probability, float64 of shape (k,).
    """
    return float(weights.sum()) - float(len(weights)) ** 2


def chi_square_variance(samples: int, bins: int, rare: float = 0.0) -> float:
    """Return the variance of X^2 over runs of an ideal sampler, exactly.

    Args:
        samples: n, of each run.
        bins: k.
        rare: `rarity` of the distribution.
    """
    return 2.0 * (bins - 1) + (rare - 2 * bins + 2) / samples


def divergence_statistic(counts: IntArray, weights: FloatArray) -> UStatistic:
    """Return D_hat and all that its interval needs.

    The kernel is h(x, y) = 1/q_x if x = y, else 0, less 1.

    Args:
        counts: n_i, int64 of shape (k,), at least four samples.
        weights: 1 / q_i, float64 of shape (k,).
    """
    n = int(counts.sum())
    coinciding = counts * (counts - 1.0)
    squares = float(coinciding @ (weights * (weights - 2))) + float(n) * (n - 1)
    dimensions = len(counts) - 1.0
    return u_statistic(
        counts, weights * counts - n, weights - 1, squares, dimensions=dimensions, whole=True
    )


def predict(histogram: Histogram, divergence: Estimate) -> Prediction:
    """Predict the reduced chi-square at 20 samples per bin from the divergence.

    E X^2 at m samples is (m - 1) D + sum_i p_i / q_i - 1. Its last term is k - 1 for the
    uniform distribution. For another one it is estimated, and its error (correlated with that of D)
    widens the interval. It differs from k - 1 by at most sqrt(D (sum_i 1/q_i - k^2)), by Cauchy
    and Schwarz, so that the reduced chi-square is at least 1 - (sum_i 1/q_i - k^2) / (4 (m - 1)
    (k - 1)).
    """
    n, k = histogram.samples, histogram.bins
    m = PER_BIN * k
    weights, frequencies = histogram.weights, histogram.counts / n
    slope = (m - 1) / (k - 1)
    mean_weight = float(histogram.counts @ weights) / n  # k exactly, for the uniform distribution
    centred = weights - mean_weight
    # Var(a U + b W) = a^2 Var U + 2 a b Cov(U, W) + b^2 Var W; Cov(U, W) = 2 Cov(w p, w) / n.
    ratio = weights * (histogram.counts - 1) / (n - 1)  # of p to q, by all other samples
    covariance = 2 * float((frequencies * centred) @ ratio) / n
    own = float(frequencies @ centred**2) / (k - 1) ** 2 / n
    # Near the distribution the covariance is noise: a negative one must not hide the last term's
    # error.
    extra = own + max(0.0, 2 * slope * covariance / (k - 1))
    rare = rarity(weights)
    floor = max(0.0, 1 - rare / (4 * (m - 1) * (k - 1)))
    offset, error = (mean_weight - 1) / (k - 1), math.sqrt(extra)
    reduced = divergence.scaled(slope, offset, error, floor)
    deviation = math.sqrt(chi_square_variance(m, k, rare)) / (k - 1)
    return Prediction(PROTOCOL, m, reduced, deviation)
