"""Schemas: what is wrong is said in one line that names the field."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, field, replace
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from shapeshd.errors import UsageError
from shapeshd.support.schema import PowerOfTwo, Record, configuration, validated


@configuration
class Inner:
    size: Annotated[int, Field(ge=8), PowerOfTwo] = 64
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    kind: Literal["a", "b"] = "a"
    on: bool = True
    counts: tuple[int, int] = (1, 2)


@configuration
class Outer:
    inner: Inner = field(default_factory=Inner)
    name: str = "x"


class Entry(Record):
    count: int
    inner: Inner


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"inner": {"size": 7}}, "inner.size must be at least"),
        ({"inner": {"size": 48}}, "inner.size must be a power"),
        ({"inner": {"size": True}}, "whole number, not True"),
        ({"inner": {"size": 8.5}}, "inner.size must be a whole"),
        ({"inner": {"rate": 0}}, "inner.rate must be above"),
        ({"inner": {"rate": math.nan}}, "inner.rate must be "),
        ({"inner": {"rate": "1"}}, "inner.rate must be a number"),
        ({"inner": {"kind": "c"}}, "inner.kind must be 'a' or 'b'"),
        ({"inner": {"on": 1}}, "inner.on must be true"),
        ({"inner": {"counts": 3}}, "inner.counts must be a list"),
        ({"inner": {"sizes": 8}}, "no such key; there are counts, kind"),
        ({"inner": 3}, "inner must be a table"),
        ({"inner": {"rate": "9" * 5000}}, "inner.rate must be a number"),
        ({"nam\ne": "y"}, r"'nam\ne': there is no such key"),
        (3, "must be"),
    ],
)
def test_what_is_wrong_is_named(values: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        validated(Outer, values, "file: ")
    message = str(caught.value)
    assert message.startswith("file: ")
    assert words in message
    assert "\n" not in message
    assert len(message) < 300


def test_tables_and_lists_become_what_the_schema_says() -> None:
    found = validated(Outer, {"inner": {"rate": 1, "counts": [3, 4]}, "name": "y"})
    assert found == Outer(inner=Inner(rate=1.0, counts=(3, 4)), name="y")
    assert type(found.inner.rate) is float
    assert hash(found) == hash(replace(found))


def test_a_class_checks_what_it_is_made_of() -> None:
    for make in (lambda: Inner(size=7), lambda: replace(Inner(), size=7)):
        with pytest.raises(UsageError, match="size must be"):
            make()
    with pytest.raises(UsageError, match=r"sizes: .*no such key"):
        Inner(sizes=8)  # type: ignore[call-arg]
    with pytest.raises(FrozenInstanceError):
        Inner().size = 8  # type: ignore[misc]


def test_what_is_missing_is_named_and_unknown_keys_come_first() -> None:
    with pytest.raises(UsageError, match="inner is missing"):
        validated(Entry, {"count": 3})
    with pytest.raises(UsageError, match=r"cont: .*count, inner"):
        validated(Entry, {"cont": 3})
    values = {"size": 8, "rate": 1, "kind": "b", "on": False}
    with pytest.raises(UsageError, match="counts is missing"):
        validated(Inner, values, complete=True)
    assert validated(Inner, values).counts == (1, 2)
