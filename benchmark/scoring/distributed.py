"""Several processes that share a score: started by torchrun, or just this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from shapeshd.support.distributed import fellow_ended, local_number, process_group

_DAY = timedelta(days=1)


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
