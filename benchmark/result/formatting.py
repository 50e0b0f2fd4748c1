"""Numbers for people: as many digits as mean something, intervals, names of bins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from shapeshd.factors import FACTORS, NAMES, SHAPES, Factor

MINUS = "\N{MINUS SIGN}"
HIGHER_ORDER = "higher-order interactions"
"""What the part of D is called that no factor and no small set of factors has."""

_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # within words, and within emoji
_MOST_DECIMALS = 6
_MOST_DIGITS = 6


class Interval(Protocol):
    """A value with its interval, such as an `IntervalRecord`."""

    @property
    def value(self) -> float:
        """The value."""
        ...

    @property
    def low(self) -> float:
        """Lower end."""
        ...

    @property
    def high(self) -> float:
        """Upper end."""
        ...


class Reported(Interval, Protocol):
    """An estimate that is not reported below what is possible, such as an `Estimate`."""

    @property
    def reported(self) -> float:
        """The value that is shown."""
        ...


def printable(text: str) -> str:
    r"""Write a name on one line, with escapes such as ``\u202e`` for letters that are not seen."""
    return "".join(
        letter
        if letter.isprintable() or letter in _JOINERS
        else letter.encode("unicode_escape").decode()
        for letter in " ".join(text.split())
    )


def number(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, such as 0.0331, 7.64 or 3,317,760.

    Whole digits are never rounded away. What is too small for six decimals is written as a
    power of ten.
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    size = math.floor(math.log10(abs(value)))
    if size <= -_MOST_DECIMALS + 1:
        return f"{value:.{max(0, digits - 1)}e}".replace("-", MINUS)
    return _fixed(value, min(max(0, digits - 1 - size), _MOST_DECIMALS))


def estimate(values: Reported) -> tuple[str, str, str]:
    """Write an estimate: its reported value and the two ends of its interval.

    All three have the decimals of two significant digits of half the interval's length.
    """
    return _with_ends(values.reported, values.low, values.high)


def _decimals(value: float, low: float, high: float) -> int:
    """Return how many decimals an interval of a length above 0 takes."""
    largest = max(abs(low), abs(high), abs(value))
    digits = _MOST_DIGITS - 1 - math.floor(math.log10(largest))  # of a very narrow interval
    return max(0, min(1 - math.floor(math.log10((high - low) / 2)), digits))


def _with_ends(value: float, low: float, high: float, fewest: int = 0) -> tuple[str, str, str]:
    half = (high - low) / 2
    if half <= 0 or not math.isfinite(half):
        return number(value, 4), number(low, 4), number(high, 4)
    largest = max(abs(low), abs(high), abs(value))
    decimals = max(_decimals(value, low, high), fewest)
    if decimals > _MOST_DECIMALS and largest < 10.0 ** (1 - _MOST_DECIMALS):
        return number(value, 2), number(low, 2), number(high, 2)
    return _fixed(value, decimals), _fixed(low, decimals), _fixed(high, decimals)


def brief(values: Reported) -> str:
    """Write the reported value of an estimate alone; "0" where it is no larger."""
    return estimate(values)[0] if values.reported > 0 else "0"


def with_interval(values: Reported) -> str:
    """Write an estimate such as "0.0331 [0.0276, 0.0391]"."""
    value, low, high = estimate(values)
    return f"{value} [{low}, {high}]"


def interval(values: Interval, beside: Reported | None = None) -> str:
    """Write a value and its interval such as "31.2 [30.8, 31.6]".

    Args:
        values: the value and its interval.
        beside: an estimate that it is compared with: it gets at least as many decimals.
    """
    fewest = 0
    if beside is not None and 0 < beside.high - beside.low < math.inf:
        fewest = min(_decimals(beside.reported, beside.low, beside.high), _MOST_DECIMALS)
    value, low, high = _with_ends(values.value, values.low, values.high, fewest)
    return f"{value} [{low}, {high}]"


def p_value(value: float) -> str:
    """Write "p = " and two digits, and no more below 0.0001."""
    return "p < 0.0001" if value < 1e-4 else f"p = {number(value, 2)}"


def percent(share: float | None, decimals: int | None = None) -> str:
    """Write a share of 1, such as "98.4%" or "13%"; a dash for None.

    Without `decimals` there is one near 0 and 100%, more where 100% is nearly reached, so that
    only the whole is written as 100%.
    """
    if share is None:
        return "\N{EN DASH}"
    if decimals == 0 and 0 < share < 0.005:
        return "< 1%"
    if decimals is None:
        rest = min(abs(share), abs(1 - share))
        size = math.floor(math.log10(round(100 * rest, 9))) if rest > 1e-9 else 1
        decimals = min(4, max(0, 1 - size))
    return f"{100 * share:.{decimals}f}%".replace("-", MINUS)


def part_name(factors: Sequence[str]) -> str:
    """Write the name of a part of the divergence, such as "scale" or "floor hue x shape".

    The part of no factors is that of higher-order interactions: of more factors than have
    parts of their own.
    """
    return " \N{MULTIPLICATION SIGN} ".join(map(factor_name, factors)) or HIGHER_ORDER


def factor_name(name: str) -> str:
    """Write the name of a factor, such as "floor hue"."""
    return name.replace("_", " ")


def bin_name(factor: Factor, index: int) -> str:
    """Name a bin of a factor in its unit, such as "90-120°", "1.25-1.50" or "cube"."""
    if factor.topology == "discrete":
        return SHAPES[index]
    low, high = (factor.low + factor.period * (index + end) / factor.bins for end in (0, 1))
    if factor.topology == "circle":
        return f"{360 * low:.0f}\N{EN DASH}{360 * high:.0f}°"
    if factor.unit == "degree":
        return f"{low:.0f} to {high:.0f}°".replace("-", MINUS)
    return f"{low:.2f}\N{EN DASH}{high:.2f}"


def cell_name(bins: tuple[int, ...] | list[int]) -> str:
    """Name a cell, six bins of which -1 is any, such as "scale 1.00-1.25, shape cube"."""
    named = [
        f"{factor_name(factor.name)} {bin_name(factor, index)}"
        for factor, index in zip(FACTORS, bins, strict=True)
        if index >= 0
    ]
    return ", ".join(named)


def unit(name: str) -> str:
    """Return the unit in which errors of a factor are given; "" for the shape."""
    factor = FACTORS[NAMES.index(name)]
    if factor.topology == "discrete":
        return ""
    return "°" if factor.topology == "circle" or factor.unit == "degree" else ""


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    zero = not any(digit in "123456789" for digit in text)
    return text.lstrip("-") if zero else text.replace("-", MINUS)
