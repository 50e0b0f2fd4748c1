"""The schema of ``result.json`` and of the entries of a leaderboard.

`Result` is what ``result.json`` holds, `Entry` what a leaderboard keeps of it; their common fields
are those of `ScoreRecord`. The arrays' meaning is that of the statistics' objects of the same
name (`EstimateRecord` is an `Estimate` in a file).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, field_validator, model_validator

from shapeshd.distribution import Distribution
from shapeshd.factors import BIN_SHAPE, NAMES

from .fidelity import FidelityRecord, FileRecord
from .record import Count, Flag, Number, Positive, Record, Share, Text


def _known_factor(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"must be one of {', '.join(NAMES)}")
    return name


FactorName = Annotated[Text, AfterValidator(_known_factor)]


class EstimateRecord(Record):
    """An estimate with standard error and 95% interval; `reported` is not below `floor`."""

    value: Number
    standard_error: Positive
    low: Number
    high: Number
    floor: Number
    reported: Number


class PredictionRecord(Record):
    """The reduced chi-square that the protocol is expected to give."""

    protocol: Text
    samples: Count
    reduced_chi_square: EstimateRecord
    run_deviation: Number


class DistancesRecord(Record):
    """Kullback-Leibler divergence, nats, and total variation, beside an ideal sampler's."""

    kullback_leibler: Number
    total_variation: Number
    total_variation_ideal: Number


class EmptyBinsRecord(Record):
    """Number of empty bins, and its expectation and deviation under the distribution."""

    observed: Count
    expected: Number
    deviation: Number


class FitRecord(Record):
    """The test of all bins."""

    samples: Count
    bins: Count
    expected_per_bin: Number
    chi_square: Number
    degrees_of_freedom: Count
    reduced_chi_square: Number
    p_value: Share
    divergence: EstimateRecord
    prediction: PredictionRecord
    distances: DistancesRecord
    empty_bins: EmptyBinsRecord


class PartRecord(Record):
    """A part of the divergence: of a factor, a pair, or of higher-order interactions."""

    name: Text
    factors: tuple[FactorName, ...]
    delta: EstimateRecord
    divergence: EstimateRecord | None
    share: Number | None
    explained: Number
    p_value: Share
    p_holm: Share
    significant: Flag


class DecompositionRecord(Record):
    """The parts of the divergence, the largest first; an entry has the largest ones alone.

    `total` (D) and `summary` (a sentence) stand in results, `number_of_parts` in entries.
    """

    total: EstimateRecord | None = None
    parts: tuple[PartRecord, ...]
    summary: Text | None = None
    number_of_parts: Count | None = None

    @property
    def significant(self) -> tuple[PartRecord, ...]:
        """The parts that differ significantly from 0, the largest first."""
        return tuple(part for part in self.parts if part.significant)


class BinCountsRecord(Record):
    """How many bins hold exactly j samples, beside the binomial expectation."""

    observed: tuple[Count, ...]
    expected: tuple[Number, ...]
    observed_beyond: Count
    expected_beyond: Number

    @model_validator(mode="after")
    def _of_one_length(self) -> BinCountsRecord:
        if not self.observed or len(self.observed) != len(self.expected):
            raise ValueError("observed and expected must be lists of one length")
        return self


class ReferenceRecord(Record):
    """A source whose score is known: the ideal sampler, real images, the memorizer."""

    name: Text
    divergence: Number
    reduced_chi_square: Number
    deviation: Number


class DetectionLimitRecord(Record):
    """The smallest divergence that so many samples can tell from zero."""

    samples: Count
    divergence: Number
    reduced_chi_square: Number
    level: Share
    power: Share


class OutsideRecord(Record):
    """Samples where the distribution has none; `wrong`: more than errors explain, D is infinite."""

    samples: Count
    bins: Count
    share: Share
    explained: Share
    surely: Share
    wrong: Flag


class MeasurementErrorRecord(Record):
    """What images of the distribution itself would be read as: their D, and the share outside."""

    divergence: Number
    outside: Share


class DistributionRecord(Record):
    """The known distribution that the samples should follow, where it is not uniform."""

    text: Text
    digest: Text
    bins: Count
    probabilities: dict[str, Any]
    measurement_error: MeasurementErrorRecord | None

    @cached_property
    def distribution(self) -> Distribution:
        """The distribution itself."""
        return Distribution.from_json(self.probabilities)


class AttenuationRecord(Record):
    """The share of a divergence that is left after the recognizer's errors."""

    factors: dict[str, Number]
    joint: Number
    of_this_source: Number | None
    meaning: Text


class FactorAccuracyRecord(Record):
    """How well a factor is read; see `FactorAccuracy`. Recognizers may record more."""

    model_config = ConfigDict(extra="allow")

    accuracy: Share
    mean_absolute_error: Number | None
    confusion: tuple[tuple[Count, ...], ...]


class GrossErrorsRecord(Record):
    """Images with a gross error, and some of the worst."""

    count: Count
    worst: tuple[dict[str, Any], ...] = ()


