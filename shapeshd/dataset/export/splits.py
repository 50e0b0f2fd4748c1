"""Cuts a dataset into splits by index, so that each of them is an interval of its images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.errors import UsageError, named
from shapeshd.factors import NAMES

_NAME = re.compile(r"[A-Za-z]\w{0,30}", re.ASCII)
_FEWEST = 20  # of as many independent images, no factor is sorted by chance
_FORM = "train=0.9,test=0.1"


def parse_splits(text: str) -> dict[str, Fraction]:
    """Read splits such as ``train=0.9,test=0.1``.

    Returns:
        The share of each split by its name, in the order given.

    Raises:
        UsageError: if the text is of another form, or as of `check_splits`.
    """
    shares: dict[str, Fraction] = {}
    for part in text.split(","):
        name, equals, share = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UsageError(f"{named('split', text)}: write it as {_FORM}")
        if name in shares:
            raise UsageError(f"{named('split', text)}: {name} is given twice")
        shares[name] = _fraction(share, name)
    return check_splits(shares)


def check_splits(shares: Mapping[str, float | str | Fraction]) -> dict[str, Fraction]:
    """Return the shares as exact fractions: 0.1 is a tenth.

    Raises:
        UsageError: if a name is no word of letters, digits and ``_``, two names differ in case
            alone, a share is not above 0, or all do not add up to 1.
    """
    exact = {str(name): _fraction(share, str(name)) for name, share in shares.items()}
    for name in exact:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{named('split')}: {name!r} cannot be a split's name: use letters, digits and _"
            )
    if len({name.lower() for name in exact}) < len(exact):  # files of one name on macOS
        raise UsageError(f"{named('split')}: two names are equal but for their case")
    if sum(exact.values()) != 1:
        total = float(sum(exact.values()))
        raise UsageError(
            f"{named('split')}: the shares add up to {total:g}, not to 1: write them as {_FORM}"
        )
    return exact


def _fraction(share: float | str | Fraction, name: str) -> Fraction:
    try:
        text = str(share)
        # A fraction of an exponent such as 1e-999999999 would have as many digits.
        fits = isinstance(share, Fraction) or len(text.lower().partition("e")[2]) <= 3
        value = Fraction(text) if fits else Fraction(0)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value <= 1:
        raise UsageError(
            f"{named('split')}: the share of {name or 'a split'} is {text or 'missing'}; it must "
            "be a number above 0, and at most 1"
        )
    return value


def cut(dataset: ShapesHD, shares: Mapping[str, Fraction]) -> dict[str, range]:
    """Return the items of each split: the first split has the first images, and so on.

    Images are drawn independently of each other, so any interval of them is as good as another;
    and an interval of indices names the same images wherever the dataset is rendered again.

    Raises:
        UsageError: if a split would be empty, or the images are sorted by a factor, as those of a
            grid are, so that the splits would show other values.
    """
    items: dict[str, range] = {}
    count, total, first = len(dataset), Fraction(0), 0
    for name, share in shares.items():
        total += share
        last = int(total * count + Fraction(1, 2))
        if last == first:
            raise UsageError(
                f"{named('split')}: {name} would hold none of {count:,} images: give it more"
            )
        items[name] = range(first, last)
        first = last
    if dataset.rendered_images is None and count >= _FEWEST:
        _refuse_sorted(dataset)
    return items


def _refuse_sorted(dataset: ShapesHD) -> None:
    labels = dataset.labels
    steps = np.diff(labels, axis=0)
    for name, column in zip(NAMES, steps.T, strict=True):
        if column.any() and ((column >= 0).all() or (column <= 0).all()):
            raise UsageError(
                f"{named('split')}: the images of {dataset.name} are sorted by {name}, so the "
                "splits would not show the same values: export it whole, and draw the splits at "
                "random where it is read"
            )
