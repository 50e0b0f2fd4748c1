"""Random numbers and orders that depend on a seed and a position alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_COUNTERS = 2**256  # of Philox, which wrap around


def draws_at(key: int, counters: Iterable[int], count: int) -> npt.NDArray[np.uint64]:
    """Return the 64-bit numbers that NumPy's Philox draws after each of several counters.

    It costs 2.4 us a counter, where reading an image costs 280 us and tracing one on a CPU 1 ms.

    Args:
        key: of the generator, in [0, 2^64 - 1].
        counters: n whole numbers, in any order.
        count: numbers to draw after each; a multiple of 4, as one counter gives four.

    Returns:
        uint64 (n, count); row i is what
        ``np.random.Philox(key=key, counter=counters[i]).random_raw(count)`` gives.
    """
    generator, reached = np.random.Philox(key=key, counter=0), 0
    rows = [np.empty(0, np.uint64)]
    for counter in counters:
        generator.advance((counter - reached) % _COUNTERS)
        rows.append(generator.random_raw(count))
        reached = counter + count // 4
    return np.concatenate(rows).reshape(-1, count)


def seeded_order(seed: int, count: int) -> npt.NDArray[np.int64]:
    """Return the numbers 0 .. count - 1 in an order that depends on both alone.

    Whatever the versions of NumPy: it sorts by numbers that Philox draws, whose stream is fixed,
    as that of NumPy's `permutation` is not. 16 bytes a number.
    """
    keys = np.random.Philox(np.random.SeedSequence(seed)).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def mixed_bits(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return well-mixed numbers, one for each: the finalizer of SplitMix64 (Steele et al. 2014).

    Different numbers give different ones.

    Args:
        values: uint64, of any shape.
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(values ^ (values >> np.uint64(31)), dtype=np.uint64)


def mixed_seed(*numbers: int) -> int:
    """Return a seed for PyTorch that depends on all of several numbers."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1, "uint64")[0] >> 1)


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
    import torch

    per_epoch = count // batch
    known, rows = -1, torch.empty(0)
    for step in range(first, last):
        epoch, number = divmod(step, per_epoch)
        if epoch != known:
            known, rows = epoch, torch.randperm(count, generator=generator(epoch))
        yield rows[number * batch : (number + 1) * batch]
