"""What all sources of existing images share: a count, the context, what the range may be."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from shapeshd.errors import UsageError
from shapeshd.factors import IntArray

from .decode import Decoder

_Closing = TypeVar("_Closing", bound="Closing")


class Closing(abc.ABC):
    """A context manager that closes what it gives."""

    @abc.abstractmethod
    def close(self) -> None:
        """End or close what is open; it is not asked again."""

    def __enter__(self: _Closing) -> _Closing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class NumberedImages(Closing):
    """Images that exist, numbered from 0 to `count` - 1; a `Source`.

    Attributes:
        name: what the user called it.
        kind: such as "folder".
        count: how many there are, at least 1.
        ordered: whether their order may mean something, so that a part of them must be drawn.
        costly: whether images take long to read in another order than theirs.
    """

    kind: str
    ordered = True
    costly = False

    def __init__(self, name: str, count: int) -> None:
        self.name = name
        self.count: int | None = count

    def images(self, start: int, stop: int) -> Tensor:
        """Return the images `start` .. `stop` - 1: uint8 (n, 3, H, W), sRGB, on the CPU.

        Raises:
            UsageError: if there are not so many, or they are of a kind that cannot be scored.
            ShapesHDError: in one line, if they cannot be read.
        """
        assert self.count is not None
        if not 0 <= start < stop <= self.count:
            raise UsageError(
                f"{self.name}: holds {self.count:,} images: there are none from {start:,} to "
                f"{stop:,}"
            )
        return self._read(start, stop)

    def images_at(self, numbers: IntArray) -> Tensor:
        """Return the images `numbers`, ascending, at least one: as `images` does.

        Raises:
            UsageError, ShapesHDError: as `images`.
        """
        return torch.cat([self.images(int(number), int(number) + 1) for number in numbers])

    @abc.abstractmethod
    def _read(self, start: int, stop: int) -> Tensor:
        """Return the images of a range that exists."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what a result must say of the images, ready for JSON."""

    def conversions(self, numbers: Sequence[int]) -> Counter[str]:
        """Count what was done to make 8-bit sRGB of those images `numbers` that were read."""
        return Counter()


class EncodedImages(NumberedImages):
    """Images that are files of their own, of any size, which threads decode side by side."""

    def __init__(self, name: str, count: int) -> None:
        super().__init__(name, count)
        self._decoder = Decoder(self.encoded, self.label, count)

    @abc.abstractmethod
    def encoded(self, number: int) -> bytes:
        """Return the file of image `number`, for `decode_image`.

        Raises:
            UsageError: if it is larger than an image can be.
            ShapesHDError: if it cannot be read.
        """

    @abc.abstractmethod
    def label(self, number: int) -> str:
        """Return the name of image `number` for messages."""

    def images_at(self, numbers: IntArray) -> Tensor:
        """Return the images `numbers`: uint8 (n, 3, H, W); errors as of `images`."""
        return self._decoder.images(numbers.tolist())

    def _read(self, start: int, stop: int) -> Tensor:
        return self._decoder.images(range(start, stop))

    def describe(self) -> dict[str, Any]:
        """Return how the images were read, ready for JSON."""
        return self._decoder.describe()

    def conversions(self, numbers: Sequence[int]) -> Counter[str]:
        """Count what was done to those images that were read; see `decode_image`."""
        return self._decoder.conversions(numbers)

    def close(self) -> None:
        """End the threads that decode."""
        self._decoder.close()


class PackedNames:
    """Many names in little memory: their bytes in one string, without an object for each."""

    def __init__(self, names: Iterable[bytes]) -> None:
        packed, ends = bytearray(), [0]
        for name in names:
            packed += name
            ends.append(len(packed))
        self._packed = bytes(packed)
        self._ends = np.array(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> bytes:
        """Return the name `number`, 0 .. len - 1."""
        begin, end = self._ends[number : number + 2]
        return self._packed[begin:end]
