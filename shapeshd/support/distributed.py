"""The processes that share a piece of work: the cores of this machine, and torchrun's processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import joblib

from shapeshd.errors import ShapesHDError

_DAY = timedelta(days=1)


def core_count() -> int:
    """Return how many cores this process may use (affinity and containers count)."""
    return int(joblib.cpu_count())


def local_number() -> int | None:
    """Return this process's number among those on this machine; None if it works alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        return None
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def process_group(backend: str, timeout: timedelta) -> Iterator[tuple[int, int]]:
    """Join the processes that torchrun has started; one that is joined already stays so.

    Args:
        backend: over which they talk, as `torch.distributed` names it.
        timeout: how long a process waits for the others.

    Yields:
        This process's number, from 0, and how many there are; (0, 1) without torchrun.
    """
    if local_number() is None:
        yield 0, 1
        return
    import torch.distributed as dist

    if own := not dist.is_initialized():
        dist.init_process_group(backend, timeout=timeout)
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        if own:
            dist.destroy_process_group()


def fellow_ended(rank: int, count: int) -> ShapesHDError:
    """Return what to raise if the others cannot be reached: gloo names sockets, not reasons."""
    return ShapesHDError(f"process {rank} of {count}: another one has ended; it has said why")


class Ranks:
    """This process among those that share the work.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
        local: its number on this machine: its GPU.
    """

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0) -> None:
        self.rank, self.count, self.local = rank, count, local

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes results."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all have come here.

        Raises:
            ShapesHDError: if one of them has ended.
        """
        if self.count > 1:
            import torch.distributed as dist

            try:
                dist.barrier()
            except RuntimeError:
                raise fellow_ended(self.rank, self.count) from None

    @property
    def gpu(self) -> int | None:
        """The number of this process's own GPU; None if it shares with none."""
        return self.local if self.count > 1 else None


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun has started; without it there is only this one.

    They meet over gloo, on the CPU: what they share is a folder, and no tensors.
    """
    with process_group("gloo", _DAY) as (rank, count):
        yield Ranks(rank, count, local_number() or 0)
