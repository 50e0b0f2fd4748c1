"""Progress and notes on stderr, results for people or programs on stdout."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from tqdm import tqdm


def progress_bar(total: int, description: str, *, shown: bool = True) -> tqdm[Any]:
    """Return a progress bar on stderr with rate and time left, or one that is not `shown`.

    On a terminal it redraws itself; elsewhere (a log file) it writes a line every 30 seconds.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit="img",
        file=sys.stderr,
        disable=not shown,
        mininterval=0.2 if terminal else 30,
        maxinterval=1 if terminal else 30,
        dynamic_ncols=True,
        smoothing=0.1,
    )


def note(message: str) -> None:
    """Write one line for the user to stderr."""
    click.echo(message, err=True)


def emit(result: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Write a result to stdout: `result` as JSON, or `text` for people."""
    click.echo(json.dumps(result, indent=2) if as_json else text)


def human_bytes(count: float) -> str:
    """Write a number of bytes with a decimal unit, such as ``4.1 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def human_time(seconds: float) -> str:
    """Write a duration, such as ``3 h 05 min`` or ``42 s``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
