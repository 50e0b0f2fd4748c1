"""The processes that share a piece of work: the cores of this machine, and torchrun's processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import joblib

from shapeshd.errors import ShapesHDError


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
