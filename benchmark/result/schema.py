"""The schema of ``result.json`` and of the entries of a leaderboard.

`Result` is what ``result.json`` holds, `Entry` what a leaderboard keeps of it; their common fields
are those of `ScoreRecord`. The arrays' meaning is that of the statistics' objects of the same
name.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, Literal

from pydantic import ConfigDict, field_validator, model_validator

from shapeshd.benchmark.recognizer.card import Accuracy, NoiseFloor
from shapeshd.benchmark.recognizer.precision import Precision
from shapeshd.benchmark.statistics.record import (
    AtLeastOne,
    ByFactor,
    Count,
    Flag,
    Number,
    Positive,
    Record,
    Share,
    Text,
    encodable,
)
from shapeshd.distribution import Distribution
from shapeshd.factors import BIN_SHAPE, NAMES

from .fidelity import FidelityRecord, FileRecord
from .fit import (
    AttenuationRecord,
    BinCountsRecord,
    CollapseRecord,
    DecompositionRecord,
    DetectionLimitRecord,
    FactorName,
    FitRecord,
    OutsideRecord,
    ReferenceRecord,
)
from .formatting import printable
from .image_check import CorrectedRecord, ImageCheckRecord
from .source_checks import NearCopiesRecord, RepeatsRecord, ReproducibilityRecord

_ROUNDING = 1e-6


class MeasurementErrorRecord(Record):
    """What images of the distribution itself would be read as: their D, and the share outside."""

    divergence: Number
    outside: Share


class DistributionRecord(Record):
    """The known distribution that the samples should follow, where it is not uniform."""

    text: Text
    digest: Text
    bins: AtLeastOne
    probabilities: dict[str, Any]
    measurement_error: MeasurementErrorRecord | None

    @cached_property
    def distribution(self) -> Distribution:
        """The distribution itself."""
        return Distribution.from_json(self.probabilities)


class RecognizerRecord(Record):
    """What read the images, and what its card says of it; None where it does not say.

    An entry has the totals of its accuracy alone. `version` is that of a recognizer which comes
    with the program; see `recognizer_version`. `precision` is that of its convolutions, of which
    its accuracy and noise floor are, too; None if it does not say, and in older results, which were
    read in fp32.
    """

    name: Text
    digest: Text | None
    size: AtLeastOne
    accuracy: Accuracy | None
    noise_floor: NoiseFloor | None
    version: Count | None = None
    precision: Precision | None = None


class SourceRecord(Record):
    """What was scored: its name, kind, number of images (None: no end), digest of its file.

    Each kind of source says more of itself in further fields.
    """

    model_config = ConfigDict(extra="allow")

    name: Text
    kind: Text
    count: AtLeastOne | None
    content: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _encodable(cls, values: Any) -> Any:
        return encodable(values)

    @property
    def title(self) -> str:
        """What the user called the source, on one line that can be shown."""
        return printable(self.name) or "(no name)"

    @property
    def details(self) -> dict[str, Any]:
        """The further fields of this kind of source, with `count` and `content`."""
        return {name: value for name, value in self if name not in ("name", "kind")}


class ImagesRecord(Record):
    """Size of the source's images, pixels, and how they were brought to the recognizer's form.

    `drawn_from` is the number of images there are, where the samples were drawn from them by the
    seed. `converted` says how many of the samples were made 8-bit sRGB, by what was done, such as
    "EXIF orientation applied"; None in older results.
    """

    height: AtLeastOne
    width: AtLeastOne
    resized_to: AtLeastOne | None
    resized_by: Text | None = None
    drawn_from: AtLeastOne | None = None
    converted: dict[str, Count] | None = None


class SceneRecord(Record):
    """Digests of the installed scene and of that of the recognizer's training images.

    `version` is that of the latter, or of the former where the latter is not known.
    """

    sha256: Text
    renderer: Text | None
    trained_on: Text | None
    installed: Flag | None
    version: Count | None = None


class VerdictRecord(Record):
    """Whether no deviation is seen, and what the score says in sentences."""

    passed: Flag
    text: Text


class RunRecord(Record):
    """How long the run took, where, and by which command (None: from Python)."""

    seconds: Positive
    images_per_second: Positive
    device: Text
    world_size: AtLeastOne
    resumed: Flag
    command: Text | None = None


class EntryRunRecord(Record):
    """What an entry keeps of it: no times of a run that was resumed."""

    device: Text | None
    seconds: Positive | None = None
    images_per_second: Positive | None = None
    command: Text | None


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
    """What results and entries have in common.

    `protocol_version` is None in older files, which were made by version 1.
    """

    format: Text
    format_version: Literal[2]
    created: Text
    versions: dict[str, Text]
    source: SourceRecord
    images: ImagesRecord
    recognizer: RecognizerRecord
    scene: SceneRecord | None = None
    protocol: Text | None
    protocol_version: Count | None = None
    samples: AtLeastOne
    seed: Count
    distribution: DistributionRecord | None = None
    outside: OutsideRecord | None = None
    fit: FitRecord
    collapse: CollapseRecord | None = None
    decomposition: DecompositionRecord
    references: tuple[ReferenceRecord, ...]
    detection_limit: DetectionLimitRecord
    verdict: VerdictRecord
    fidelity: FidelityRecord | None = None
    repeats: RepeatsRecord | None = None
    near_copies: NearCopiesRecord | None = None
    reproducibility: ReproducibilityRecord | None = None
    image_check: ImageCheckRecord | None = None
    corrected: CorrectedRecord | None = None
    run: RunRecord | EntryRunRecord

    @model_validator(mode="after")
    def _of_one_count(self) -> ScoreRecord:
        fit = self.fit
        if fit.samples > self.samples or (self.outside is None and fit.samples < self.samples):
            raise ValueError(f"fit.samples must be samples, {self.samples:,}, not {fit.samples:,}")
        if self.distribution is None:  # X^2 = (n - 1) D + (k - 1) holds exactly
            expected = (fit.chi_square - fit.degrees_of_freedom) / (fit.samples - 1)
            found = fit.divergence.value
            if abs(found - expected) > _ROUNDING * (1 + abs(expected)):
                raise ValueError(
                    f"fit.divergence.value must be (chi_square - degrees_of_freedom) / (samples "
                    f"- 1), {expected:.6g}, not {found:.6g}"
                )
        return self

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
    run: EntryRunRecord

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a new dict, ready for JSON; the model's name comes first."""
        values = super().to_json()
        return {name: values.pop(name) for name in ("format", "model")} | values


class Result(ScoreRecord):
    """What ``result.json`` holds."""

    format: Literal["shapeshd-result"]
    run: RunRecord
    bin_counts: BinCountsRecord
    attenuation: AttenuationRecord | None
    marginals: ByFactor[tuple[Count, ...]]
    pairs: tuple[PairRecord, ...]
    histogram: HistogramRecord
    examples: FileRecord

    @model_validator(mode="after")
    def _of_all_samples(self) -> Result:
        for name, counts in self.marginals.items():
            if sum(counts) != self.samples:
                raise ValueError(f"marginals.{name} must add up to samples, {self.samples:,}")
        return self

    @field_validator("marginals")
    @classmethod
    def _of_all_bins(cls, marginals: Any) -> Any:
        for name, bins in zip(NAMES, BIN_SHAPE, strict=True):
            if len(marginals[name]) != bins:
                raise ValueError(f"{name} must be a list of {bins} numbers")
        return marginals
