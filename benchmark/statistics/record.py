"""Records of measurements in files: their base, the types of their fields, and an estimate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from shapeshd.factors import NAMES
from shapeshd.support import schema

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number."""
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
"""A finite number, not below 0."""
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
"""A share or a probability, in [0, 1]."""
Count = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
"""A whole number from 0 on that a 64-bit integer holds."""
NearShare = Annotated[float, Field(strict=True, ge=0, le=1 + 1e-9)]
"""A share that is a sum of many, whose rounding can bring it above 1."""
AtLeastOne = Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]
Flag = Annotated[bool, Field(strict=True)]

T = TypeVar("T")
_HALVES = re.compile("[\ud800-\udfff]")  # half letters, which UTF-8 cannot hold
_BYTES = range(0xDC80, 0xDD00)  # of them those that stand for a byte of a file's name: PEP 383


def encodable(value: Any) -> Any:
    r"""Return a text that UTF-8 can hold, or a table or list of such, of any other.

    A byte of a file's name that is not UTF-8, which Python holds as half a letter, is written as
    ``\xff``. What is no text stays.
    """
    if isinstance(value, str):
        return _HALVES.sub(_escaped, value)
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    return [encodable(item) for item in value] if isinstance(value, list) else value


def _escaped(half: re.Match[str]) -> str:
    number = ord(half[0])
    return f"\\x{number - 0xDC00:02x}" if number in _BYTES else f"\\u{number:04x}"


Text = Annotated[str, BeforeValidator(encodable), Field(strict=True)]
"""A text that UTF-8 can hold; see `encodable`."""


def _of_every_factor(table: Mapping[str, T]) -> Mapping[str, T]:
    if set(table) != set(NAMES):
        raise ValueError(f"must have the keys {', '.join(NAMES)}")
    return table


ByFactor = Annotated[dict[str, T], AfterValidator(_of_every_factor)]
"""Something of each factor, by name."""


class Record(schema.Record):
    """A part of a result as a file holds it: checked when it is made, and not changed afterwards.

    It is made of a mapping, or of an object that has the fields as attributes. Numbers and texts
    are strict; a list stands for a tuple.
    """

    model_config = ConfigDict(strict=False, from_attributes=True, protected_namespaces=())

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a new dict, ready for JSON; what was not given is left out."""
        return self.model_dump(mode="json", exclude_unset=True)


class _Ends(Protocol):
    low: float
    high: float


def require_ends(found: _Ends) -> None:
    """Raise `ValueError` if an interval is reversed."""
    if found.low > found.high:
        raise ValueError(f"low must be at most high, not {found.low:g} and {found.high:g}")


class EstimateRecord(Record):
    """An `Estimate` in a file; `reported` is its value, but not below `floor`."""

    value: Number
    standard_error: Positive
    low: Number
    high: Number
    floor: Number
    reported: Number

    @model_validator(mode="after")
    def _possible(self) -> EstimateRecord:
        require_ends(self)
        for name in ("low", "reported"):
            if getattr(self, name) < self.floor:
                raise ValueError(
                    f"{name} must be at least floor, {self.floor:g}, not {getattr(self, name):g}"
                )
        return self
