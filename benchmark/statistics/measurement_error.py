"""What a recognizer's errors make of a known distribution, and samples outside of it.

**Where the distribution has none.** A sample in a bin with q = 0 makes D = sum p^2 / q - 1
infinite. A recognizer that errs at the border of two bins puts a few real images there, too, so a
score is not refused: such samples are counted and left out, all estimates are of the others, and
the verdict fails if they are more than twice what the recognizer's own errors can explain: the
upper end of that share, which is known from a finite number of held-out images alone.

**What errors do.** Under the uniform distribution errors at borders cancel; where q steps from bin
to bin they do not: more images cross from a frequent bin to a rare one than back. With the
confusion C_j of each factor (rows of total 1), errors being independent, images of the distribution
itself are read as q' = q C_0 x C_1 x ... x C_5: their divergence from q is what a perfect source
would get.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from shapeshd.distribution import Distribution
from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, NAMES, FloatArray, IntArray

from .histogram import min_samples_under

_CONFIDENCE = 0.975
_MARGIN = 2.0  # times what errors explain is still no fault


@dataclass(frozen=True)
class Outside:
    """Samples in bins to which the distribution gives the probability 0.

    Attributes:
        samples: how many.
        bins: in how many bins they lie.
        share: of all samples.
        explained: the share that the recognizer's errors explain; 0 if they are unknown.
        surely: lower end of the share: an exact one-sided interval of 97.5%.
        explained_at_most: upper end of the explained share, likewise.
    """

    samples: int
    bins: int
    share: float
    explained: float
    surely: float
    explained_at_most: float = 0.0

    @property
    def wrong(self) -> bool:
        """Whether they are more than errors explain: D is infinite."""
        return self.surely > _MARGIN * max(self.explained, self.explained_at_most)


@dataclass(frozen=True, eq=False)
class MeasurementError:
    """A distribution as a recognizer reads images of it.

    Attributes:
        distribution: of the images.
        read: q', the probabilities of the bins in which they are found, float64 (k,).
        images: as many held-out images of the distribution would tell as much of the errors as the
            confusions do, at least: the fewest images of a bin per its probability.
    """

    distribution: Distribution
    read: FloatArray
    images: float = math.inf

    @classmethod
    def of(
        cls, distribution: Distribution, confusions: Mapping[str, npt.ArrayLike]
    ) -> MeasurementError:
        """Return it for a recognizer.

        Args:
            distribution: of the images.
            confusions: for each factor (k_j, k_j), images of the true bin (row) that were read as
                another (column).
        """
        table, images = distribution.expected().reshape(BIN_SHAPE), math.inf
        for axis, name in enumerate(NAMES):
            confusion = np.asarray(confusions[name], dtype=np.float64)
            q = distribution.marginal(name)
            images = min(images, float((confusion.sum(axis=1)[q > 0] / q[q > 0]).min()))
            rows = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
            table = np.moveaxis(np.tensordot(table, rows, (axis, 0)), -1, axis)
        return cls(distribution, np.asarray(table).ravel(), images)

    @property
    def outside(self) -> float:
        """Share of the images that are found where the distribution has none."""
        return float(self.read[self.distribution.expected() == 0].sum())

    @property
    def outside_at_most(self) -> float:
        """Upper end of that share, of an exact one-sided interval of 97.5%."""
        if math.isinf(self.images):
            return self.outside
        images = max(self.images, 1.0)
        found = min(self.outside, 1.0) * images
        if images - found < 1e-9:
            return 1.0
        return float(scipy.stats.beta.ppf(_CONFIDENCE, found + 1, images - found))

    def divergence(self, *names: str) -> float:
        """Return D of the histogram of some factors, or of all, of what lies inside."""
        q = self.distribution.expected()
        inside = np.where(q > 0, self.read, 0.0) / (1 - self.outside)
        if names:
            others = tuple(axis for axis, name in enumerate(NAMES) if name not in names)
            q, inside = (table.reshape(BIN_SHAPE).sum(axis=others) for table in (q, inside))
        return float((inside[q > 0] ** 2 / q[q > 0]).sum()) - 1


def split_outside(
    counts: IntArray, distribution: Distribution, measurement_error: MeasurementError | None = None
) -> tuple[IntArray, Outside]:
    """Return the counts where the distribution has some (0 elsewhere), and what lies outside of it.

    Args:
        counts: int64 (k,), a sample at least.
        distribution: of positive probability in two bins at least.
        measurement_error: the same distribution as the recognizer reads it.
    """
    possible = distribution.expected() > 0
    inside = np.where(possible, counts, 0)
    total, kept = int(counts.sum()), int(inside.sum())
    out = total - kept
    surely = float(scipy.stats.beta.ppf(1 - _CONFIDENCE, out, total - out + 1)) if out else 0.0
    explained = measurement_error.outside if measurement_error else 0.0
    at_most = measurement_error.outside_at_most if measurement_error else 0.0
    bins = int((counts[~possible] > 0).sum())
    return inside, Outside(out, bins, out / total, explained, surely, at_most)


def require_inside(inside: IntArray, outside: Outside, distribution: Distribution) -> None:
    """Raise `UsageError` if too few samples lie where the distribution has some."""
    kept, needed = int(inside.sum()), min_samples_under(distribution.expected())
    if outside.samples and kept < needed:
        raise UsageError(
            f"{outside.samples:,} of {kept + outside.samples:,} samples lie where the "
            "distribution has none "
            f"(D is infinite), and the other {kept:,} are too few to test: {needed:,} are needed"
        )


def check_testable(distribution: Distribution) -> None:
    """Raise `UsageError` if nothing can be tested under a distribution."""
    if distribution.bins < 2:
        raise UsageError("the distribution puts everything into one bin: nothing can be tested")
