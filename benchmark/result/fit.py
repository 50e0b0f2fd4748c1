"""The schema of a result's statistics: the test, the parts of D, and what to compare with.

The fields are those of the statistics' objects (`EstimateRecord` is an `Estimate` in a file).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from shapeshd.benchmark.statistics.decomposition import made_together
from shapeshd.benchmark.statistics.record import (
    AtLeastOne,
    Count,
    EstimateRecord,
    Flag,
    NearShare,
    Number,
    Positive,
    Record,
    Share,
    Text,
)
from shapeshd.factors import NAMES


def _known_factor(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"must be one of {', '.join(NAMES)}")
    return name


FactorName = Annotated[Text, AfterValidator(_known_factor)]


class DivergenceRecord(EstimateRecord):
    """An estimate of a divergence, which is at least 0: unbiased, its value can be below."""

    @model_validator(mode="after")
    def _of_a_divergence(self) -> DivergenceRecord:
        if self.floor != 0:
            raise ValueError(f"floor must be 0, not {self.floor:g}")
        return self


class PredictionRecord(Record):
    """The reduced chi-square that the protocol is expected to give."""

    protocol: Text
    samples: AtLeastOne
    reduced_chi_square: EstimateRecord
    run_deviation: Positive


class DistancesRecord(Record):
    """Kullback-Leibler divergence, nats, and total variation, beside an ideal sampler's."""

    kullback_leibler: Number
    total_variation: NearShare
    total_variation_ideal: NearShare


class EmptyBinsRecord(Record):
    """Number of empty bins, and its expectation and deviation under the distribution."""

    observed: Count
    expected: Positive
    deviation: Positive


class FitRecord(Record):
    """The test of all bins."""

    samples: Annotated[AtLeastOne, Field(ge=2)]
    bins: Annotated[AtLeastOne, Field(ge=2)]
    expected_per_bin: Positive
    chi_square: Positive
    degrees_of_freedom: AtLeastOne
    reduced_chi_square: Positive
    p_value: Share
    divergence: DivergenceRecord
    prediction: PredictionRecord
    distances: DistancesRecord
    empty_bins: EmptyBinsRecord

    @model_validator(mode="after")
    def _of_its_bins(self) -> FitRecord:
        if self.empty_bins.observed >= self.bins:
            raise ValueError(
                f"empty_bins.observed must be below bins, {self.bins:,}, not "
                f"{self.empty_bins.observed:,}"
            )
        return self


class PartRecord(Record):
    """A part of the divergence: of a factor, of a set of some, or of higher-order interactions."""

    name: Text
    factors: tuple[FactorName, ...]
    delta: DivergenceRecord
    divergence: DivergenceRecord | None
    share: Number | None
    explained: Number
    p_value: Share
    p_holm: Share
    significant: Flag


class DecompositionRecord(Record):
    """The parts of the divergence, the largest first; an entry has the largest ones alone.

    `total` (D) and `summary` (a sentence) stand in results, `number_of_parts` in entries.
    """

    total: DivergenceRecord | None = None
    parts: tuple[PartRecord, ...]
    summary: Text | None = None
    number_of_parts: Count | None = None

    @property
    def significant(self) -> tuple[PartRecord, ...]:
        """The parts that differ significantly from 0, the largest first."""
        return tuple(part for part in self.parts if part.significant)

    @property
    def together(self) -> tuple[PartRecord, ...]:
        """The large parts that significant ones make together; see `made_together`."""
        return made_together(self.parts) if self.significant else ()


class CollapseRecord(Record):
    """So few bins are occupied that the source has collapsed to a few kinds of images.

    Attributes:
        occupied: bins that hold a sample.
        expected: how many as many samples of the distribution occupy on average.
    """

    occupied: Count
    expected: Number


class BinCountsRecord(Record):
    """How many bins hold exactly j samples, beside the binomial expectation."""

    observed: tuple[Count, ...]
    expected: tuple[Positive, ...]
    observed_beyond: Count
    expected_beyond: Positive

    @model_validator(mode="after")
    def _of_one_length(self) -> BinCountsRecord:
        if not self.observed or len(self.observed) != len(self.expected):
            raise ValueError("observed and expected must be lists of one length")
        return self


class ReferenceRecord(Record):
    """A source whose score is known: the ideal sampler, real images, the memorizer."""

    name: Text
    divergence: Number
    reduced_chi_square: Positive
    deviation: Positive


class DetectionLimitRecord(Record):
    """The divergence that the test of D finds with the probability `power`, above `margin`."""

    samples: AtLeastOne
    divergence: Positive
    reduced_chi_square: Positive
    margin: Positive = 0.0
    level: Share
    power: Share


class OutsideRecord(Record):
    """Samples where the distribution has none; `wrong`: more than errors explain, D is infinite."""

    samples: Count
    bins: Count
    share: Share
    explained: Share
    explained_at_most: Share = 0.0
    surely: Share
    wrong: Flag


class AttenuationRecord(Record):
    """The share of a divergence that is left after the recognizer's errors.

    On average over noise, and, `least_`, of the pattern that loses most.
    """

    factors: dict[str, NearShare]
    joint: NearShare
    of_this_source: NearShare | None
    least_factors: dict[str, NearShare] | None = None
    least_joint: NearShare | None = None
    least_of_this_source: NearShare | None = None
    meaning: Text
