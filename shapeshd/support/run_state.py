"""A run that is taken up again must be the run that was begun."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shapeshd.errors import UsageError


def require_same_settings(out: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise `UsageError`, naming the first difference, unless `old` has the settings of `new`.

    Args:
        out: folder of the run, for the message.
        old: what the run in it was begun with; may hold more.
        new: what it shall go on with; tables may be nested.
    """
    difference = _difference(old, new, "")
    if difference is not None:
        name, before, now = difference
        raise UsageError(
            f"{out}: holds another training, with {name} = {before}, not {now}; go on with "
            "that, or choose another folder"
        )


def _difference(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str
) -> tuple[str, Any, Any] | None:
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            found = _difference(before, value, f"{where}{name}.")
            if found is not None:
                return found
        elif before != value:
            return f"{where}{name}", before, value
    return None
