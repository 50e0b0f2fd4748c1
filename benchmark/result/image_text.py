"""What a look at a source's images found, in sentences of the verdict."""

from __future__ import annotations

from .formatting import interval, number, percent
from .image_check import CorrectedRecord, ImageCheckRecord

ATTENUATED = 0.9
"""Share of fine structure below which the verdict says how much of it survives."""
_BLURRED = 0.5  # pixels from which a blur is named
_FILTERED = 0.5  # the filter is named if it leaves less than so much of the error


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


def attenuation_text(found: ImageCheckRecord, corrected: CorrectedRecord | None) -> str:
    """Say what the errors of reading these images leave of a fine divergence; "" of most of it."""
    if found.attenuation is None or corrected is None:
        return ""
    left = found.attenuation.higher_order
    if left.value >= ATTENUATED:
        return ""
    return (
        f"The recognizer reads these images with errors that leave {share_left(found)} of fine "
        "structure (interactions of four factors and more): corrected for that, D = "
        f"{corrected_text(corrected)}."
    )


def share_left(found: ImageCheckRecord) -> str:
    """Write the share of fine structure that is left, with its interval."""
    assert found.attenuation is not None
    left = found.attenuation.higher_order
    return f"{percent(left.value, 0)} [{percent(left.low, 0)}, {percent(left.high, 0)}]"


def corrected_text(corrected: CorrectedRecord) -> str:
    """Write the corrected D with its interval; it is not shown below 0."""
    found = corrected.divergence
    return interval(found.model_copy(update={"value": max(0.0, found.value)}))
