"""Random numbers and orders that are functions of a seed and a position alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def mixed_seed(*numbers: int) -> int:
    """Return a seed for PyTorch that depends on all of several numbers."""
    from numpy.random import SeedSequence

    return int(SeedSequence(list(numbers)).generate_state(1, "uint64")[0] >> 1)


def shuffled_batches(
    count: int, batch: int, first: int, last: int, generator: Callable[[int], torch.Generator]
) -> Iterator[Tensor]:
    """Yield the rows of the steps `first` .. `last` - 1: permutations of all data, one an epoch.

    Args:
        count: rows there are; what does not fill a batch at an epoch's end is left out of it.
        batch: rows of a step.
        first: step to begin with.
        last: one past the last.
        generator: gives the random numbers of an epoch, on the CPU.

    Yields:
        int64 (batch,).
    """
    per_epoch = count // batch
    known, rows = -1, torch.empty(0)
    for step in range(first, last):
        epoch, number = divmod(step, per_epoch)
        if epoch != known:
            known, rows = epoch, torch.randperm(count, generator=generator(epoch))
        yield rows[number * batch : (number + 1) * batch]