class AccuracyRecord(Record):
    """A recognizer's accuracy on images that it was not trained on; an entry has totals alone."""

    model_config = ConfigDict(extra="allow")

    images: Count
    joint_accuracy: Share
    factors: dict[str, FactorAccuracyRecord] | None = None
    gross_errors: GrossErrorsRecord | None = None
    border_errors: Count | None = None

    @field_validator("factors")
    @classmethod
    def _of_all_factors(cls, factors: Any) -> Any:
        if factors is not None:
            _check_names(factors)
        return factors


class NoiseFloorRecord(Record):
    """The score of real images through the recognizer."""

    model_config = ConfigDict(extra="allow")

    images: Count
    divergence: EstimateRecord
    reduced_chi_square: EstimateRecord


class RecognizerRecord(Record):
    """What read the images, and how well it reads; None where its card does not say."""

    name: Text
    digest: Text | None
    size: Count
    accuracy: AccuracyRecord | None
    noise_floor: NoiseFloorRecord | None


class SourceRecord(Record):
    """What was scored: its name, kind, number of images (None: no end), digest of its file.

    Each kind of source says more of itself in further fields.
    """

    model_config = ConfigDict(extra="allow")

    name: Text
    kind: Text
    count: Count | None
    content: Text | None = None

    @property
    def title(self) -> str:
        """What the user called the source, on one line."""
        return " ".join(self.name.split()) or "(no name)"

    @property
    def details(self) -> dict[str, Any]:
        """The further fields of this kind of source, with `count` and `content`."""
        return {name: value for name, value in self if name not in ("name", "kind")}


class ImagesRecord(Record):
    """Size of the source's images, pixels, and how they were brought to the recognizer's size."""

    height: Count
    width: Count
    resized_to: Count | None
    resized_by: Text | None = None


class SceneRecord(Record):
    """Digests of the installed scene and of that of the recognizer's training images."""

    sha256: Text
    renderer: Text | None
    trained_on: Text | None
    installed: Flag | None


class VerdictRecord(Record):
    """Whether no deviation is seen, and what the score says in sentences."""

    passed: Flag
    text: Text


class RunRecord(Record):
    """How long the run took and where; an entry has the device and the command at least."""

    seconds: Number | None = None
    images_per_second: Number | None = None
    device: Text | None = None
    world_size: Count | None = None
    resumed: Flag | None = None
    command: Text | None = None


class PairRecord(Record):
    """Counts of the cells of two factors."""

    factors: tuple[FactorName, FactorName]
    counts: tuple[tuple[Count, ...], ...]

    @model_validator(mode="after")
    def _of_its_bins(self) -> PairRecord:
        rows, columns = (BIN_SHAPE[NAMES.index(name)] for name in self.factors)
        if [len(row) for row in self.counts] != [columns] * rows:
            raise ValueError(f"counts must be a table of {rows} x {columns} numbers")
        return self


class HistogramRecord(FileRecord):
    """The file of the joint histogram, and the SHA-256 of its counts as int64."""

    sha256: Text


class ScoreRecord(Record):
    """What results and entries have in common."""

    format: Text
    format_version: Literal[2]
    created: Text
    versions: dict[str, Text]
    source: SourceRecord
    images: ImagesRecord
    recognizer: RecognizerRecord
    scene: SceneRecord | None = None
    protocol: Text | None
    samples: Count
    seed: Count
    distribution: DistributionRecord | None = None
    outside: OutsideRecord | None = None
    fit: FitRecord
    decomposition: DecompositionRecord
    references: tuple[ReferenceRecord, ...]
    detection_limit: DetectionLimitRecord
    verdict: VerdictRecord
    fidelity: FidelityRecord | None = None
    run: RunRecord

    @property
    def expected_distribution(self) -> Distribution | None:
        """The distribution that the samples should follow; None for the uniform one."""
        return None if self.distribution is None else self.distribution.distribution

    @property
    def is_infinite(self) -> bool:
        """Whether more samples lie where the distribution has none than errors explain."""
        return self.outside is not None and self.outside.wrong

    @property
    def divergence_value(self) -> float:
        """D as estimated, or infinity where samples lie outside of the distribution."""
        return math.inf if self.is_infinite else self.fit.divergence.value


class Entry(ScoreRecord):
    """An entry of a leaderboard: a result without its histograms, pictures and folders."""

    format: Literal["shapeshd-entry"]
    model: Text

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a new dict, ready for JSON; the model's name comes first."""
        values = super().to_json()
        return {name: values.pop(name) for name in ("format", "model")} | values


class Result(ScoreRecord):
    """What ``result.json`` holds."""

    format: Literal["shapeshd-result"]
    bin_counts: BinCountsRecord
    attenuation: AttenuationRecord | None
    marginals: dict[str, tuple[Count, ...]]
    pairs: tuple[PairRecord, ...]
    histogram: HistogramRecord
    examples: FileRecord

    @field_validator("marginals")
    @classmethod
    def _of_all_bins(cls, marginals: Any) -> Any:
        _check_names(marginals)
        for name, bins in zip(NAMES, BIN_SHAPE, strict=True):
            if len(marginals[name]) != bins:
                raise ValueError(f"{name} must be a list of {bins} numbers")
        return marginals


def _check_names(table: Mapping[str, Any]) -> None:
    if set(table) != set(NAMES):
        raise ValueError(f"must have the keys {', '.join(NAMES)}")
