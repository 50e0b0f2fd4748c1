"""Several values of one option of a source, such as ``truncation=0.5,0.7,1``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shapeshd.errors import UsageError, named

from .options import OPTIONS, Option, SourceOptions

MOST_VALUES = 100

Value = float | int | str


@dataclass(frozen=True)
class Sweep:
    """The values that an option takes, one score each.

    Attributes:
        option: a field of `SourceOptions` that decides what a generator draws.
        values: in the order of the scores, all different.
    """

    option: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        known = sweepable()
        if self.option not in known:
            raise UsageError(
                f"{named('sweep')}: {self.option!r} cannot be swept; that can {', '.join(known)}"
            )
        if not 2 <= len(self.values) <= MOST_VALUES:
            raise UsageError(
                f"{named('sweep')} takes 2 to {MOST_VALUES} values of {self.option}, not "
                f"{len(self.values)}"
            )
        twice = [value for value in self.values if self.values.count(value) > 1]
        if twice:
            raise UsageError(f"{named('sweep')} names {self.option}={twice[0]} twice")

    def name(self, value: Value) -> str:
        """Return what one score is called, such as ``truncation=0.5``; a folder can be, too."""
        return f"{self.option}={value:g}" if isinstance(value, float) else f"{self.option}={value}"

    def options(self, given: Mapping[str, Any]) -> list[SourceOptions]:
        """Return the options of each score.

        Args:
            given: all the others, by their names; see `SourceOptions.given`.

        Raises:
            UsageError: if a value is impossible, or the option is given beside the sweep.
        """
        if given.get(self.option, OPTIONS[self.option].default) != OPTIONS[self.option].default:
            raise UsageError(
                f"give {named(self.option)} or {named('sweep')} {self.option}=..., not both"
            )
        return [SourceOptions.given({**given, self.option: value}) for value in self.values]


def sweepable() -> list[str]:
    """Return the options that can be swept: those that decide what a generator draws."""
    return [option.name for option in OPTIONS.values() if option.draws]


def parse_sweep(text: str) -> Sweep:
    """Return the sweep of a text such as ``steps=10,50,200``.

    Raises:
        UsageError: if it is no such text, or a value is of another type than the option's.
    """
    name, equals, values = text.partition("=")
    option = name.strip().removeprefix("--").replace("-", "_")
    parts = [part.strip() for part in values.split(",")]
    if not equals or not all(parts):
        raise UsageError(
            f"{named('sweep')} must be NAME=VALUE,VALUE,..., such as truncation=0.5,0.7,1, not "
            f"{text!r}"
        )
    if option not in OPTIONS:
        return Sweep(option, tuple(parts))  # which says what there is
    return Sweep(option, tuple(_values(OPTIONS[option], parts)))


def _values(option: Option, parts: Sequence[str]) -> list[Value]:
    found: list[Value] = []
    for part in parts:
        try:
            found.append(option.type(part))
        except ValueError:
            what = "a whole number" if option.type is int else "a number"
            raise UsageError(
                f"{named('sweep')}: {option.name} must be {what}, not {part!r}"
            ) from None
    return found
