"""Square images, read by number, however they are stored."""

from __future__ import annotations

import abc
import operator
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray

CROPPED = "to the central square"
AVERAGED = "pixels averaged"
SPLINES = "antialiased bicubic splines"


class ImageData(abc.ABC):
    """Square images of one size, numbered from 0. It can be pickled, and used after a fork.

    Args:
        name: the last part of the path, or ``render:SEED:COUNT``.
        kind: "dataset", "folder", "zip" or "lmdb".
        count: how many images there are.
        size: their width and height, pixels.
        why_no_score: one line that says why no chi-square can be measured of a generator of
            such images; None if it can, because they are images of shapeshd whose factors were
            drawn independently and uniformly.
    """

    def __init__(
        self, name: str, kind: str, count: int, size: int, why_no_score: str | None
    ) -> None:
        self.name = name
        self.kind = kind
        self.size = size
        self.why_no_score = why_no_score
        self._count = count

    def __len__(self) -> int:
        return self._count

    @property
    def known_distribution(self) -> bool:
        """Whether the distribution of the factors is known: independent and uniform."""
        return self.why_no_score is None

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Return some images, in the order asked for.

        Args:
            indices: of at least one image, 0 .. len - 1; may repeat.

        Returns:
            uint8 (n, 3, size, size), sRGB; on the CPU, unless they are made on a GPU.

        Raises:
            IndexError: if there is no such image.
            UsageError: if one cannot be brought to the form that is asked for; names it.
            ShapesHDError: if one cannot be read; names it.
        """
        return self._read(self._checked(indices))

    def check(self) -> None:
        """Look for an image that cannot be read, so that no training ends at it after hours.

        Datasets of shapeshd have `shapeshd verify` for that.

        Raises:
            UsageError: if one cannot be brought to the form that is asked for; names it.
            ShapesHDError: if one is damaged; names it.
        """
        return

    def factors(self, indices: Sequence[int]) -> FloatArray | None:
        """Return the factors of some images, float64 (n, 6); None if they have none."""
        return None

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what they are and what is done to them, ready for JSON.

        Returns:
            ``name``, ``kind``, ``images`` and ``size``; ``cropped`` and ``resized``, how, or None
            if they are not; ``enlarged``, whether they (the first of them, if they differ) are
            smaller than `size`; of datasets also ``renderer``, ``seed`` and ``start``, where
            known; of other images ``first_image``, width x height.
        """

    @abc.abstractmethod
    def _read(self, indices: list[int]) -> Tensor:
        """Return images that exist."""

    def _checked(self, indices: Sequence[int]) -> list[int]:
        found = [operator.index(index) for index in indices]
        for index in found:
            if not 0 <= index < self._count:
                raise IndexError(f"image {index} of {self._count} in {self.name}")
        return found

    def _head(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, "images": self._count, "size": self.size}


def how_resized(side: int, size: int) -> str:
    """Say how `shapeshd.images.resize.resized` brings images of `side` to `size` pixels."""
    return f"from {side}x{side}: {AVERAGED if side % size == 0 else SPLINES}"


def middle(height: int, width: int) -> tuple[slice, slice]:
    """Return rows and columns of the central square."""
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def not_square(name: str, height: int, width: int) -> UsageError:
    """Return the error for images that had to be cut, and may not be."""
    return UsageError(f"{name}: has {width}x{height} pixels, not a square, and may not be cropped")
