"""Known distributions of the six factors, stated in a small TOML file::

    scale.weights = [1, 1, 2, 4]             # one weight for each bin of the factor
    shape.weights = [1, 1, 0, 1]             # no spheres

    [[pair]]                                 # two factors that depend on each other
    factors = ["wall_hue", "object_hue"]
    weights = [[2, 1, ...], ...]             # a row for each bin of the first

Factors and pairs are independent of each other. A factor that is left out is uniform, and
within a bin every factor is uniform. Hence the probabilities of all joint bins are known exactly.
Weights are numbers >= 0 of any total.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shapeshd.support.toml_file import read_toml

from .errors import UsageError, one_line
from .factors import (
    BIN_SHAPE,
    FACTORS,
    NAMES,
    NUM_BINS,
    FloatArray,
    IntArray,
    from_unit,
    unit_numbers,
    unit_numbers_at,
)

LEAST_SHARE = 1e-9
"""Smallest share of a weight above 0: a smaller one would hardly ever be drawn."""

_PAIR = "pair"
_ROUNDING = 1e-12  # of a total that is 1: such weights stay as they are, so reading them is exact
_MARGIN = 2.0**-40  # of a bin's width: no value is rounded across the bin's ends


@dataclass(frozen=True, eq=False)
class FactorGroup:
    """One factor, or a pair of coupled factors; it is independent of all other factors.

    Attributes:
        axes: positions of the factors in `FACTORS`, ascending.
        table: probabilities of their bins, float64 with an axis for each factor, total 1.
    """

    axes: tuple[int, ...]
    table: FloatArray

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the factors."""
        return tuple(NAMES[axis] for axis in self.axes)

    @property
    def uniform(self) -> bool:
        """Whether all bins are equally probable."""
        return bool(np.ptp(self.table) == 0)


