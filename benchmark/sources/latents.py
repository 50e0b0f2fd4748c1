"""What a generator makes its images from: normal latents, seeds, choices, by sample index.

Sample i's latent, seed or choice is a function of (seed, i) alone, so that a run that is resumed,
or shared out, sees the same samples.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtri
from torch import Tensor

from shapeshd.checks import whole_number
from shapeshd.errors import UsageError
from shapeshd.factors import MAX_IMAGE, check_seed
from shapeshd.support.device import moved

MAX_DIM = 2**22
"""More components than any generator's latent has; it keeps the counters within 256 bits."""

MAX_SEEDS = 2**32

MAX_CHOICES = 2**20
"""More classes than any generator has."""

# The upper word of Philox's key: 0 belongs to the factors of the dataset.
_NORMAL, _PERMUTATION, _CHOICE = 1, 2, 3
_WORDS = 4  # 64-bit words that one Philox counter gives
_ROUNDS = 6


def normal_latents(
    seed: int, start: int, stop: int, dim: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Draw the latents of the samples `start` .. `stop` - 1, i.i.d. standard normal.

    Row i is a function of (seed, i, dim) alone: Philox4x64-10 runs with a key that the
    dataset's factors never use, sample i owns ceil(dim / 4) counters, and each 64-bit word
    becomes one value through the inverse of the normal distribution function. Computed in
    float64 on the CPU whatever the device is, so that all devices see the same latents.

    Args:
        seed: in [0, 2^63 - 1].
        start: first sample, >= 0.
        stop: one past the last sample, >= `start`.
        dim: components of a latent, >= 1.
        device: where the result is put.

    Returns:
        float32 (stop - start, dim); |z| < 8.3.

    Raises:
        UsageError: if an argument is out of its range.
    """
    check_seed(seed)
    whole_number("the latent dimension", dim, 1, MAX_DIM)
    check_samples(start, stop, MAX_IMAGE)
    counters = -(-dim // _WORDS)
    generator = np.random.Philox(key=seed + (_NORMAL << 64), counter=counters * start)
    words = generator.random_raw(_WORDS * counters * (stop - start))
    words = words.reshape(stop - start, _WORDS * counters)[:, :dim]
    # 52 bits and a half: every value is exact in float64, and neither 0 nor 1.
    unit = ((words >> np.uint64(12)) + 0.5) * 2.0**-52
    return moved(torch.from_numpy(ndtri(unit).astype(np.float32)), device)


def sample_seeds(seed: int, start: int, stop: int) -> npt.NDArray[np.int64]:
    """Return a seed for each of the samples `start` .. `stop` - 1, no two alike.

    Seed i is the image of i under a permutation of the 32-bit numbers that `seed` draws (a
    Feistel network), so each fits every framework's generator, NumPy's old one included, and
    no sample is ever made twice, as 32-bit numbers drawn at random would do it a thousand
    times in three million.

    Args:
        seed: in [0, 2^63 - 1].
        start: first sample, >= 0.
        stop: one past the last sample, at most 2^32.

    Returns:
        int64 (stop - start,), each in [0, 2^32 - 1].

    Raises:
        UsageError: if an argument is out of its range.
    """
    check_seed(seed)
    check_samples(start, stop, MAX_SEEDS)
    index = np.arange(start, stop, dtype=np.int64)
    left, right = index >> 16, index & 0xFFFF
    for table in _tables(seed):
        left, right = right, left ^ table[right]
    return (left << 16) | right


class Seeds(np.ndarray[Any, np.dtype[np.int64]]):
    """Seeds as a user's function gets them: an int64 array (n,) whose elements are Python ints.

    PyTorch's generators take no NumPy numbers as seeds.
    """

    @classmethod
    def of(cls, seeds: npt.NDArray[np.int64]) -> Seeds:
        """Return a view of an array."""
        return seeds.view(cls)

    def __getitem__(self, key: Any) -> Any:
        """Return an int for a number, and an array for anything else."""
        found = super().__getitem__(key)
        return int(found) if isinstance(found, np.integer) else found

    def __iter__(self) -> Any:
        """Yield ints."""
        return iter(self.tolist())


def batch_seed(seed: int, start: int) -> int:
    """Return a seed for what a batch draws beside its latents, in [0, 2^32 - 1].

    It is no sample's `sample_seeds`: those are counted from the other end.

    Args:
        seed: of the samples.
        start: the batch's first sample, >= 0.
    """
    last = MAX_SEEDS - 1 - start % MAX_SEEDS
    return int(sample_seeds(seed, last, last + 1)[0])


def sample_choices(seed: int, start: int, stop: int, count: int) -> npt.NDArray[np.int64]:
    """Draw one of `count` things, such as class labels, for each of some samples.

    Choice i is a function of (seed, i, count) alone: floor(u count / 2^40), u being the upper 40
    bits of word i of a Philox stream whose key neither the latents nor the factors use. So the
    probabilities differ by less than 2^-40 from one another.

    Args:
        seed: in [0, 2^63 - 1].
        start: first sample, >= 0.
        stop: one past the last sample, >= `start`.
        count: in [1, `MAX_CHOICES`].

    Returns:
        int64 (stop - start,), each in [0, count - 1].

    Raises:
        UsageError: if an argument is out of its range.
    """
    check_seed(seed)
    whole_number("the number of choices", count, 1, MAX_CHOICES)
    check_samples(start, stop, MAX_IMAGE)
    skipped = start % _WORDS
    generator = np.random.Philox(key=seed + (_CHOICE << 64), counter=start // _WORDS)
    words = generator.random_raw(skipped + stop - start)[skipped:]
    # 40 bits times at most 2^20: whole numbers within 64 bits, so that no machine rounds.
    drawn = ((words >> np.uint64(24)) * np.uint64(count)) >> np.uint64(40)
    return drawn.astype(np.int64)


def check_samples(start: int, stop: int, most: int) -> None:
    """Raise `UsageError` unless 0 <= start <= stop <= most."""
    if not 0 <= start <= stop <= most:
        raise UsageError(
            f"samples must satisfy 0 <= start <= stop <= {most:,}, not {start} and {stop}"
        )


@lru_cache(maxsize=4)
def _tables(seed: int) -> npt.NDArray[np.int64]:
    """Draw the round functions of the permutation: (rounds, 2^16), each value below 2^16."""
    words = np.random.Philox(key=seed + (_PERMUTATION << 64)).random_raw(_ROUNDS << 16)
    return (words >> np.uint64(48)).astype(np.int64).reshape(_ROUNDS, 1 << 16)
