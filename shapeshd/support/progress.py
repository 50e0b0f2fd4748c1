"""Progress, notes and warnings on stderr, results for people or programs on stdout.

Notes and warnings go to the logger ``shapeshd`` of Python's `logging`. It writes them to stderr by
a handler of its own, unless the program had given it one before; its level silences them.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import click
from tqdm import tqdm

LOGGER = logging.getLogger("shapeshd")


class _StderrHandler(logging.Handler):
    """Writes to what stderr is at the moment, which may have been redirected."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        click.echo(self.format(record), err=True)


def _set_up_logger() -> None:
    """Give the logger its handler and level, where the program has not chosen them."""
    if not LOGGER.handlers:
        LOGGER.addHandler(_StderrHandler())
        LOGGER.propagate = False  # a program with handlers of its own would write it twice
    if LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(logging.INFO)


_set_up_logger()


def progress_bar(total: int, description: str, *, shown: bool = True) -> tqdm[Any]:
    """Return a progress bar on stderr with rate and time left, or one that is not `shown`.

    On a terminal it redraws itself; elsewhere (a log file) it writes a line every 30 seconds.
    """
    return tqdm(
        total=total,
        desc=description,
        unit="img",
        file=sys.stderr,
        disable=not shown,
        mininterval=0.2 if sys.stderr.isatty() else 30,
        maxinterval=1 if sys.stderr.isatty() else 30,
        dynamic_ncols=True,
        smoothing=0.1,
    )


def note(message: str) -> None:
    """Tell the user what is being done, in one line."""
    LOGGER.info(message)


def warn(message: str) -> None:
    """Tell the user, in one line, what a result may suffer from."""
    LOGGER.warning(message)


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
