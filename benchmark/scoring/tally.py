"""The tally of a score: histogram, first samples of each bin, samples counted of each block.

Samples are cut into blocks of `BLOCK` by their number. Tallies of different samples add up to
that of all, in whatever order they were counted.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from shapeshd.errors import ShapesHDError
from shapeshd.factors import NUM_BINS, FloatArray, IntArray
from shapeshd.support.atomic_files import replace_file

from .image_hashes import BLOCK as BLOCK
from .image_hashes import SeenImages
from .seen_factors import SeenFactors

FIRST_SEEN = 4
_CONVERTED = "converted"
_NEVER = np.iinfo(np.int64).max


class Tally:
    """Counts of samples.

    Attributes:
        counts: int64 (k,), samples in each joint bin.
        first_seen: int64 (k, 4), the lowest numbers of samples in each bin, -1 for none.
        filled: int64 (blocks,), samples counted of each block; grows as needed.
        converted: how many of their images were made 8-bit sRGB, by what was done to them.
        seen: hashes of the images.
        read: recognised factors of the images.
    """

    def __init__(self) -> None:
        self.counts: IntArray = np.zeros(NUM_BINS, np.int64)
        self.first_seen: IntArray = np.full((NUM_BINS, FIRST_SEEN), -1, np.int64)
        self.filled: IntArray = np.zeros(0, np.int64)
        self.converted: Counter[str] = Counter()
        self.seen = SeenImages()
        self.read = SeenFactors()

    @property
    def samples(self) -> int:
        """How many are counted."""
        return int(self.filled.sum())

    def add(
        self,
        start: int,
        bins: IntArray,
        converted: Mapping[str, int] | None = None,
        images: Tensor | None = None,
        factors: FloatArray | None = None,
    ) -> None:
        """Count the samples `start` .. `start` + m - 1 of one block.

        Args:
            start: number of the first one.
            bins: int64 (m,), their joint bins.
            converted: how many of their images were converted, by what was done to them.
            images: uint8 (m, 3, H, W), of which hashes are kept.
            factors: (m, 6), as recognised, some of which are kept.
        """
        if not len(bins):
            return
        if images is not None:
            self.seen.add(start, images)
        if factors is not None:
            self.read.add(start, factors)
        order = np.argsort(bins, kind="stable")
        held, places, numbers = np.unique(bins[order], return_index=True, return_counts=True)
        new = np.full((len(held), FIRST_SEEN), -1, np.int64)
        for column in range(FIRST_SEEN):
            rows = numbers > column
            new[rows, column] = start + order[places[rows] + column]
        self.counts[held] += numbers
        self.first_seen[held] = _lowest(self.first_seen[held], new)
        self._grow(start // BLOCK + 1)
        self.filled[start // BLOCK] += len(bins)
        self.converted.update(converted or {})

    def merge(self, other: Tally) -> None:
        """Add what another tally has counted of other samples."""
        self.counts += other.counts
        self.first_seen = _lowest(self.first_seen, other.first_seen)
        self._grow(len(other.filled))
        self.filled[: len(other.filled)] += other.filled
        self.converted.update(other.converted)
        self.seen.merge(other.seen)
        self.read.merge(other.read)

    def save(self, path: Path, card: dict[str, Any]) -> None:
        """Write the tally and `card` (fit for JSON); a reader finds the old file or the new.

        Raises:
            OSError: if it cannot be written; the old file then stays.
        """

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(
                    file,
                    counts=self.counts,
                    first_seen=self.first_seen,
                    filled=self.filled,
                    **self.seen.arrays(),
                    **self.read.arrays(),
                    card=np.frombuffer(
                        json.dumps({**card, _CONVERTED: self.converted}).encode(), np.uint8
                    ),
                )

        replace_file(path, write)

    @classmethod
    def load(cls, path: Path) -> tuple[Tally, dict[str, Any]]:
        """Read a tally and its card.

        Raises:
            ShapesHDError: if the file is damaged.
            OSError: if it cannot be read.
        """
        tally, data = cls(), path.read_bytes()
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                tally.counts = file["counts"]
                tally.first_seen = file["first_seen"]
                tally.filled = file["filled"]
                tally.seen = SeenImages.from_arrays(file)
                tally.read = SeenFactors.from_arrays(file)
                card: dict[str, Any] = json.loads(file["card"].tobytes())
                tally.converted = Counter(card.pop(_CONVERTED, {}))
        except (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
            raise _damaged(path) from None
        shapes = (tally.counts.shape, tally.first_seen.shape, tally.filled.ndim)
        if shapes != ((NUM_BINS,), (NUM_BINS, FIRST_SEEN), 1):
            raise _damaged(path)
        if tally.counts.sum() != tally.samples or tally.filled.max(initial=0) > BLOCK:
            raise _damaged(path)
        return tally, card

    def _grow(self, blocks: int) -> None:
        if blocks > len(self.filled):
            self.filled = np.pad(self.filled, (0, blocks - len(self.filled)))


def _lowest(one: IntArray, other: IntArray) -> IntArray:
    both = np.concatenate([one, other], axis=1)
    both[both < 0] = _NEVER
    both = np.sort(both, axis=1)[:, :FIRST_SEEN]
    both[both == _NEVER] = -1
    return both


def _damaged(path: Path) -> ShapesHDError:
    return ShapesHDError(f"{path}: is damaged: delete the folder {path.parent} and begin again")
