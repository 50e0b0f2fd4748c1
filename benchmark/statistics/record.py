"""Records of measurements in files: their base, the types of their fields, and an estimate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field

from shapeshd.factors import NAMES
from shapeshd.support import schema

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number."""
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
"""A finite number, not below 0."""
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
"""A share or a probability, in [0, 1]."""
Count = Annotated[int, Field(strict=True, ge=0)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]

T = TypeVar("T")


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


class EstimateRecord(Record):
    """An `Estimate` in a file; `reported` is its value, but not below `floor`."""

    value: Number
    standard_error: Positive
    low: Number
    high: Number
    floor: Number
    reported: Number
