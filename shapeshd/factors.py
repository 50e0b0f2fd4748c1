"""The six factors of 3DShapesHD: one table, i.i.d. uniform sampling, and binning.

Factors travel as float64 arrays of shape (n, 6) in the order of `FACTORS`, which is the
order of the original 3dshapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from shapeshd.support.random_numbers import draws_at

from .checks import whole_number
from .errors import UsageError, named

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Factor:
    """One generating factor: its name, unit, range [low, high], topology and number of bins."""

    name: str
    unit: str
    low: float
    high: float
    topology: Literal["circle", "interval", "discrete"]
    bins: int

    @property
    def period(self) -> float:
        """Length of the range."""
        return self.high - self.low


SHAPES = ("cube", "cylinder", "sphere", "capsule")

FACTORS = (
    Factor("floor_hue", "turn", 0.0, 1.0, "circle", 12),
    Factor("wall_hue", "turn", 0.0, 1.0, "circle", 12),
    Factor("object_hue", "turn", 0.0, 1.0, "circle", 12),
    Factor("scale", "relative size", 1.0, 2.0, "interval", 4),
    Factor("shape", "index", 0, len(SHAPES) - 1, "discrete", len(SHAPES)),
    Factor("orientation", "degree", -30.0, 30.0, "interval", 6),
)
NAMES = tuple(factor.name for factor in FACTORS)
SHAPE = NAMES.index("shape")
BIN_SHAPE = tuple(factor.bins for factor in FACTORS)
NUM_BINS = int(np.prod(BIN_SHAPE))
"""k = 12^3 x 4 x 4 x 6 = 165,888, the number of joint bins (section 3.2 of the paper)."""

MAX_SEED = 2**63 - 1
MAX_IMAGE = 2**62
"""No image of a seed has this index or a larger one: its counters stay within 64 bits."""
_COUNTERS_PER_IMAGE = 2  # one Philox counter gives four 64-bit draws; an image owns eight draws


def check_seed(seed: int) -> int:
    """Return `seed` if it is an integer in [0, 2^63 - 1], else raise `UsageError`."""
    return whole_number(named("seed"), seed, 0, MAX_SEED)


def uniform_factors(seed: int, start: int, stop: int) -> FloatArray:
    """Draw the factors of the images `start` .. `stop` - 1, i.i.d. uniform.

    Row i is a function of (seed, i) alone: the counter-based generator Philox4x64-10
    (Salmon et al. 2011) runs with key `seed`, and image i owns the counters 2i + 1 and
    2i + 2. How a set is cut into shards or batches therefore cannot change it.

    Args:
        seed: key of the generator, in [0, 2^63 - 1]; 0 is a seed like any other.
        start: first image, >= 0.
        stop: one past the last image, >= `start`.

    Returns:
        float64 array of shape (stop - start, 6), columns as in `FACTORS`. Hues lie in
        [0, 1), the scale in [1, 2), the orientation in [-30, 30).

    Raises:
        UsageError: if the seed or the interval is impossible.
    """
    return from_unit(unit_numbers(seed, start, stop))


def unit_numbers(seed: int, start: int, stop: int) -> FloatArray:
    """Draw the six numbers that decide the factors of each image: (stop - start, 6) in [0, 1).

    Arguments and errors as of `uniform_factors`; multiples of 2^-53.
    """
    check_seed(seed)
    if not 0 <= start <= stop:
        raise UsageError(f"images must satisfy 0 <= start <= stop, not {start} and {stop}")
    count = stop - start
    generator = np.random.Philox(key=seed, counter=_COUNTERS_PER_IMAGE * start)
    per_image = 4 * _COUNTERS_PER_IMAGE
    return _from_draws(generator.random_raw(per_image * count).reshape(count, per_image))


def uniform_factors_at(seed: int, indices: npt.ArrayLike) -> FloatArray:
    """Return the factors that `uniform_factors` draws for images in any order.

    Args:
        seed: key of the generator, in [0, 2^63 - 1].
        indices: whole numbers of shape (n,), each in [0, `MAX_IMAGE`).

    Returns:
        float64 array of shape (n, 6), columns as in `FACTORS`.

    Raises:
        UsageError: if the seed or an index is impossible.
    """
    return from_unit(unit_numbers_at(seed, indices))


def unit_numbers_at(seed: int, indices: npt.ArrayLike) -> FloatArray:
    """Return the numbers that `unit_numbers` draws for images in any order: (n, 6) in [0, 1).

    Arguments and errors as of `uniform_factors_at`.
    """
    check_seed(seed)
    images = np.asarray(indices, dtype=np.int64)
    if images.size and not 0 <= images.min() <= images.max() < MAX_IMAGE:
        raise UsageError(f"the index of an image must be at least 0 and below {MAX_IMAGE:,}")
    counters = (_COUNTERS_PER_IMAGE * image for image in images.tolist())
    return _from_draws(draws_at(seed, counters, 4 * _COUNTERS_PER_IMAGE))


def _from_draws(draws: npt.NDArray[np.uint64]) -> FloatArray:
    """Turn the 64-bit draws of each image, (n, 8), into numbers in [0, 1), (n, 6)."""
    return (draws[:, : len(FACTORS)] >> np.uint64(11)) * 2.0**-53


def from_unit(unit: FloatArray) -> FloatArray:
    """Map the unit cube to factors: (n, 6) values in [0, 1) -> (n, 6) factors.

    A uniform input gives uniform factors; the shape index is floor(4 u).
    """
    factors = np.empty(unit.shape, dtype=np.float64)
    for column, factor in enumerate(FACTORS):
        if factor.topology == "discrete":
            factors[:, column] = np.floor(unit[:, column] * factor.bins)
        else:
            factors[:, column] = factor.low + factor.period * unit[:, column]
    return factors


def check_factors(factors: npt.ArrayLike) -> FloatArray:
    """Return `factors` as a float64 array of shape (n, 6), or raise `UsageError`.

    Every value must be finite and inside the factor's range, both ends included (a hue of
    1 is red again); the shape must be one of the whole numbers 0 to 3.
    """
    try:
        given = np.asarray(factors)
    except (TypeError, ValueError) as error:
        raise UsageError(f"factors must be numbers: {error}") from None
    if given.dtype.kind not in "biuf":  # NumPy would parse texts and cut complex numbers
        raise UsageError(f"factors must be numbers, not {given.dtype}")
    array = given.astype(np.float64, copy=False)
    if array.ndim != 2 or array.shape[1] != len(FACTORS):
        raise UsageError(f"factors must have shape (n, {len(FACTORS)}), not {array.shape}")
    for column, factor in enumerate(FACTORS):
        values = array[:, column]
        wrong = ~((values >= factor.low) & (values <= factor.high))  # NaN is wrong too
        if factor.topology == "discrete":
            wrong |= values != np.floor(values)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UsageError(
                f"row {row}: {factor.name} is {values[row]:g}, but must be {describe_range(factor)}"
            )
    return array


def describe_range(factor: Factor) -> str:
    """Say which values `factor` can take, in words for a message."""
    if factor.topology == "discrete":
        names = ", ".join(f"{index} ({name})" for index, name in enumerate(SHAPES))
        return f"one of {names}"
    return f"between {factor.low:g} and {factor.high:g} ({factor.unit})"


def bin_indices(factors: npt.ArrayLike) -> IntArray:
    """Sort factors into each factor's own equal bins.

    Hues wrap (1.0 falls into the first bin, -0.01 into the last). Interval values beyond
    an end, which a recognition network can give, count into the bin at that end; so does
    the end of the range itself. The shape is rounded to the nearest index.

    Args:
        factors: (n, 6) finite numbers.

    Returns:
        int64 array of shape (n, 6); column j lies in [0, FACTORS[j].bins).

    Raises:
        UsageError: if the shape is not (n, 6) or a value is NaN or infinite.
    """
    array = np.asarray(factors, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(FACTORS):
        raise UsageError(f"factors must have shape (n, {len(FACTORS)}), not {array.shape}")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise UsageError(f"row {row}: {NAMES[column]} is {array[row, column]}")
    indices = np.empty(array.shape, dtype=np.int64)
    for column, factor in enumerate(FACTORS):
        values = array[:, column]
        if factor.topology == "discrete":
            positions = np.rint(values)
        else:
            if factor.topology == "circle":
                values = np.mod(values - factor.low, factor.period) + factor.low
            positions = np.floor((values - factor.low) * (factor.bins / factor.period))
        indices[:, column] = np.clip(positions, 0, factor.bins - 1)
    return indices


def joint_bins(factors: npt.ArrayLike) -> IntArray:
    """Number the joint bin of every row: int64 of shape (n,), in [0, `NUM_BINS`).

    The last factor varies fastest, as in ``np.ravel_multi_index(..., BIN_SHAPE)``.
    """
    return np.ravel_multi_index(tuple(bin_indices(factors).T), BIN_SHAPE).astype(np.int64)
