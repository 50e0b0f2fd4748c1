"""The recognised factors of the images that were counted, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shapeshd.benchmark.image_check.kept_images import hashes
from shapeshd.factors import FACTORS, FloatArray, IntArray

from .image_hashes import end_with_zeros

MOST = 2**16
"""Images whose factors are kept, at most: of more only those whose number has a hash that ends
with zeros, the same ones however a run was stopped or shared out."""

_PENDING = 2**14


class SeenFactors:
    """Recognised factors of counted images; see `MOST`.

    Attributes:
        numbers: int64 (m,), of the images.
        factors: float32 (m, 6).
        zeros: how many low bits of a number's hash must be 0 for it to be kept.
    """

    def __init__(self) -> None:
        self.numbers: IntArray = np.zeros(0, np.int64)
        self.factors: npt.NDArray[np.float32] = np.zeros((0, len(FACTORS)), np.float32)
        self.zeros = 0
        self._pending: list[tuple[IntArray, npt.NDArray[np.float32]]] = []
        self._waiting = 0

    def add(self, start: int, factors: FloatArray) -> None:
        """See the factors (n, 6) of the images `start`, `start` + 1, ..."""
        numbers = np.arange(start, start + len(factors), dtype=np.int64)
        kept = self._keeps(numbers)
        self._pending.append((numbers[kept], np.asarray(factors, np.float32)[kept]))
        self._waiting += int(kept.sum())
        if self._waiting >= _PENDING:
            self.settle()

    def merge(self, other: SeenFactors) -> None:
        """Add what another one has seen of other images."""
        other.settle()
        self.zeros = max(self.zeros, other.zeros)
        self._pending.append((other.numbers, other.factors))
        self.settle()

    def settle(self) -> None:
        """Put together what came since the last time."""
        numbers = np.concatenate([self.numbers, *(one for one, _ in self._pending)])
        factors = np.concatenate([self.factors, *(one for _, one in self._pending)])
        self._pending, self._waiting = [], 0
        kept = self._keeps(numbers)
        while kept.sum() > MOST:
            self.zeros += 1
            kept = self._keeps(numbers)
        self.numbers, rows = np.unique(numbers[kept], return_index=True)
        self.factors = factors[kept][rows]

    def arrays(self) -> dict[str, Any]:
        """Return what `from_arrays` takes, for an npz file."""
        self.settle()
        return {
            "read_numbers": self.numbers,
            "read_factors": self.factors,
            "read_zeros": np.int64(self.zeros),
        }

    @classmethod
    def from_arrays(cls, file: Any) -> SeenFactors:
        """Return what `arrays` gave; nothing of a file of an earlier version.

        Raises:
            ValueError, KeyError: if the arrays do not fit each other.
        """
        seen = cls()
        if "read_numbers" not in file:
            return seen
        seen.numbers, seen.factors = file["read_numbers"], file["read_factors"]
        seen.zeros = int(file["read_zeros"])
        if seen.factors.shape != (len(seen.numbers), len(FACTORS)):
            raise ValueError("numbers and factors differ in length")
        return seen

    def _keeps(self, numbers: IntArray) -> npt.NDArray[np.bool_]:
        return end_with_zeros(hashes(numbers), self.zeros)
