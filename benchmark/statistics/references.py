"""What a score is compared with: the ideal sampler, the memorizer, the detection limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy

from shapeshd.errors import UsageError
from shapeshd.factors import NUM_BINS

from .chi_square import PER_BIN, chi_square_variance
from .intervals import CONFIDENCE

TRAINING_SET = 500_000
"""Images of the paper's dataset: what a memorizer would repeat."""


@dataclass(frozen=True)
class Reference:
    """A source whose score is known beforehand.

    Attributes:
        name: such as "ideal sampler".
        divergence: its D.
        reduced_chi_square: expectation at 20 samples per bin.
        deviation: standard deviation of that over runs (and over training sets).
    """

    name: str
    divergence: float
    reduced_chi_square: float
    deviation: float


@dataclass(frozen=True)
class DetectionLimit:
    """The smallest divergence that so many samples surely tell from what errors explain.

    Attributes:
        samples: n.
        divergence: the limit; see `detection_limit`.
        reduced_chi_square: the same at 20 samples per bin.
        margin: divergence up to which a source does not fail: what the recognizer's errors explain.
        level: probability of an alarm at the margin.
        power: probability of an alarm at the limit.
    """

    samples: int
    divergence: float
    reduced_chi_square: float
    margin: float
    level: float
    power: float


def ideal_sampler(bins: int = NUM_BINS, rare: float = 0.0) -> Reference:
    """Return the row of samples of the distribution itself.

    Its reduced chi-square is 1.00; the deviation is 0.0035 under the uniform distribution, and
    larger where some bins are rare.

    Args:
        bins: k.
        rare: `rarity` of the distribution.
    """
    deviation = math.sqrt(chi_square_variance(PER_BIN * bins, bins, rare)) / (bins - 1)
    return Reference("ideal sampler", 0.0, 1.0, deviation)


def memorizer(images: int, bins: int = NUM_BINS, rare: float = 0.0) -> Reference:
    """Return the row of a generator that repeats its training images at random.

    N images drawn from the distribution have the divergence (k - 1) / N on average, whatever the
    distribution (E p_i^2 = q_i^2 + q_i (1 - q_i) / N). 500,000 images give 7.64 at 20 samples per
    bin: a model below that has learnt more than its images.

    Args:
        images: N, >= 1.
        bins: k.
        rare: `rarity` of the distribution.
    """
    if images < 1:
        raise UsageError(f"a training set has at least 1 image, not {images}")
    divergence = (bins - 1) / images
    protocol = PER_BIN * bins
    expected = 1 + (protocol - 1) / images
    # Each of two draws scatters: the images' own chi-square, and that of the run about it. Rare
    # bins add as much as to the fourth cumulant of a Poisson number of Poisson numbers.
    of_images = (protocol - 1) / images * math.sqrt(chi_square_variance(images, bins, rare))
    of_run = chi_square_variance(protocol, bins, rare) + 2 * (bins - 1) * divergence
    of_run += 4 * protocol * divergence + rare * (7 + 6 * protocol / images) / images
    deviation = math.hypot(of_images, math.sqrt(of_run)) / (bins - 1)
    return Reference(f"memorizer of {images:,} images", divergence, expected, deviation)


def detection_limit(
    samples: int,
    bins: int = NUM_BINS,
    *,
    margin: float = 0.0,
    level: float = (1 - CONFIDENCE) / 2,
    power: float = 0.8,
) -> DetectionLimit:
    """Return the smallest D that a verdict on so many samples finds.

    A source fails if the lower end of the interval of D lies above the margin: if a test of D =
    `margin` rejects at `level`. At the limit it does so with the probability `power`. X^2 is
    distributed like a noncentral chi-square with k - 1 degrees of freedom and noncentrality
    (n - 1) D, if D is noise over all bins. One factor or a set of two or three alone is found from
    a much smaller divergence on, by its part.

    Args:
        samples: n, >= 2.
        bins: k, >= 2.
        margin: divergence that the recognizer's errors explain, >= 0.
        level: in (0, 0.5].
        power: in [0.5, 1).

    Raises:
        UsageError: if an argument is out of range.
    """
    if samples < 2 or bins < 2:
        raise UsageError(f"a test takes 2 samples and 2 bins at least, not {samples} and {bins}")
    if not (0 < level <= 0.5 <= power < 1 and 0 <= margin < math.inf):
        raise UsageError(
            f"level {level}, power {power} and margin {margin} must satisfy 0 < level <= 0.5 <= "
            "power < 1 and margin >= 0"
        )
    freedom, explained = bins - 1, (samples - 1) * margin
    null = scipy.stats.ncx2(freedom, explained) if explained else scipy.stats.chi2(freedom)
    critical = float(null.isf(level))

    def excess(more: float) -> float:
        return float(scipy.stats.ncx2.sf(critical, freedom, explained + more)) - power

    upper = 4 * math.sqrt(2 * freedom + 4 * explained) + 8
    while excess(upper) < 0:
        upper *= 2
    found = explained + float(scipy.optimize.brentq(excess, 1e-9, upper))
    divergence = found / (samples - 1)
    predicted = 1 + (PER_BIN * bins - 1) * divergence / freedom
    return DetectionLimit(samples, divergence, predicted, margin, level, power)
