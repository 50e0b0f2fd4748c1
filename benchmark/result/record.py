"""The base of all records that a result holds, and the types of their fields."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number."""
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
"""A finite number, not below 0."""
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
"""A share or a probability, in [0, 1]."""
Count = Annotated[int, Field(strict=True, ge=0)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]

_LONGEST_NAME = 80


class Record(BaseModel):
    """A part of a result as a file holds it: checked when it is made, and not changed afterwards.

    It is made of a mapping, or of an object that has the fields as attributes.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", from_attributes=True, protected_namespaces=()
    )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a new dict, ready for JSON; what was not given is left out."""
        return self.model_dump(mode="json", exclude_unset=True)


def first_problem(error: ValidationError) -> str:
    """Return the first thing that a validation found wrong on one line: field and reason."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    problem = problems[0]
    field = ".".join(map(str, problem["loc"])) or "the whole"
    field = "".join(letter if letter.isprintable() else "?" for letter in field)
    if len(field) > _LONGEST_NAME:
        field = f"{field[:_LONGEST_NAME]}..."
    reasons = {"missing": "is missing", "extra_forbidden": "is no field of it"}
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{field}: {reasons.get(problem['type'], message)}{more}"
