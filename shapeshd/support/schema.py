"""Schemas of what users and files say: pydantic's checks, with one line for what is wrong."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from shapeshd.errors import UsageError

T = TypeVar("T")
_STRICT = ConfigDict(extra="forbid", strict=True, validate_default=True)
_KINDS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "dict_type": "a table",
    "model_type": "a table of keys",
    "model_attributes_type": "a table of keys",
    "dataclass_type": "a table of keys",
    "list_type": "a list",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        """Do nothing; see typing."""
        return lambda decorator: decorator


@dataclass_transform(frozen_default=True)
def configuration(cls: type[T]) -> type[T]:
    """Make a frozen dataclass whose values are checked against their types when it is made.

    What is impossible raises `UsageError`, which names the field.
    """
    made: Any = pydantic_dataclass(frozen=True, config=_STRICT)(cls)
    check = made.__init__

    @functools.wraps(check)
    def init(self: Any, *values: Any, **named: Any) -> None:
        try:
            check(self, *values, **named)
        except ValidationError as error:
            raise UsageError(first_problem(error, type(self))) from None

    made.__init__ = init
    return made


def _power_of_two(value: int) -> int:
    if value < 1 or value & (value - 1):
        raise ValueError(f"must be a power of two, not {value}")
    return value


PowerOfTwo = AfterValidator(_power_of_two)


def no_flag(value: object) -> object:
    """Refuse true and false where a number is wanted: Python takes them for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"must be a whole number, not {value}")
    return value


class Record(BaseModel):
    """What a file of this project holds; unknown fields are refused, and none changes."""

    model_config = ConfigDict(frozen=True, **_STRICT)


def validated(schema: type[T], values: object, where: str = "", *, complete: bool = False) -> T:
    """Return `values` as an instance of a schema.

    Args:
        schema: a `configuration`, a `Record` or another type that pydantic knows.
        values: such as JSON or TOML gave.
        where: what the message begins with, such as ``"result.json: "``.
        complete: whether fields that have defaults must be there, too.

    Raises:
        UsageError: naming the first field that is unknown, missing or impossible.
    """
    try:
        # As JSON, where a table stands for a class and a list for a tuple.
        found: T = TypeAdapter(schema).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise UsageError(where + first_problem(error, schema)) from None
    missing = _fields(schema, []).keys() - (values.keys() if isinstance(values, Mapping) else ())
    if complete and missing:
        raise UsageError(f"{where}{min(missing)} is missing")
    return found


def first_problem(error: ValidationError, schema: Any = None) -> str:
    """Return in one line what is wrong with the first value, and where.

    Args:
        error: pydantic's.
        schema: the class that was validated; unknown keys are answered with its own.
    """
    # A key that nobody knows explains more than one that is missing.
    problems = sorted(error.errors(include_url=False), key=lambda one: one["type"] == "missing")
    problem = problems[0]
    kind, path = problem["type"], [str(part) for part in problem["loc"]]
    name = ".".join(part if part.isprintable() else repr(part) for part in path) or "it"
    value, context = problem["input"], problem.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = ", ".join(sorted(_fields(schema, path[:-1])))
        return f"{name}: there is no such key" + (f"; there are {known}" if known else "")
    if kind == "missing":
        return f"{name} is missing"
    if kind in _KINDS:
        return f"{name} must be {_KINDS[kind]}, not {_short(value)}"
    if kind in _BOUNDS and isinstance(value, float) and not math.isfinite(value):
        return f"{name} must be a finite number, not {value}"
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        bound = context[key]
        limit = f"{bound:g}" if isinstance(bound, float) else f"{bound:,}"
        return f"{name} must be {word} {limit}, not {_short(value)}"
    if kind in ("literal_error", "enum"):
        return f"{name} must be {context['expected']}, not {_short(value)}"
    if kind == "value_error":
        return " ".join(part for part in (name if path else "", str(context["error"])) if part)
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{name}: {message}" if path else message


def _fields(schema: Any, path: list[str]) -> Mapping[str, Any]:
    """Return the fields of a class, or of what stands at a path in it; {} if it has none."""
    for part in path:
        field = _fields(schema, []).get(part)
        schema = getattr(field, "annotation", None)
    return getattr(schema, "__pydantic_fields__", {})


def _short(value: object) -> str:
    text = f"{value:,}" if type(value) is int else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
