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

    It climbs: twice or half the best size so far is tried next, until neither is faster for an
    item; of sizes within 5% the smallest is the best. It halves when the memory does not suffice.

    Args:
        start: the first size, >= 1.
        limit: the largest size, >= 1.
        fixed: stay at the first size.
    """

    def __init__(self, start: int, limit: int, *, fixed: bool = False) -> None:
        self.value = min(start, limit)
        self._limit = limit
        self._searching = not fixed
        self._rates: dict[int, float] = {}
        self._tries: list[float] = []

    @contextmanager
    def timed(self, count: int, device: torch.device) -> Iterator[None]:
        """Time a batch of `count` items that the body works on, and learn from it."""
        if not self._searching or count != self.value:
            yield
            return
        began = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.learn(count / (time.perf_counter() - began))

    def learn(self, rate: float) -> None:
        """Take note that a batch of `value` items went at `rate` items a second."""
        self._tries.append(rate)
        if len(self._tries) < _TRIES or not self._searching:
            return
        self._rates[self.value] = max(self._tries)
        self._tries.clear()
        enough = max(self._rates.values()) / _WORTHWHILE
        best = min(size for size, rate in self._rates.items() if rate >= enough)
        untried = [
            size
            for size in (2 * best, best // 2)
            if 1 <= size <= self._limit and size not in self._rates
        ]
        self._searching = bool(untried)
        self.value = untried[0] if untried else best

    def shrink(self, count: int) -> bool:
        """Go on with half of `count`, for which the memory was too small; False if that is 0."""
        self.value = self._limit = max(1, count // 2)
        self._searching = False
        self._tries.clear()
        return count > 1
