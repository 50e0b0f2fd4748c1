"""A result's part on the look at images: its schema, and the verdict's sentences on them."""

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
from .formatting import Reported, interval, number, percent

ATTENUATED = 0.9
"""Share of fine structure below which the verdict says how much of it survives."""
_BLURRED = 0.5  # pixels from which a blur is named
_READ_WELL = 0.95  # share of images in the right joint bin: about 90% of fine structure is left
_FILTERED = 0.5  # the filter is named if it leaves less than so much of the error


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
    `right_bins`, `right_factors` and, under the uniform distribution, `attenuation`. `change` names
    what was done to them, if undoing it brings them there, and `tried` all changes that were
    undone. `right_bins` is the share of known images with the differences of this source that are
    read in the right joint bin, `right_factors` that of each factor (None in results of earlier
    versions).
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
    right_factors: ByFactor[ShareRecord] | None = None


class CorrectedRecord(Record):
    """D, and the reduced chi-square at 20 per bin, corrected for the attenuation of this source."""

    divergence: IntervalRecord
    reduced_chi_square: IntervalRecord


def images_text(found: ImageCheckRecord, *, parts: bool) -> str:
    """Say that images do not look like the dataset, and why; "" where they do.

    Args:
        found: what the look at them found.
        parts: whether the verdict names parts of the divergence.
    """
    if found.ok:
        return ""
    far = (
        f"These images do not look like the dataset: {percent(found.beyond.value)} of "
        f"{found.images:,} samples are farther from the rendering of their own recognised factors "
        f"than {percent(found.quantile, 0)} of real images are (RMSE {number(found.rmse.value)} "
        f"levels on average, real images {number(found.real_rmse.value)})."
    )
    if found.change is not None:
        return f"{far} They do if this is undone: the images are {found.change}."
    if not found.alike:
        return (
            f"{far} No known change of such images explains it, so that all that follows is of "
            "factors which the recognizer reads into something else."
        )
    words = [far]
    if kind := _kind(found):
        words.append(f"They are {kind}.")
    if parts:
        words.append(
            "What is named as wrong with the distribution may come from the images instead."
        )
    return " ".join(words)


def _kind(found: ImageCheckRecord) -> str | None:
    response = found.response
    if response is None or response.remainder > _FILTERED * found.rmse.value:
        return None
    if response.blur < _BLURRED:
        return None
    return f"blurred by about {number(response.blur, 2)} pixels (standard deviation)"


def attenuation_text(
    found: ImageCheckRecord, corrected: CorrectedRecord | None, divergence: Reported
) -> str:
    """Say what the errors of reading these images leave of a fine divergence; "" of most of it."""
    if found.attenuation is None or corrected is None:
        return _uncorrected(found)
    left = found.attenuation.higher_order
    if left.value >= ATTENUATED:
        return ""
    return (
        f"The recognizer reads these images with errors that leave {share_left(found)} of fine "
        "structure (interactions of four factors and more): corrected for that, D = "
        f"{corrected_text(corrected, divergence)}."
    )


def _uncorrected(found: ImageCheckRecord) -> str:
    """Say that a D is not corrected, which only that of bins of equal probability can be."""
    if found.attenuation is not None or found.right_bins is None or found.right_bins >= _READ_WELL:
        return ""
    return (
        f"The recognizer reads {percent(found.right_bins, 0)} of such images in the right joint "
        "bin, so that fine structure is seen too small; D is not corrected for that, which is "
        "done for the uniform distribution alone."
    )


def share_left(found: ImageCheckRecord) -> str:
    """Write the share of fine structure that is left, with its interval."""
    assert found.attenuation is not None
    left = found.attenuation.higher_order
    return f"{percent(left.value, 0)} [{percent(left.low, 0)}, {percent(left.high, 0)}]"


def corrected_text(corrected: CorrectedRecord, divergence: Reported) -> str:
    """Write the corrected D with its interval, no coarser than D itself; none is below 0."""
    found = corrected.divergence
    return interval(found.model_copy(update={"value": max(0.0, found.value)}), divergence)
