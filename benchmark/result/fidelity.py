"""The schema of a result's part on image fidelity: what was measured, how, and its verdict."""

from __future__ import annotations

from pydantic import Field, model_validator

from shapeshd.benchmark.statistics.record import (
    AtLeastOne,
    Count,
    Flag,
    Number,
    Record,
    Share,
    Text,
    require_ends,
)


class IntervalRecord(Record):
    """A value with its 95% interval."""

    value: Number
    low: Number
    high: Number

    @model_validator(mode="after")
    def _in_order(self) -> IntervalRecord:
        require_ends(self)
        return self


class ShareRecord(IntervalRecord):
    """A share of images with its 95% interval, and how many images it is."""

    value: Share
    low: Share
    high: Share
    count: Count


class RealImagesRecord(Record):
    """A measure of the residual on real images: mean, median, 99.9% limit and the worst value."""

    mean: IntervalRecord
    median: IntervalRecord
    quantile: Number
    maximum: Number


class MeasureRecord(Record):
    """A measure of the residual on the source's images, beside that of real ones."""

    mean: IntervalRecord
    median: IntervalRecord
    worst: Number
    beyond_quantile: ShareRecord
    beyond_maximum: ShareRecord
    floor: RealImagesRecord


class ResidualRecord(Record):
    """How far images are from their re-render; see `fidelity.residual.summarize`."""

    images: AtLeastOne
    real_images: AtLeastOne
    rmse: MeasureRecord
    psnr: MeasureRecord
    ssim: MeasureRecord
    hue: MeasureRecord
    quantile: Share
    tolerated: Share
    beyond: ShareRecord
    beyond_maximum: ShareRecord
    real_beyond: ShareRecord
    ok: Flag


class FeatureStatisticsRecord(Record):
    """Distances of the features of images from those of real ones; see `compare_features`."""

    generated: AtLeastOne
    real: AtLeastOne
    fid: IntervalRecord
    fid_infinity: IntervalRecord | None
    kid: IntervalRecord
    precision: IntervalRecord
    recall: IntervalRecord
    density: IntervalRecord
    coverage: IntervalRecord
    inception_score: IntervalRecord | None = None
    """Of Inception's features alone."""


class FeaturesRecord(Record):
    """The network whose features are compared."""

    name: Text
    digest: Text | None
    dimension: AtLeastOne


class EngineRecord(Record):
    """What rendered real images and re-renders."""

    name: Text
    scene_sha256: Text


class FidelitySettingsRecord(Record):
    """What decides the numbers of image fidelity.

    `order` is given where the images were drawn from all, which were scored in another order; else
    they are the first samples of the score.
    """

    images: AtLeastOne
    seed: Count
    side: AtLeastOne
    features: FeaturesRecord
    engine: EngineRecord
    distribution: Text | None
    version: Count
    order: Text | None = None


class JointVerdictRecord(Record):
    """Whether distribution and fidelity are right, the case in a few words, and a sentence."""

    distribution: Flag
    fidelity: Flag
    name: Text
    text: Text


class FileRecord(Record):
    """A file beside ``result.json``; None if it was not written."""

    file: Text | None


class FidelityRecord(Record):
    """Image fidelity; `theoretical` is what a perfect generator would get."""

    settings: FidelitySettingsRecord
    residual: ResidualRecord
    statistics: FeatureStatisticsRecord
    theoretical: FeatureStatisticsRecord
    verdict: JointVerdictRecord
    command: Text | None
    examples: FileRecord = Field(default_factory=lambda: FileRecord(file=None))
