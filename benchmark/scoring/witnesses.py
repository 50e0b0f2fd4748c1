"""Some samples of a score that goes on are made again and compared with those that were counted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shapeshd.benchmark.sources.base import Source
from shapeshd.errors import UsageError, named
from shapeshd.support.progress import warn

from .identity import begin_anew
from .image_hashes import FIRST, SeenImages, hash_images, pixels_of_witnesses

MOST_APART = 1.0
"""Mean difference, levels of 256, up to which an image is the same: rounding may depend on the
device, its libraries and how many images are made side by side."""

_OTHERS = 2  # witnesses of a generator beside the first: each costs a batch


def check_witnesses(source: Source, seen: SeenImages, out: object, *, allowed: bool) -> None:
    """Make some samples again and compare them with what was counted of them.

    Args:
        source: gives the images.
        seen: of the samples that were counted, at least one.
        out: the folder, for messages.
        allowed: whether other images are to be taken; a note says so.

    Raises:
        UsageError: if a sample is another image now, naming it.
        ShapesHDError: if the source does not give it.
    """
    numbers = sorted(seen.witnesses)
    if not numbers:
        warn(
            f"{out}: was counted by an earlier version, which kept no digests of images: whether "
            f"{source.name} still gives the same is not known"
        )
        return
    differs: str | None = None
    rounded: float | None = None
    for start, stop in _spans(numbers, source.count):
        images = source.images(start, stop)
        hashes, pixels = hash_images(images), pixels_of_witnesses(images)
        for number in range(start, stop):
            if number not in seen.witnesses or differs:
                continue
            before, known = seen.witnesses[number]
            if before != int(hashes[number - start]):
                apart = mean_apart(known, pixels[number - start])
                rounded = max(rounded or 0.0, apart)
                if apart > MOST_APART:
                    differs = f"sample {number:,} is another image now, {apart:.1f} levels apart"
    if differs and not allowed:
        raise UsageError(
            f"{out}: was counted of other images: {differs}; {begin_anew()}; if "
            f"{source.name} never gives the same again, {named('allow_irreproducible')} goes on "
            "all the same"
        )
    if differs:
        warn(f"{out}: goes on with other images than were counted: {differs}")
    elif rounded is not None:
        warn(
            f"{source.name}: gives images that differ from those counted by rounding, "
            f"{rounded:.2g} levels on average at most"
        )


def mean_apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean absolute difference of two arrays of bytes; infinite for other shapes."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


def _spans(numbers: list[int], count: int | None) -> Iterator[tuple[int, int]]:
    """Yield what is to be made: the first samples at once, and some others."""
    first = [number for number in numbers if number < FIRST]
    if first:
        yield first[0], first[-1] + 1
    others = numbers[len(first) :]
    if count is None and len(others) > _OTHERS:
        others = [others[len(others) // 2], others[-1]]
    for number in others:
        yield number, number + 1
