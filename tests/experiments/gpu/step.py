"""A step of the run, what became of it, and its result file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shapeshd.support.atomic_files import replace_file

DONE, KEPT, FAILED, UNFINISHED, SKIPPED = "done", "kept", "failed", "unfinished", "skipped"
JSON, LEFT = "{json}", "{left}"

Results = Mapping[str, Any]
"""What the steps that are done have given, by the step's name."""


def own_headline(result: Any) -> str:
    """Return what a result says of itself in one line."""
    return str(result["headline"])


@dataclass(frozen=True)
class Step:
    """A command that writes a JSON file.

    Attributes:
        name: of the step, and of its files.
        command: its words; ``{json}`` stands for the file that it writes, ``{left}`` for the
            seconds that the run has left.
        seconds: that it takes, as far as that is known before.
        settings: what its result depends on, fit for JSON; a result of others is not kept. They
            are written beside it, so that no path of the machine should stand in them.
        headline: returns a result in one line.
        optional: whether it is left out unless the steps after it have their time, too.
        resumes: the seconds for which it is worth while to begin, if it costs more, as it goes on
            the next time where it is stopped; None where it would begin anew.
        begins_with: the seconds that must be left for it and what follows from it.
        missing: what it needs and this machine lacks; "" for nothing.
        prepare: returns the step with what depends on results, or why it cannot be taken.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    headline: Callable[[Any], str] = own_headline
    optional: bool = False
    resumes: float | None = None
    begins_with: float = 0.0
    missing: str = ""
    prepare: Callable[[Step, Results], Step | str] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        name: of the step.
        status: one of the words above.
        said: one line: what it gave, or why it gave nothing.
        seconds: that it took, also if that was in an earlier run.
        record: what its file holds; {} where it was not begun.
    """

    name: str
    status: str
    said: str
    seconds: float = 0.0
    record: Mapping[str, Any] = field(default_factory=dict)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write JSON so that others see it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1) + "\n"
    replace_file(path, lambda place: place.write_text(text, encoding="utf-8"))


def read_record(path: Path) -> Any:
    """Return what a JSON file holds; None where there is none, or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
