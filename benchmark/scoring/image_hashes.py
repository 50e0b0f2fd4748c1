"""Hashes of the images that were counted: equal ones are noticed, and some are looked at again."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shapeshd.factors import IntArray
from shapeshd.support.random_numbers import mixed_bits

Hashes = npt.NDArray[np.uint64]
Pixels = npt.NDArray[np.uint8]

KEPT = 2**16
"""Different hashes that are kept, at most; of more images than that only those are kept whose
hashes end with zeros, so that all copies of an image are kept or none."""

FIRST, BLOCK, EACH = 8, 4096, 16
SIDE = 32
"""A witness keeps the pixels of so many rows and columns."""

_KEY = 0x1A6E5  # fixed for ever: hashes are kept in files
_CHUNK_BYTES = 2**20
_PENDING = 2**14


def hash_images(images: Tensor) -> Hashes:
    """Return a 64-bit hash of each image: the same for equal images, whatever device they are on.

    It is a sum of the pixels' 16-bit words times random odd numbers modulo 2^64 (multilinear
    hashing, Carter and Wegman 1979), its bits then mixed by `mixed_bits`. Two different images
    share one with a probability below 2^-47.

    Args:
        images: uint8 (n, 3, H, W).
    """
    flat = images.flatten(1)
    if flat.shape[1] % 2:
        flat = torch.nn.functional.pad(flat, (0, 1))
    words = flat.contiguous().view(torch.int16)
    weights = _weights(words.shape[1], str(words.device))
    rows = max(1, _CHUNK_BYTES // flat.shape[1])
    sums = [(part.to(torch.int64) * weights).sum(1) for part in words.split(rows)]
    return mixed_bits(torch.cat(sums).cpu().numpy().view(np.uint64))


@lru_cache(maxsize=4)
def _weights(length: int, device: str) -> Tensor:
    words = np.random.Philox(key=_KEY).random_raw(length) | np.uint64(1)
    return torch.from_numpy(words.view(np.int64)).to(device)


def end_with_zeros(hashes: Hashes, bits: int) -> npt.NDArray[np.bool_]:
    """Tell of each hash whether its lowest bits, so many, are 0: one in 2^bits is kept so."""
    return np.asarray((hashes & np.uint64((1 << bits) - 1)) == 0)


def pixels_of_witnesses(images: Tensor) -> Pixels:
    """Return `SIDE` x `SIDE` pixels of images (n, 3, H, W), picked evenly: (n, 3, 32, 32)."""
    rows, columns = (
        torch.linspace(0, side - 1, SIDE, device=images.device).round().long()
        for side in images.shape[-2:]
    )
    picked: Pixels = images[:, :, rows][:, :, :, columns].cpu().numpy()
    return picked


def are_witnesses(numbers: IntArray) -> npt.NDArray[np.bool_]:
    """Tell which samples are kept to be compared with when a run goes on.

    The first 8, and the first of each block of 4,096; from the 16th block on of those alone whose
    number is a power of two.
    """
    block = numbers // BLOCK
    chosen = (block < EACH) | (block & (block - 1) == 0)
    return (numbers < FIRST) | ((numbers % BLOCK == 0) & chosen)


class SeenImages:
    """Hashes of the images that were counted, in bounded memory; see `KEPT`.

    Attributes:
        hashes: uint64 (m,), sorted, no two alike.
        first, second: int64 (m,), the lowest numbers of images with a hash; -1 for no second.
        counts: int64 (m,), how many images have it.
        zeros: how many low bits of a hash must be 0 for it to be kept.
        witnesses: number of an image to its hash and some of its pixels, uint8 (3, 32, 32).
    """

    def __init__(self) -> None:
        self.hashes: Hashes = np.zeros(0, np.uint64)
        self.first: IntArray = np.zeros(0, np.int64)
        self.second: IntArray = np.zeros(0, np.int64)
        self.counts: IntArray = np.zeros(0, np.int64)
        self.zeros = 0
        self.witnesses: dict[int, tuple[int, Pixels]] = {}
        self._pending: list[tuple[Hashes, IntArray]] = []
        self._waiting = 0

    def add(self, start: int, images: Tensor) -> None:
        """See the images `start`, `start` + 1, ...: uint8 (n, 3, H, W)."""
        hashes = hash_images(images)
        numbers = np.arange(start, start + len(hashes), dtype=np.int64)
        chosen = np.flatnonzero(are_witnesses(numbers))
        if len(chosen):
            for row, pixels in zip(chosen, pixels_of_witnesses(images[chosen]), strict=True):
                self.witnesses[int(numbers[row])] = (int(hashes[row]), pixels)
        kept = self._keeps(hashes)
        self._pending.append((hashes[kept], numbers[kept]))
        self._waiting += int(kept.sum())
        if self._waiting >= _PENDING:
            self.settle()

    def merge(self, other: SeenImages) -> None:
        """Add what another one has seen of other images."""
        self.settle()
        other.settle()
        self.zeros = max(self.zeros, other.zeros)
        self.witnesses.update(other.witnesses)
        self._combine(other.hashes, other.first, other.second, other.counts)

    def settle(self) -> None:
        """Put the hashes that came since the last time into their places."""
        if not self._pending:
            return
        hashes = np.concatenate([hashes for hashes, _ in self._pending])
        numbers = np.concatenate([numbers for _, numbers in self._pending])
        self._pending, self._waiting = [], 0
        self._combine(hashes, numbers, np.full_like(numbers, -1), np.ones_like(numbers))

    def arrays(self) -> dict[str, Any]:
        """Return what `from_arrays` takes, for an npz file."""
        self.settle()
        numbers = sorted(self.witnesses)
        pixels = [self.witnesses[number][1] for number in numbers]
        return {
            "seen_hashes": self.hashes,
            "seen_numbers": np.stack([self.first, self.second, self.counts]),
            "seen_zeros": np.int64(self.zeros),
            "witnesses": np.array(numbers, np.int64),
            "witness_hashes": np.array([self.witnesses[n][0] for n in numbers], np.uint64),
            "witness_pixels": np.array(pixels, np.uint8).reshape(-1, 3, SIDE, SIDE),
        }

    @classmethod
    def from_arrays(cls, file: Any) -> SeenImages:
        """Return what `arrays` gave; nothing of a file of an earlier version.

        Raises:
            ValueError, KeyError: if the arrays do not fit each other.
        """
        seen = cls()
        if "seen_hashes" not in file:
            return seen
        seen.hashes, seen.zeros = file["seen_hashes"], int(file["seen_zeros"])
        seen.first, seen.second, seen.counts = file["seen_numbers"]
        if len(seen.hashes) != len(seen.first) or seen.hashes.dtype != np.uint64:
            raise ValueError("hashes and numbers differ in length")
        seen.witnesses = {
            int(number): (int(digest), pixels)
            for number, digest, pixels in zip(
                file["witnesses"], file["witness_hashes"], file["witness_pixels"], strict=True
            )
        }
        return seen

    def _keeps(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        return end_with_zeros(hashes, self.zeros)

    def _combine(self, hashes: Hashes, first: IntArray, second: IntArray, counts: IntArray) -> None:
        """Add images by their hashes; those with the same one become one row."""
        twice, again = second >= 0, self.second >= 0
        rows = np.concatenate([self.hashes, self.hashes[again], hashes, hashes[twice]])
        numbers = np.concatenate([self.first, self.second[again], first, second[twice]])
        nothing = (np.zeros(int(again.sum()), np.int64), np.zeros(int(twice.sum()), np.int64))
        many = np.concatenate([self.counts, nothing[0], counts, nothing[1]])
        order = np.lexsort((numbers, rows))
        rows, numbers, many = rows[order], numbers[order], many[order]
        self.hashes, places = np.unique(rows, return_index=True)
        ends = np.append(places[1:], len(rows))
        self.first = numbers[places]
        self.second = np.where(
            ends - places > 1, numbers[np.minimum(places + 1, len(rows) - 1)], -1
        )
        self.counts = np.add.reduceat(many, places) if len(rows) else many
        while len(self.hashes) > KEPT or not self._keeps(self.hashes).all():
            self.zeros += len(self.hashes) > KEPT
            kept = self._keeps(self.hashes)
            for name in ("hashes", "first", "second", "counts"):
                setattr(self, name, getattr(self, name)[kept])
