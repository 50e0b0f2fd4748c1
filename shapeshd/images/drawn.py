"""A part of images that exist, drawn by a seed.

Files are often saved class by class, so the first n images say nothing about all. A part is drawn
without replacement: the first n places of one order of all images, which the seed decides. A larger
part so holds the smaller one, in the same order.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.errors import ShapesHDError, one_line
from shapeshd.factors import IntArray
from shapeshd.support.device import moved
from shapeshd.support.progress import progress_bar
from shapeshd.support.random_numbers import seeded_order

from .numbered import NumberedImages

DRAWN = "drawn by the seed"
"""What settings of a run, and of a measurement, call this order."""

_READ_BYTES = 32 * 2**20


class DrawnImages(NumberedImages):
    """The images of a source in an order that a seed decides.

    Args:
        source: what gives them; it stays open when this is closed.
        seed: >= 0.
    """

    def __init__(self, source: NumberedImages, seed: int) -> None:
        assert source.count is not None
        super().__init__(source.name, source.count)
        self.kind = source.kind
        self._source = source
        self._order = seeded_order(seed, source.count)
        self._copy: _Copy | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_source"], name)  # what else the source says of itself

    def gather(self, count: int, *, progress: bool = False) -> None:
        """Make ready to give the first `count` images, where single ones take long to read.

        What is compressed many images at a time is read once from its beginning to its end, and
        the images that were drawn are kept in a file without a name.

        Raises:
            ShapesHDError: if they cannot be read, or the disk is full.
        """
        if self._source.costly and self._copy is None:
            self._copy = _Copy(self._source, np.sort(self._order[:count]), progress)

    def number(self, place: int) -> int:
        """Return the number in the source of the image at a place."""
        return int(self._order[place])

    def _read(self, start: int, stop: int) -> Tensor:
        numbers = self._order[start:stop]
        ascending = np.argsort(numbers)
        wanted = numbers[ascending]
        if self._copy is not None and self._copy.holds(wanted):
            images = self._copy.images_at(wanted)
        else:
            images = self._source.images_at(wanted)
        return images[moved(torch.from_numpy(np.argsort(ascending)), images.device)]

    def conversions(self, numbers: Sequence[int]) -> Counter[str]:
        """Count what was done to those images that were read; see `decode_image`."""
        return self._source.conversions(self._order[np.asarray(numbers)])

    def describe(self) -> dict[str, Any]:
        """Return what a result must say of the images, ready for JSON."""
        return self._source.describe()

    def close(self) -> None:
        """Remove the images that were kept."""
        if self._copy is not None:
            self._copy.close()


class _Copy:
    """Some images of a source in a file without a name.

    Args:
        source: is read once, in order.
        numbers: of the images, ascending.
        progress: show a bar on stderr.
    """

    def __init__(self, source: NumberedImages, numbers: IntArray, progress: bool) -> None:
        self._numbers = numbers
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
            with progress_bar(int(numbers[-1]) + 1, "draw", shown=progress) as bar:
                for start, stop, part in _parts(source, numbers):
                    self._shape = part.shape[1:]
                    self._file.write(part.cpu().contiguous().numpy().data)
                    bar.update(stop - start)
            self._file.flush()
        except OSError as error:
            raise ShapesHDError(
                f"{source.name}: the images that were drawn cannot be kept in "
                f"{tempfile.gettempdir()} ({error.strerror or one_line(error)}): set TMPDIR"
            ) from None

    def holds(self, numbers: IntArray) -> bool:
        return bool(np.isin(numbers, self._numbers, assume_unique=True).all())

    def images_at(self, numbers: IntArray) -> Tensor:
        size = int(np.prod(self._shape))
        rows = np.searchsorted(self._numbers, numbers)
        data = bytearray().join(
            os.pread(self._file.fileno(), size, int(row) * size) for row in rows
        )
        return torch.frombuffer(data, dtype=torch.uint8).reshape(len(numbers), *self._shape)

    def close(self) -> None:
        self._file.close()


def _parts(source: NumberedImages, numbers: IntArray) -> Iterator[tuple[int, int, Tensor]]:
    """Yield spans of a source that lie behind each other, and those images of them."""
    assert source.count is not None
    length, start = 64, 0
    last = int(numbers[-1]) + 1
    while start < last:
        stop = min(start + length, last)
        images = source.images(start, stop)
        length = max(1, _READ_BYTES // images[0].numel())
        begin, end = np.searchsorted(numbers, [start, stop])
        yield start, stop, images[torch.from_numpy(numbers[begin:end] - start)]
        start = stop
