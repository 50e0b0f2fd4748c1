"""Random numbers and orders that depend on a seed and a position alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Words = npt.NDArray[np.uint64]

# Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", table 2.
_ROUNDS = 10
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_HALF = np.uint64(32)
_LOW = np.uint64(2**32 - 1)


def philox(key: int, counters: Words) -> Words:
    """Return the four 64-bit words that each counter gives.

    Args:
        key: in [0, 2^64 - 1].
        counters: uint64, any shape; the upper 192 bits of a counter are 0.

    Returns:
        uint64, the shape of `counters` with an axis of 4 added, as
        ``np.random.Philox(key=key, counter=counter - 1).random_raw(4)`` gives them.
    """
    zero = np.zeros_like(counters)
    words = (counters, zero, zero, zero)
    keys = (key, 0)
    for _ in range(_ROUNDS):
        high, low = zip(*map(_multiply, _MULTIPLIERS, words[::2]), strict=True)
        words = (
            high[1] ^ words[1] ^ np.uint64(keys[0]),
            low[1],
            high[0] ^ words[3] ^ np.uint64(keys[1]),
            low[0],
        )
        keys = ((keys[0] + _WEYL[0]) % 2**64, (keys[1] + _WEYL[1]) % 2**64)
    return np.stack(words, axis=-1)


def _multiply(constant: int, words: Words) -> tuple[Words, Words]:
    """Return the upper and the lower 64 bits of the products with `constant`."""
    upper, lower = np.uint64(constant >> 32), np.uint64(constant % 2**32)
    high, low = words >> _HALF, words & _LOW
    high_lower, low_upper = high * lower, low * upper
    carry = ((low * lower) >> _HALF) + (high_lower & _LOW) + (low_upper & _LOW)
    product = high * upper + (high_lower >> _HALF) + (low_upper >> _HALF) + (carry >> _HALF)
    return product, words * np.uint64(constant)


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
