"""The schema of a result's part on the look at images: their re-renders, and how they are read."""

from __future__ import annotations

from pydantic import model_validator

from shapeshd.benchmark.statistics.record import (
    AtLeastOne,
    ByFactor,
    Flag,
    Number,
    Positive,
    Record,
    Share,
    Text,
    require_ends,
)

from .fidelity import IntervalRecord, ShareRecord


class ShareLeftRecord(Record):
    """The share of a divergence that is left, with standard error and 95% interval."""

    value: Share
    standard_error: Positive
    low: Share
    high: Share

    @model_validator(mode="after")
    def _in_order(self) -> ShareLeftRecord:
        require_ends(self)
        return self


class SourceAttenuationRecord(Record):
    """What the errors of reading this source's images leave of a divergence.

    Of noise over the bins of a factor, over all joint bins, and in the interactions of four factors
    and more; see `shapeshd.benchmark.statistics.source_attenuation`.
    """

    pairs: AtLeastOne
    factors: ByFactor[ShareLeftRecord]
    joint: ShareLeftRecord
    higher_order: ShareLeftRecord


class ResponseRecord(Record):
    """How the images come from their re-renders: by a linear filter, and a remainder.

    Gain of the luma, shift and blur (a standard deviation) in pixels of the recognizer's images,
    and the RMSE that the filter leaves, in levels.
    """

    gain: Number
    shift_right: Number
    shift_down: Number
    blur: Positive
    remainder: Positive


class TriedRecord(Record):
    """A change that was undone on some images (None: none was), and their median RMSE then."""

    name: Text | None
    error: Positive


class ImageCheckRecord(Record):
    """How far samples of the source are from their re-render, beside real images.

    `beyond` is the share that is farther than `quantile` of real images in RMSE, SSIM or hue;
    `ok` says whether that may be no more than `tolerated`. `explained` is the share of an image's
    variance that its re-render explains (of the median image), `alike` whether that is enough to
    read them as scenes of the dataset, if damaged ones: only then there are `response`,
    `right_bins` and, under the uniform distribution, `attenuation`. `change` names what was done to
    them, if undoing it brings them there, and `tried` all changes that were undone. `right_bins` is
    the share of known images with the differences of this source that are read in the right joint
    bin.
    """

    images: AtLeastOne
    real_images: AtLeastOne
    quantile: Share
    tolerated: Share
    beyond: ShareRecord
    real_beyond: ShareRecord
    rmse: IntervalRecord
    real_rmse: IntervalRecord
    explained: Number
    ok: Flag
    alike: Flag
    change: Text | None = None
    tried: tuple[TriedRecord, ...] = ()
    response: ResponseRecord | None = None
    attenuation: SourceAttenuationRecord | None = None
    right_bins: Share | None = None


class CorrectedRecord(Record):
    """D, and the reduced chi-square at 20 per bin, corrected for the attenuation of this source."""

    divergence: IntervalRecord
    reduced_chi_square: IntervalRecord
