"""What the texts of some options mean: a size of images, the shape of a latent, classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shapeshd.errors import UsageError, named
from shapeshd.images.names import MAX_PIXELS

UNIFORM = "uniform"
"""All classes, each as likely as any other."""

_LABELS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def parse_frame_size(text: str) -> tuple[int, int]:
    """Return (width, height) in pixels of a text such as "64x48".

    Raises:
        UsageError: if it is no size, or one too large.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,7})x([1-9][0-9]{0,7})", text)
    if match is None:
        raise UsageError(f"{named('frame_size')} must be WIDTHxHEIGHT, such as 64x64, not {text!r}")
    width, height = int(match[1]), int(match[2])
    if width * height > MAX_PIXELS:
        raise UsageError(f"{named('frame_size', text)} is too large: at most {MAX_PIXELS:,} pixels")
    return width, height


def parse_shape(given: str | Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a latent, given as numbers or as a text such as "100,1,1".

    Raises:
        UsageError: if it is no shape.
    """
    parts = given.split(",") if isinstance(given, str) else list(given)
    try:
        shape = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(
            f"{named('latent_shape')} must be numbers from 1 on, such as 100,1,1, not {given!r}"
        )
    return shape


def parse_labels(text: str) -> list[tuple[int, int]] | None:
    """Return the ranges (first, last) of a text such as "3", "3,5,9" or "0-9".

    Returns:
        The ranges in the order of the text; None for "uniform", all classes.

    Raises:
        UsageError: if it is no such text, or names a class twice.
    """
    if text == UNIFORM:
        return None
    option = named("labels")
    ranges = []
    for part in text.split(","):
        match = _LABELS.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"{option} must be uniform, 3, 3,5,9 or 0-9, not {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(f"{option}: the range {part.strip()} ends before it begins")
        ranges.append((first, last))
    end = -1
    for first, last in sorted(ranges):
        if first <= end:
            raise UsageError(f"{option}: names the class {first} twice, but all are as likely")
        end = last
    return ranges
