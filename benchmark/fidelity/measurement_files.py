"""Measurements of numbered images, stored in pieces so that a run can be killed at any moment.

A piece is a file that appears whole, named after the images that it holds. So a later process, or
another one beside, sees what is missing, and an image that two have measured counts once.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shapeshd.errors import ShapesHDError
from shapeshd.factors import FloatArray
from shapeshd.support.atomic_files import replace_file


@dataclass(frozen=True)
class Measurements:
    """What was measured of n images.

    Attributes:
        features: float32 (n, d), of a `FeatureNetwork`.
        factors: float64 (n, 6), as recognised.
        residuals: float64 (n, 4); see `residuals`.
    """

    features: npt.NDArray[np.float32]
    factors: FloatArray
    residuals: FloatArray

    def __len__(self) -> int:
        return len(self.factors)


class MeasurementFiles:
    """The first images of a sequence, in pieces of one length.

    Args:
        folder: where the pieces lie; it exists.
        kind: begins their names, such as "sample".
        count: images 0 .. `count` - 1 are wanted.
        length: images of a piece; the last one wanted may hold fewer.
    """

    def __init__(self, folder: Path, kind: str, count: int, length: int) -> None:
        self.count, self.length = count, length
        self._folder, self._kind = folder, kind

    def spans(self) -> Iterator[tuple[int, int]]:
        """Yield the first image of each piece, and one past the last that is wanted of it."""
        for first in range(0, self.count, self.length):
            yield first, min(first + self.length, self.count)

    def wants(self, first: int) -> int:
        """Return how many images of the piece that begins at `first` are wanted and missing."""
        last = min(first + self.length, self.count)
        if first >= last or self._find(first, last) is not None:
            return 0
        return last - first

    def save(self, first: int, values: Measurements) -> None:
        """Keep the images `first`, `first` + 1, ...

        Raises:
            OSError: if they cannot be written.
        """
        path = self._folder / f"{self._kind}-{first:09d}-{first + len(values):09d}.npz"

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, **vars(values))

        replace_file(path, write)

    def copy_to(self, other: MeasurementFiles) -> None:
        """Give `other`, of the same images, the whole pieces that it wants and has not got.

        A damaged piece is deleted, as by `load`, and not copied.

        Raises:
            OSError: if one cannot be written.
        """
        for first, last in self.spans():
            if other.wants(first) and self._find(first, last) is not None:
                with suppress(ShapesHDError):
                    other.save(first, self._read(first, last))

    def load(self) -> Measurements:
        """Return all images that are wanted, in order.

        Raises:
            ShapesHDError: if a piece is missing or damaged; a damaged one is deleted.
        """
        parts = [self._read(first, last) for first, last in self.spans()]
        names = [field.name for field in fields(Measurements)]
        return Measurements(*(np.concatenate([getattr(part, n) for part in parts]) for n in names))

    def _find(self, first: int, last: int) -> Path | None:
        found = self._folder.glob(f"{self._kind}-{first:09d}-*.npz")
        return next((path for path in sorted(found) if int(path.stem[-9:]) >= last), None)

    def _read(self, first: int, last: int) -> Measurements:
        path = self._find(first, last)
        if path is None:
            raise ShapesHDError(
                f"{self._folder}: the images {first} to {last - 1} are missing; give the same "
                "command again"
            )
        names = [field.name for field in fields(Measurements)]
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                values = Measurements(*(file[name][: last - first] for name in names))
            whole = all(len(getattr(values, name)) == last - first for name in names)
        except (ValueError, KeyError, EOFError, FileNotFoundError, zipfile.BadZipFile):
            whole = False
        if not whole:
            path.unlink(missing_ok=True)
            raise ShapesHDError(f"{path}: was damaged; give the same command again")
        return values
