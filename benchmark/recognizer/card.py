"""The schema of a recognizer's card: what it was trained on, and how well it reads.

A wrong bin is one of two kinds. The true value can lie so close to the border of its bin that
a tiny error carries it over: such errors are as many as the mean error is large, and hardly
change a histogram, because as many go the other way. Or the error is more than half a bin, or the
shape is wrong. That is a *gross error*, and there should be none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, ConfigDict, Field

from shapeshd.benchmark.statistics.record import (
    AtLeastOne,
    ByFactor,
    Count,
    EstimateRecord,
    Number,
    Positive,
    Record,
    Share,
)
from shapeshd.support.schema import validated

_GROSS_ERRORS = AliasChoices("gross_errors", "blunders")  # the second in cards of earlier versions


class Origin(Record):
    """Where images come from, as far as that is known.

    Attributes:
        dataset: what the user called it.
        images: how many there are.
        size: width and height, pixels.
        renderer: what made them; None if unknown.
        seed: whose images they are; None if their factors are not drawn from a seed.
        start: index of the first of them.
        scene_sha256: of the scene that was rendered; None if unknown.
        held_out_from: row of the first image in the dataset, where its last ones were evaluated.
        command: that rendered the dataset; None where that was not recorded.
    """

    dataset: str | None = None
    images: AtLeastOne
    size: AtLeastOne | None = None
    renderer: str | None = None
    seed: Count | None = None
    start: Count = 0
    scene_sha256: str | None = None
    held_out_from: Count | None = None
    command: str | None = None


class FactorAccuracy(Record):
    """How well one factor is read.

    Attributes:
        unit: of the errors: degrees for hues and orientation, the scale's own; none for shape.
        accuracy: share of images in the right bin.
        mean_absolute_error: in `unit`; None for the shape.
        median_absolute_error: the same.
        p99_absolute_error: 99% of errors are smaller.
        largest_error: the same unit.
        bias: mean signed error, recognised less true.
        confusion: (bins, bins): images of the true bin (row) read as another (column).
        border_errors: wrong bins with an error of half a bin or less.
        gross_errors: images with an error of more than half a bin, or a wrong shape.
    """

    unit: str | None = None
    accuracy: Share
    mean_absolute_error: Positive | None = None
    median_absolute_error: Positive | None = None
    p99_absolute_error: Positive | None = None
    largest_error: Positive | None = None
    bias: Number | None = None
    confusion: tuple[tuple[Count, ...], ...]
    border_errors: Count = 0
    gross_errors: Count = Field(0, validation_alias=_GROSS_ERRORS)


class GrossError(Record):
    """A gross error: number of the image, factor, true and recognised value."""

    image: Count
    factor: str
    true: Number
    recognised: Number


class GrossErrors(Record):
    """Images with a gross error in any factor.

    Attributes:
        count: how many.
        worst: some of these errors, worst first (wrong shapes, then by the error in bins).
    """

    count: Count
    worst: tuple[GrossError, ...]


class Accuracy(Record):
    """How well a recognizer reads; an entry of a leaderboard has the first two alone.

    Attributes:
        images: how many were read.
        joint_accuracy: share of images with all six bins right.
        factors: by name, all six.
        gross_errors: how many images, and the worst.
        border_errors: wrong bins with an error of half a bin or less, of all factors.
        data: the images that were read.
    """

    images: AtLeastOne
    joint_accuracy: Share
    factors: ByFactor[FactorAccuracy] | None = None
    gross_errors: GrossErrors | None = Field(None, validation_alias=_GROSS_ERRORS)
    border_errors: Count | None = None
    data: Origin | None = None


class NoiseFloor(Record):
    """What images of the true process score.

    Attributes:
        images: how many were read.
        seed: of their factors.
        divergence: D, whose interval should contain 0.
        reduced_chi_square: at 20 samples per bin.
        p_value: of the chi-square test.
    """

    images: AtLeastOne
    seed: Count | None = None
    divergence: EstimateRecord
    reduced_chi_square: EstimateRecord
    p_value: Share | None = None


class TrainingRecord(Record):
    """How a recognizer was trained; a training records more than these fields.

    Attributes:
        data: the images that it was trained on.
        scene_version: of these images; None if it is not known, and in older cards.
        command: the command line that trained it; None if a program did, and in older cards.
    """

    model_config = ConfigDict(extra="allow")

    data: Origin | None = None
    scene_version: int | None = None
    command: str | None = None


class Measured(Record):
    """What was measured of a recognizer in one precision.

    Attributes:
        accuracy: how well it reads images that it was not trained on.
        noise_floor: what images of the true process score.
    """

    accuracy: Accuracy | None = None
    noise_floor: NoiseFloor | None = None


class RecognizerCard(Record):
    """What is known of a recognizer; each part may be missing, and a card may say more.

    Attributes:
        network: see `NetworkConfig`.
        training: how it was trained.
        accuracy: how well it reads images that it was not trained on, in fp32.
        noise_floor: what images of the true process score, in fp32.
        bf16: the same of its convolutions in bf16.
    """

    model_config = ConfigDict(extra="allow")

    network: dict[str, Any] | None = None
    training: TrainingRecord | None = None
    accuracy: Accuracy | None = None
    noise_floor: NoiseFloor | None = None
    bf16: Measured | None = None

    def measured(self, precision: str | None) -> Measured:
        """Return what was measured in "bf16", or in "fp32" (as of None); empty if nothing was."""
        if precision == "bf16":
            return self.bf16 or Measured()
        return Measured(accuracy=self.accuracy, noise_floor=self.noise_floor)

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str = "") -> RecognizerCard:
        """Return the card that a checkpoint holds.

        Args:
            values: its fields.
            where: what a message begins with.

        Raises:
            UsageError: naming the first field that is wrong.
        """
        return validated(cls, dict(values), where)

    @property
    def trained_on(self) -> Origin | None:
        """The images that it was trained on; None if they are not known."""
        return None if self.training is None else self.training.data