@dataclass(frozen=True, eq=False)
class Distribution:
    """A distribution of the six factors whose joint probabilities are known exactly.

    It is a product over groups of one or two factors. Two distributions are equal if all their
    probabilities are.

    Attributes:
        groups: ordered by their first factor; every factor is in one of them.
    """

    groups: tuple[FactorGroup, ...]

    @classmethod
    def read(cls, path: Path) -> Distribution:
        """Read a TOML file.

        Raises:
            UsageError: if there is no such file, or naming the key in it that is wrong.
        """
        values = read_toml(path)
        try:
            return cls.from_json(values)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Distribution:
        """Return the distribution that a TOML file or `to_json` states.

        Raises:
            UsageError: naming the key that is wrong.
        """
        given: dict[int, FactorGroup] = {}
        for group in _stated(values):
            for axis in group.axes:
                if axis in given:
                    raise UsageError(f"{NAMES[axis]} is given twice")
                given[axis] = group
        groups = []
        for axis, bins in enumerate(BIN_SHAPE):
            found = given.get(axis)
            if found is None or found.uniform:  # of a uniform pair, too, each factor for itself
                groups.append(FactorGroup((axis,), np.full(bins, 1 / bins)))
            elif axis == found.axes[0]:
                groups.append(found)
        return cls(tuple(groups))

    @classmethod
    def from_text(cls, text: str) -> Distribution:
        """Return the distribution whose attribute `text` is given; "" is the uniform one.

        Raises:
            UsageError: if `text` states no distribution.
        """
        try:
            values = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            raise UsageError(f"a distribution that cannot be read ({one_line(error)})") from None
        return cls.from_json(values)

    def to_json(self) -> dict[str, Any]:
        """Return the probabilities of the groups that are not uniform, as in the TOML file."""
        values: dict[str, Any] = {
            group.names[0]: {"weights": group.table.tolist()}
            for group in self.weighted
            if len(group.axes) == 1
        }
        if pairs := self.pairs:
            values[_PAIR] = [
                {"factors": list(group.names), "weights": group.table.tolist()} for group in pairs
            ]
        return values

    @functools.cached_property
    def text(self) -> str:
        """One line of JSON, the same for equal distributions; "" if it is uniform."""
        if self.uniform:
            return ""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256 of `text`, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Distribution) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        """Name the factors that are not uniform, and give the beginning of the digest."""
        if self.uniform:
            return "uniform"
        single = [group.names[0] for group in self.weighted if len(group.axes) == 1]
        words = [f"{', '.join(single)} weighted"] if single else []
        words += [" coupled with ".join(group.names) for group in self.pairs]
        return f"{'; '.join(words)} ({self.digest[:8]})"

    @property
    def weighted(self) -> tuple[FactorGroup, ...]:
        """The groups that are not uniform."""
        return tuple(group for group in self.groups if not group.uniform)

    @property
    def pairs(self) -> tuple[FactorGroup, ...]:
        """The groups of two factors."""
        return tuple(group for group in self.groups if len(group.axes) == 2)

    @property
    def uniform(self) -> bool:
        """Whether this is the uniform distribution."""
        return not self.weighted

    @property
    def bins(self) -> int:
        """Number of joint bins of positive probability."""
        return math.prod(int((group.table > 0).sum()) for group in self.groups)

    def expected(self) -> FloatArray:
        """Return the probabilities of the joint bins: float64 (`NUM_BINS`,), total 1."""
        return self._joint

    @functools.cached_property
    def _joint(self) -> FloatArray:
        joint = np.ones((1,) * len(FACTORS))
        for group in self.groups:
            shape = [bins if axis in group.axes else 1 for axis, bins in enumerate(BIN_SHAPE)]
            joint = joint * group.table.reshape(shape)
        joint = joint.reshape(NUM_BINS)
        joint.flags.writeable = False
        return joint

    def marginal(self, *names: str) -> FloatArray:
        """Return the probabilities of the bins of some factors, one axis each, as named."""
        axes = [NAMES.index(name) for name in names]
        others = tuple(axis for axis in range(len(FACTORS)) if axis not in axes)
        table = self.expected().reshape(BIN_SHAPE).sum(axis=others)
        order = np.argsort(np.argsort(axes))
        return np.asarray(table.transpose(order))

    def factors(self, seed: int, start: int, stop: int) -> FloatArray:
        """Draw the factors of the images `start` .. `stop` - 1: float64 (stop - start, 6).

        The factors of an image depend on (seed, index) alone: the cumulative distribution
        functions are inverted at the six numbers that give its uniform factors. The uniform
        distribution gives `uniform_factors`, bit for bit. Errors as there.
        """
        return self._from_unit(unit_numbers(seed, start, stop))

    def factors_at(self, seed: int, indices: npt.ArrayLike) -> FloatArray:
        """Return what `factors` draws for images in any order; errors as `uniform_factors_at`."""
        return self._from_unit(unit_numbers_at(seed, indices))

    def _from_unit(self, unit: FloatArray) -> FloatArray:
        drawn = unit.copy()
        for group in self.weighted:
            first, *second = group.axes
            margin = group.table.reshape(len(group.table), -1).sum(axis=1)
            bins, drawn[:, first] = _invert(margin[None], np.zeros(1, np.int64), unit[:, first])
            for axis in second:
                _, drawn[:, axis] = _invert(group.table, bins, unit[:, axis])
        return from_unit(drawn)

    def difference(self, other: Distribution) -> str | None:
        """Name the first factor or pair whose probabilities are not those in `other`."""
        for mine in self.groups:
            theirs = next(group for group in other.groups if mine.axes[0] in group.axes)
            if mine.axes != theirs.axes or not np.array_equal(mine.table, theirs.table):
                found = " and ".join(mine.names if len(mine.axes) > 1 else theirs.names)
                return f"{found} {_shown(mine)}, not {_shown(theirs)}"
        return None


