"""Samplings of the factors: i.i.d. from a known distribution, 3dshapes' grid, or a table.

A sampling gives the factors of images by their indices; its name is recorded in every shard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from shapeshd.checks import whole_number
from shapeshd.distribution import Distribution
from shapeshd.errors import UsageError, named, one_line
from shapeshd.factors import (
    FACTORS,
    NAMES,
    SHAPE,
    SHAPES,
    FloatArray,
    IntArray,
    check_factors,
    check_seed,
    describe_range,
    uniform_factors,
)

if TYPE_CHECKING:
    import pandas as pd

_IGNORED_COLUMNS = ("index", "file")  # what `shapeshd export` writes beside the factors

GRID_STEPS = (10, 10, 10, 8, 4, 15)
"""Values per factor in the original 3dshapes: 480,000 combinations."""


class Sampling(Protocol):
    """A sequence of factors, one row an image."""

    name: str
    seed: int
    distribution: str
    """`Distribution.text` of a distribution that is not uniform; else ""."""

    @property
    def length(self) -> int | None:
        """How many images there are at most; None without an end."""

    def factors(self, start: int, stop: int) -> FloatArray:
        """Return the factors of the images `start` .. `stop` - 1: float64 (stop - start, 6)."""


class UniformSampling:
    """I.i.d. uniform factors, a function of (seed, index) alone."""

    name = "uniform"
    distribution = ""
    length: int | None = None

    def __init__(self, seed: int = 0) -> None:
        self.seed = check_seed(seed)

    def factors(self, start: int, stop: int) -> FloatArray:
        """Return the factors of the images `start` .. `stop` - 1: float64 (stop - start, 6)."""
        return uniform_factors(self.seed, start, stop)


class DistributionSampling:
    """I.i.d. factors of a known distribution, a function of it and (seed, index) alone."""

    name = "distribution"
    length: int | None = None

    def __init__(self, distribution: Distribution, seed: int = 0) -> None:
        self.distribution = distribution.text
        self.seed = check_seed(seed)
        self._distribution = distribution

    def factors(self, start: int, stop: int) -> FloatArray:
        """Return the factors of the images `start` .. `stop` - 1: float64 (stop - start, 6)."""
        return self._distribution.factors(self.seed, start, stop)


class GridSampling:
    """Every combination of the original 3dshapes, in its order (orientation fastest).

    Hues take 10 values from 0 to 0.9 turns, the scale 8 and the orientation 15 values
    from end to end of their ranges.

    Args:
        steps: values of each factor; other ones than those of 3dshapes give another grid.

    Raises:
        UsageError: if there is not a number for each factor, one is below 1, or the shapes are
            not all of them.
    """

    name = "grid"
    seed = 0
    distribution = ""

    def __init__(self, steps: Sequence[int] = GRID_STEPS) -> None:
        self.steps = tuple(whole_number("steps", number, 1) for number in steps)
        if len(self.steps) != len(FACTORS) or self.steps[SHAPE] != len(SHAPES):
            raise UsageError(
                f"{named('steps')} must be a number for each of {', '.join(NAMES)}, and "
                f"{len(SHAPES)} for shape, not {tuple(steps)}"
            )
        self.length = math.prod(self.steps)

    def factors(self, start: int, stop: int) -> FloatArray:
        """Return the factors of the images `start` .. `stop` - 1: float64 (stop - start, 6)."""
        return self.factors_at(np.arange(start, stop))

    def factors_at(self, indices: IntArray) -> FloatArray:
        """Return the factors of images in any order, by indices int64 (n,): float64 (n, 6)."""
        positions = np.unravel_index(indices, self.steps)
        columns = [
            np.linspace(factor.low, factor.high, steps, endpoint=factor.topology != "circle")[index]
            for factor, steps, index in zip(FACTORS, self.steps, positions, strict=True)
        ]
        return np.stack(columns, axis=1)


class TableSampling:
    """The rows of a table of factors, in order."""

    name = "table"
    seed = 0
    distribution = ""

    def __init__(self, values: FloatArray) -> None:
        self._values = check_factors(values)
        self.length: int | None = len(self._values)

    def factors(self, start: int, stop: int) -> FloatArray:
        """Return the rows `start` .. `stop` - 1: float64 (stop - start, 6)."""
        return self._values[start:stop]

    @classmethod
    def from_csv(cls, path: Path) -> TableSampling:
        """Read a CSV file with one column for each factor, named as in `FACTORS`.

        The columns may stand in any order; a shape may be given by index or by name. The
        ``labels.csv`` of an exported dataset is such a file.

        Raises:
            UsageError: naming the row (the header is row 1, as in a spreadsheet) and the
                column that is wrong.
        """
        return cls(read_factor_table(path))


def make_sampling(
    name: str, *, seed: int = 0, table: Path | None = None, distribution: Distribution | None = None
) -> Sampling:
    """Return the sampling called `name` (``uniform``, ``grid`` or ``table``).

    With a `distribution` other than the uniform one, ``uniform`` stands for i.i.d. samples of that.
    """
    if (table is not None) != (name == "table"):
        raise UsageError("--sampling table and --factors FILE.csv go together")
    if distribution is not None and name != "uniform":
        raise UsageError(
            f"--distribution has no meaning with --sampling {name}: its factors are given"
        )
    if name == "uniform":
        return (
            UniformSampling(seed)
            if distribution is None or distribution.uniform
            else DistributionSampling(distribution, seed)
        )
    if seed != 0:
        raise UsageError(f"--seed has no meaning with --sampling {name}: its factors are given")
    if name == "grid":
        return GridSampling()
    if table is not None:
        return TableSampling.from_csv(table)
    raise UsageError(f"unknown sampling {name!r}: choose uniform, grid or table")


def read_factor_table(path: Path) -> FloatArray:
    """Read a CSV file of factors as a float64 array of shape (rows, 6); see `TableSampling`."""
    import pandas as pd

    try:
        # Text first: pandas would turn a wrong cell into a silent column of objects.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UsageError(f"{path}: not a readable CSV file ({one_line(error)})") from None
    if not isinstance(frame.index, pd.RangeIndex):  # pandas took the first cells for an index
        raise UsageError(f"{path}: its rows have more cells than its header has columns")
    names = [str(name).strip() for name in frame.columns]
    missing = [name for name in NAMES if name not in names]
    extra = [name for name in names if name not in (*NAMES, *_IGNORED_COLUMNS)]
    if len(set(names)) < len(names):
        raise UsageError(f"{path}: the table has the same column twice")
    if missing or extra:
        problem = f"lacks the column {missing[0]}" if missing else f"has a column {extra[0]!r}"
        raise UsageError(f"{path}: the table {problem}; its header must be {','.join(NAMES)}")
    if frame.empty:
        raise UsageError(f"{path}: the table has no rows")
    frame.columns = pd.Index(names)
    return np.stack([_read_column(path, frame, column) for column in range(len(FACTORS))], axis=1)


def _read_column(path: Path, frame: pd.DataFrame, column: int) -> FloatArray:
    import pandas as pd

    factor = FACTORS[column]
    text = frame[factor.name].str.strip()
    if factor.topology == "discrete":
        text = text.replace({name: str(index) for index, name in enumerate(SHAPES)})
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~((values >= factor.low) & (values <= factor.high))
    if factor.topology == "discrete":
        wrong |= values != np.floor(values)
    if wrong.any():
        row = int(np.argmax(wrong))
        found = frame[factor.name].iloc[row]
        raise UsageError(
            f"{path}: row {row + 2}, column {factor.name}: {found!r} must be "
            f"{describe_range(factor)}"
        )
    return values
