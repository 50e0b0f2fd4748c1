"""How many images to work on at a time: found by trying, bounded by the memory.

A batch that leaves the processor's cache is slower than one that stays in it, and one that is
too small spends its time on calls. Where the best lies depends on the machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

NO_MEMORY = (torch.OutOfMemoryError, MemoryError, RuntimeError)
"""What to catch; ask `says_no_memory` whether it is that."""

_TRIES = 3  # the first of a size pays for what is then reused
_WORTHWHILE = 1.05
_UNKNOWN_MEMORY = 2 * 2**30


def says_no_memory(error: BaseException) -> bool:
    """Tell whether PyTorch failed for lack of memory; on a CPU it is a plain RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "not enough memory" in str(error) or "can't allocate memory" in str(error)


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device's memory, or 2 GiB where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return _UNKNOWN_MEMORY


class BatchSize:
    """The size of the next batch.

    It doubles as long as that makes a batch's items at least 5% faster, up to `limit`, and
    halves when the memory does not suffice.

    Args:
        limit: the largest size, >= 1.
        fixed: take that size from the beginning instead of trying.
    """

    def __init__(self, limit: int, *, fixed: bool = False) -> None:
        self.value = limit if fixed else 1
        self._limit = limit
        self._searching = not fixed and limit > 1
        self._best_rate = 0.0
        self._rates: list[float] = []

    @contextmanager
    def timed(self, count: int, device: torch.device) -> Iterator[None]:
        """Time a batch of `count` items that the body works on, and learn from it."""
        if not self._searching or count < self.value:
            yield
            return
        began = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self._learn(count / (time.perf_counter() - began))

    def _learn(self, rate: float) -> None:
        self._rates.append(rate)
        if len(self._rates) < _TRIES or not self._searching:
            return
        rate, self._rates = max(self._rates), []
        if rate < _WORTHWHILE * self._best_rate:
            self.value = max(1, self.value // 2)
            self._searching = False
        else:
            self._best_rate = rate
            self.value, self._searching = min(2 * self.value, self._limit), self.value < self._limit

    def shrink(self, count: int) -> bool:
        """Go on with half of `count`, for which the memory was too small; False if that is 0."""
        self.value = self._limit = max(1, count // 2)
        self._searching, self._rates = False, []
        return count > 1
