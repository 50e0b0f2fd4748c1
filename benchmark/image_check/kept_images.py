"""Keeps a few of a score's samples while they are counted, as the recognizer sees them.

Which ones is decided by their numbers alone: those whose numbers have the lowest hashes. So a run
that was stopped, shared out or extended keeps the same ones.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shapeshd.factors import FloatArray, IntArray
from shapeshd.images.resize import resized
from shapeshd.support.atomic_files import remove_hidden_files, replace_file
from shapeshd.support.device import moved
from shapeshd.support.distributed import Ranks
from shapeshd.support.random_numbers import mixed_bits

MOST, FEWEST = 256, 64
"""Images that are kept of a source: more of small ones, fewer of large ones."""
_PIXELS = 2**23  # of all kept images together, if they are more than `FEWEST`
_FOLDER = "image-check"
_CHUNK = 2**20


class Kept(NamedTuple):
    """Samples that were kept, n.

    Attributes:
        numbers: int64 (n,), ascending.
        images: uint8 (n, 3, S, S), of the recognizer's size.
        factors: float64 (n, 6), as recognised.
    """

    numbers: IntArray
    images: Tensor
    factors: FloatArray


def images_to_keep(side: int) -> int:
    """Return how many images of `side` pixels are looked at."""
    return max(FEWEST, min(MOST, _PIXELS // side**2))


def hashes(numbers: IntArray) -> npt.NDArray[np.uint64]:
    """Return a hash of each number: the first that SplitMix64 draws with it as its seed."""
    return mixed_bits(numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))


def chosen_numbers(samples: int, count: int) -> IntArray:
    """Return the `count` numbers below `samples` with the lowest hashes, ascending: int64.

    Those of fewer samples are among those of more, or have higher hashes than all of these.
    """
    best = np.empty(0, np.int64)
    for start in range(0, samples, _CHUNK):
        numbers = np.concatenate([best, np.arange(start, min(start + _CHUNK, samples))])
        if len(numbers) > count:
            numbers = numbers[np.argpartition(hashes(numbers), count - 1)[:count]]
        best = numbers
    return np.sort(best)


class KeptImages:
    """Samples of a score that are kept to be looked at.

    Args:
        samples: n, of the score.
        side: width and height of the source's images, pixels.
        size: of the recognizer's images.
        folder: the work folder of a run, in which each piece is kept before it is counted, so
            that the samples of a killed run are not lost; None to keep them in memory.
        ranks: the processes of this run; all make one of these.
    """

    def __init__(
        self,
        samples: int,
        side: int,
        size: int,
        folder: Path | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._chosen = chosen_numbers(samples, images_to_keep(side))
        self._size, self._pieces = size, dict[int, Kept]()
        self._folder = None if folder is None else folder / _FOLDER
        ranks = ranks or Ranks()
        if self._folder is not None:
            if ranks.first:
                self._folder.mkdir(exist_ok=True)
                remove_hidden_files(self._folder)
            ranks.wait()

    def collect(self, first: int, images: Tensor, factors: FloatArray) -> None:
        """Keep what is to be kept of a piece.

        Args:
            first: number of its first image.
            images: uint8 (n, 3, H, H).
            factors: (n, 6), as recognised.

        Raises:
            OSError: if it cannot be written.
        """
        start, stop = np.searchsorted(self._chosen, (first, first + len(images)))
        if start == stop:
            return
        numbers = self._chosen[start:stop]
        rows = numbers - first
        found = images[moved(torch.from_numpy(rows), images.device)]
        kept = Kept(numbers, resized(found, self._size).cpu(), np.asarray(factors)[rows])
        if self._folder is None:
            self._pieces[first] = kept
            return

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(
                    file, numbers=kept.numbers, images=kept.images.numpy(), factors=kept.factors
                )

        replace_file(self._folder / f"{first:015d}.npz", write)

    def load(self) -> Kept:
        """Return all that is kept, by all processes."""
        pieces = list(self._pieces.values())
        if self._folder is not None:
            pieces = [piece for path in sorted(self._folder.glob("*.npz")) for piece in _read(path)]
        size = self._size
        none = Kept(np.empty(0, np.int64), torch.empty(0, 3, size, size).byte(), np.empty((0, 6)))
        pieces = [piece for piece in pieces if piece.images.shape[1:] == none.images.shape[1:]]
        numbers = np.concatenate([none.numbers, *(piece.numbers for piece in pieces)])
        images = torch.cat([none.images, *(piece.images for piece in pieces)])
        factors = np.concatenate([none.factors, *(piece.factors for piece in pieces)])
        found, rows = np.unique(numbers, return_index=True)
        rows = rows[np.isin(found, self._chosen)]
        return Kept(numbers[rows], images[torch.from_numpy(rows)], factors[rows])


def _read(path: Path) -> list[Kept]:
    """Return the piece of a file; none, if it is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            kept = Kept(file["numbers"], torch.from_numpy(file["images"]), file["factors"])
        whole = len(kept.numbers) == len(kept.images) == len(kept.factors)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        whole = False
    if not whole:
        path.unlink()
        return []
    return [kept]
