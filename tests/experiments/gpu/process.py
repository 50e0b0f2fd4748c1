"""Runs a command that may hang or fail, and ends it in time with all that it has started."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_POLL = 0.05  # seconds
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_LONGEST = 160  # characters of an error


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: its exit status, negative for a signal.
        at_limit: whether it was ended because its time was over.
        stopped: whether it was ended because the run shall stop.
        seconds: that it took.
    """

    status: int
    at_limit: bool
    stopped: bool
    seconds: float


def run_limited(
    command: Sequence[str],
    log: Path,
    limit: float,
    stop: threading.Event,
    *,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    grace: float = 20.0,
) -> Ended:
    """Run a command to its end, to its limit, or until `stop` is set.

    It is told by SIGTERM to end, and killed where it has not after `grace` seconds. What it wrote
    is in `log`. Where this process is killed, the command gets SIGTERM on Linux.

    Args:
        command: its words.
        log: file of both its streams; overwritten.
        limit: seconds.
        stop: ends it, too.
        cwd: its working folder.
        environment: its variables; by default those of this process.
        grace: seconds.
    """
    began = time.monotonic()
    at_limit = stopped = False
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=cwd,
            # Python writes at once: its streams then come in their order, the error last.
            env={**(environment or os.environ), "PYTHONUNBUFFERED": "1"},
            preexec_fn=_in_a_group_of_its_own,
        )  # fmt: skip
        try:
            while process.poll() is None:
                stopped = stop.is_set()
                at_limit = not stopped and time.monotonic() - began >= limit
                if stopped or at_limit:
                    _signal(process.pid, signal.SIGTERM)
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(grace)
                    break
                time.sleep(_POLL)
        finally:
            _signal(process.pid, signal.SIGKILL)  # workers that it has left, too
            process.wait()
    return Ended(process.returncode, at_limit, stopped, time.monotonic() - began)


def last_error(log: Path) -> str:
    """Return the last line that a command wrote, which is its error where it failed."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:_LONGEST] if lines else "it wrote nothing"


def _in_a_group_of_its_own() -> None:
    os.setpgid(0, 0)
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
