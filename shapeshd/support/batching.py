"""How many images to work on at a time: found by trying, bounded by the memory.

A batch that leaves the processor's cache is slower than one that stays in it, and one that is
too small spends its time on calls. Where the best lies depends on the machine.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

NO_MEMORY = (MemoryError, RuntimeError)
"""What to catch; ask `says_no_memory` whether it is that."""

_NO_MEMORY = re.compile("out of memory|allocate memory|not enough memory|ALLOC_FAILED")
_TRIES = 3  # the first of a size pays for what is then reused
_WORTHWHILE = 1.05
_UNKNOWN_MEMORY = 2 * 2**30
_LARGE_BLOCK = 32 * 2**20 - 2**16

T = TypeVar("T")


def says_no_memory(error: BaseException) -> bool:
    """Tell whether PyTorch failed for lack of memory; on a CPU it is a plain RuntimeError."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return _NO_MEMORY.search(str(error)) is not None


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device's memory, or 2 GiB where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return _UNKNOWN_MEMORY


_freed_large_block = False


def keep_freed_memory() -> None:
    """Let the C library keep up to 64 MiB of freed memory for the next tensors, if it is glibc's.

    Else a third of the time of small batches goes into pages that are given back to the system and
    asked for again. glibc keeps twice the size of the largest block that was ever freed, and looks
    at blocks below 32 MiB alone (mallopt(3), M_MMAP_THRESHOLD): so one of these is freed.
    """
    global _freed_large_block
    if not _freed_large_block:
        torch.empty(_LARGE_BLOCK, dtype=torch.uint8)
        _freed_large_block = True


def in_threads(work: Callable[[T], object], items: Iterable[T], threads: int) -> None:
    """Call `work` with every item, in so many threads, each with torch to itself.

    Threads of our own and not torch's: those wait for each other after every operation, which
    takes many times as long as soon as something else runs on the machine.

    Args:
        work: called with one item.
        items: taken one by one, in order, as threads get free.
        threads: how many, >= 1; never the calling one, whose number of torch threads is its own.

    Raises:
        Exception: one that `work` raises; no more items are taken after it.
    """
    remaining, taking, ended = iter(items), threading.Lock(), threading.Event()

    def run() -> None:
        with _torch_in_one_thread():
            while not ended.is_set():
                with taking:
                    try:
                        item = next(remaining)
                    except StopIteration:
                        return
                try:
                    work(item)
                except BaseException:
                    ended.set()
                    raise

    with ThreadPoolExecutor(threads, thread_name_prefix="batch") as pool:
        try:
            for future in [pool.submit(run) for _ in range(threads)]:
                future.result()
        finally:
            ended.set()  # an interrupted caller does not wait for all items


_limit = threading.Lock()
_limited = 0
_threads_before = 1


@contextmanager
def _torch_in_one_thread() -> Iterator[None]:
    """Keep torch to one thread in the body, for a thread that ends with it.

    The number is each thread's own, but what a new thread takes over is the last that any
    thread has set: so whoever is the last one here sets it back for all. A thread of somebody
    else that uses torch for the first time meanwhile gets one.
    """
    global _limited, _threads_before
    with _limit:
        if not _limited:
            _threads_before = torch.get_num_threads()
        _limited += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _limit:
            _limited -= 1
            torch.set_num_threads(_threads_before)


def _forget_other_threads() -> None:
    """A forked process has only the thread that forked: none is at work here."""
    global _limit, _limited
    _limit, _limited = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)


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
        self._lock = threading.Lock()

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
        self.learn(count, count / (time.perf_counter() - began))

    def learn(self, count: int, rate: float) -> None:
        """Take note that a batch of `count` items went at `rate` items a second."""
        # Busy (or held by a thread that a fork has left behind): one rate less does not matter.
        if not self._lock.acquire(blocking=False):
            return
        try:
            if count == self.value:  # else another thread has found a better size since
                self._learn(rate)
        finally:
            self._lock.release()

    def _learn(self, rate: float) -> None:
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
        self.value = self._limit = max(1, min(self._limit, count // 2))
        self._searching = False
        return count > 1