def _invert(tables: FloatArray, rows: IntArray, unit: FloatArray) -> tuple[IntArray, FloatArray]:
    """Invert cumulative distribution functions of piecewise constant densities.

    Args:
        tables: (m, bins) weights >= 0, a density in each row; a row that is used has one above 0.
        rows: the row of each number, (n,), or (1,) for one row for all.
        unit: (n,) numbers in [0, 1).

    Returns:
        The bins, int64 (n,), and positions in [0, 1) within the factor's range, (n,).
    """
    bins = tables.shape[1]
    used = np.maximum(tables.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    share = tables / used
    upper = np.minimum(np.cumsum(share, axis=1), 1.0)
    last = bins - 1 - np.argmax(tables[:, ::-1] > 0, axis=1)
    upper[np.arange(bins) >= last[:, None]] = 1.0  # rounding must not leave a gap at the end
    rows = np.broadcast_to(rows, unit.shape)
    found = np.zeros(unit.shape, np.int64)
    for edge in range(bins - 1):
        found += unit >= upper[rows, edge]
    lower = np.where(found > 0, upper[rows, np.maximum(found - 1, 0)], 0.0)
    within = (unit - lower) / (upper[rows, found] - lower)
    return found, (found + np.clip(within, _MARGIN, 1 - _MARGIN)) / bins


def _shown(group: FactorGroup) -> str:
    if len(group.axes) > 1:
        digest = hashlib.sha256(group.table.tobytes()).hexdigest()
        return f"coupled by the table {digest[:8]}"
    if group.uniform:
        return "uniform"
    return f"[{', '.join(f'{share:.4g}' for share in group.table)}]"


def _stated(values: Mapping[str, Any]) -> list[FactorGroup]:
    """Return the groups that a distribution states, each checked by itself."""
    if not isinstance(values, Mapping):
        raise UsageError(f"a distribution is a table, not {_kind(values)}")
    groups = []
    for key, value in values.items():
        if key in NAMES:
            bins = FACTORS[NAMES.index(key)].bins
            weights = _entries(key, value, ("weights",), f"{key}.weights = [{bins} numbers]")[0]
            table = _normalised(f"{key}.weights", _row(f"{key}.weights", weights, bins))
            groups.append(FactorGroup((NAMES.index(key),), table))
        elif key == _PAIR:
            if not isinstance(value, list) or not all(isinstance(pair, dict) for pair in value):
                raise UsageError("a pair begins with [[pair]], in double brackets")
            groups += [_pair(f"pair {number}", pair) for number, pair in enumerate(value, 1)]
        else:
            raise UsageError(f"unknown key {key!r}: choose {', '.join(NAMES)} or {_PAIR}")
    return groups


def _pair(where: str, value: Mapping[str, Any]) -> FactorGroup:
    form = 'factors = ["NAME", "NAME"] and weights = [[...], ...]'
    names, rows = _entries(where, value, ("factors", "weights"), form)
    if not isinstance(names, list) or len(names) != 2:
        raise UsageError(f"{where}: factors must name two factors")
    for name in names:
        if not isinstance(name, str) or name not in NAMES:
            raise UsageError(f"{where}: unknown factor {name!r}: choose {', '.join(NAMES)}")
    if names[0] == names[1]:
        raise UsageError(f"{where}: {names[0]} cannot be coupled with itself")
    axes = tuple(map(NAMES.index, names))
    high, wide = (BIN_SHAPE[axis] for axis in axes)
    if not isinstance(rows, list) or len(rows) != high:
        found = f"{len(rows)} rows" if isinstance(rows, list) else _kind(rows)
        raise UsageError(
            f"{where}: weights must have {high} rows, one for each bin of {names[0]}, not {found}"
        )
    table = np.stack(
        [_row(f"{where}: row {number} of weights", row, wide) for number, row in enumerate(rows, 1)]
    )
    table = _normalised(f"{where}: weights", table if axes[0] < axes[1] else table.T)
    axes = tuple(sorted(axes))
    for axis, kept in zip(axes, (table.sum(axis=1), table.sum(axis=0)), strict=True):
        if (kept > 0).sum() == 1:
            raise UsageError(f"{where}: only one bin of {NAMES[axis]} is left: nothing is coupled")
    return FactorGroup(axes, table)


def _entries(where: str, value: Any, keys: Sequence[str], form: str) -> list[Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} must be a table, not {_kind(value)}: write {form}")
    for key in value:
        if key not in keys:
            raise UsageError(f"{where}: unknown key {key!r}: write {form}")
    for key in keys:
        if key not in value:
            raise UsageError(f"{where}: lacks {key}: write {form}")
    return [value[key] for key in keys]


def _row(where: str, values: Any, bins: int) -> FloatArray:
    if not isinstance(values, list):
        raise UsageError(f"{where} must be a list of {bins} numbers, not {_kind(values)}")
    if len(values) != bins:
        raise UsageError(f"{where} must hold {bins} numbers, one for each bin, not {len(values)}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UsageError(f"{where} must hold numbers, not {_kind(value)}")
        if not (0 <= value <= sys.float_info.max):  # NaN is wrong too
            shown = f"{value:g}" if isinstance(value, float) else "a number that large"
            shown = str(value) if isinstance(value, int) and value < 0 else shown
            raise UsageError(f"{where} must hold finite numbers of 0 and more, not {shown}")
    return np.array(values, dtype=np.float64)


def _normalised(where: str, weights: FloatArray) -> FloatArray:
    largest = weights.max()
    if largest == 0:
        raise UsageError(f"{where} are all 0")
    table = np.array(weights, order="C")
    if largest > 1 or abs(math.fsum(table.flat) - 1) > _ROUNDING:
        table /= largest  # so that proportional weights become equal, and no sum overflows
        table /= math.fsum(table.flat)
    if (positive := table[table > 0]).min() < LEAST_SHARE:
        raise UsageError(
            f"{where}: a share of {positive.min():.2g} is too small to be drawn: give 0, or at "
            f"least {LEAST_SHARE:g} of all"
        )
    table.flags.writeable = False
    return table


def _kind(value: Any) -> str:
    kinds = {dict: "a table", list: "a list", str: "a text", bool: "true or false",
             int: "a number", float: "a number"}  # fmt: skip
    return kinds.get(type(value), type(value).__name__)
