"""Several processes that share a score: started by torchrun, or just this one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from shapeshd.errors import ShapesHDError

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
            except RuntimeError:  # gloo's words name sockets, not reasons
                raise ShapesHDError(
                    f"process {self.rank} of {self.count}: another one has ended; it has said why"
                ) from None

    @property
    def gpu(self) -> int | None:
        """The number of this process's own GPU; None if it shares with none."""
        return self.local if self.count > 1 else None


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun has started; without it there is only this one.

    They meet over gloo, on the CPU: what they share is a folder, and no tensors.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    import torch.distributed as dist

    if own := not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_DAY)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        if own:
            dist.destroy_process_group()
