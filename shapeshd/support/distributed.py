"""The processes that share a piece of work: the cores of this machine, and torchrun's processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import joblib

from shapeshd.errors import ShapesHDError, UsageError, one_line

from .progress import note

_DAY = timedelta(days=1)
_TORCHRUN = "TORCHELASTIC_RUN_ID"  # which torchrun sets, and other launchers do not
_RENDEZVOUS_SECONDS = 60.0
_TRY = timedelta(seconds=2)
_LOOK_AGAIN, _STEP = 0.2, 0.02  # seconds
_JOINED = "shapeshd-joined"
_ALONE = "unset WORLD_SIZE and RANK to work alone"


def core_count() -> int:
    """Return how many cores this process may use (affinity and containers count)."""
    return int(joblib.cpu_count())


def local_number() -> int | None:
    """Return this process's number among those on this machine; None if it works alone.

    Raises:
        UsageError: if the environment names processes in a way that means nothing.
    """
    if _number("WORLD_SIZE", 1) == 1 or "RANK" not in os.environ:
        return None
    return _number("LOCAL_RANK", 0)


def check_launcher() -> None:
    """Refuse variables of a launcher that do not fit each other; PyTorch is not needed for it.

    Raises:
        UsageError: naming what is lacking.
    """
    if local_number() is None or _TORCHRUN in os.environ:
        return
    rank, count = _number("RANK", 0), _number("WORLD_SIZE", 1)
    address, port = os.environ.get("MASTER_ADDR"), _number("MASTER_PORT", 0)
    if not address or not port or rank >= count:
        lacking = "RANK is too high" if rank >= count else "MASTER_ADDR or MASTER_PORT is not"
        promised = f"WORLD_SIZE={count} and RANK={rank} are set"
        raise UsageError(f"{promised}, but {lacking}: {_ALONE}, or start it by torchrun")


def _number(name: str, default: int) -> int:
    """Return what a launcher has put into the environment."""
    text = os.environ.get(name, str(default))
    if not text.strip().isdecimal():
        raise UsageError(f"the environment says {name}={text!r}, which is no number: unset {name}")
    return int(text)


@contextmanager
def process_group(backend: str, timeout: timedelta) -> Iterator[tuple[int, int]]:
    """Join the processes that torchrun has started; one that is joined already stays so.

    Args:
        backend: over which they talk, as `torch.distributed` names it.
        timeout: how long a process waits for the others, once all have met.

    Yields:
        This process's number, from 0, and how many there are; (0, 1) without torchrun.

    Raises:
        UsageError: if the environment speaks of processes that are not there.
    """
    if local_number() is None:
        yield 0, 1
        return
    import torch.distributed as dist

    if own := not dist.is_initialized():
        if _TORCHRUN in os.environ:
            dist.init_process_group(backend, timeout=timeout)
        else:
            rank, count = _number("RANK", 0), _number("WORLD_SIZE", 1)
            store = _meet(rank, count, timeout)
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=count, timeout=timeout
            )
    try:
        yield dist.get_rank(), dist.get_world_size()
    except KeyboardInterrupt:
        own = False  # to leave the group would wait for the others, at whatever they are
        raise
    finally:
        if own:
            dist.destroy_process_group()


def _meet(rank: int, count: int, timeout: timedelta) -> Any:
    """Wait until all processes of another launcher are there; return the store that they share.

    Variables that an earlier session left in the environment look just as a launcher's, so it is
    said at once what is waited for, and not for long. Signals are heard meanwhile.

    Raises:
        UsageError: if the variables do not fit each other, or not all processes come.
    """
    import torch.distributed as dist

    check_launcher()
    promised = f"WORLD_SIZE={count} and RANK={rank} are set"
    address, port = os.environ["MASTER_ADDR"], _number("MASTER_PORT", 0)
    if rank == 0:
        note(f"{promised}: waiting for {count - 1} more at {address}:{port}; {_ALONE}")
    latest, store = time.monotonic() + _RENDEZVOUS_SECONDS, None
    while time.monotonic() < latest:
        try:
            if store is None:
                store = dist.TCPStore(
                    address, port, is_master=rank == 0, wait_for_workers=False, timeout=_TRY
                )
                store.add(_JOINED, 1)
            if store.add(_JOINED, 0) >= count:
                store.set_timeout(timeout)
                return store
        except (RuntimeError, ValueError) as error:
            if rank == 0:
                raise UsageError(
                    f"{promised}, but {address}:{port} cannot be used ({one_line(error)}): {_ALONE}"
                ) from None
        time.sleep(_LOOK_AGAIN)
    there = 0 if store is None else store.add(_JOINED, 0)
    raise UsageError(
        f"{promised}, but within {_RENDEZVOUS_SECONDS:.0f} s only {there} of {count} processes "
        f"came to {address}:{port}: {_ALONE}"
    )


def fellow_missing(rank: int, count: int, error: RuntimeError) -> ShapesHDError:
    """Return what to raise if the others cannot be reached: gloo names sockets, not reasons."""
    late = any(words in str(error).lower() for words in ("timed out", "timeout"))
    what = "is too long in coming" if late else "has ended; it has said why"
    return ShapesHDError(f"process {rank} of {count}: another one {what}")


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
            ShapesHDError: if one of them has ended, or has not come for a day.
        """
        if self.count > 1:
            import torch.distributed as dist

            try:
                work = dist.barrier(async_op=True)
                while not work.is_completed():  # in steps, between which signals are heard
                    time.sleep(_STEP)
                work.wait()
            except RuntimeError as error:
                raise fellow_missing(self.rank, self.count, error) from None

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
