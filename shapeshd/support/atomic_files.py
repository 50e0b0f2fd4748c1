"""Writes files and folders so that others see them whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from shapeshd.errors import UsageError


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name beside `path`, then rename it.

    It is on the disk before it has its name: a power cut leaves the old one or the new one.

    Args:
        path: the file; its folder must exist.
        write: called with the temporary path.

    Raises:
        OSError: if it cannot be written; the old file then stays.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def refuse_existing(out: Path) -> None:
    """Raise `UsageError` if there is something at `out`, be it a broken link."""
    if os.path.lexists(out):
        raise UsageError(f"{out}: exists already; remove it or choose another name")


def publish(out: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file or folder under a temporary name, then rename it to `out`.

    Args:
        out: what shall appear; its parents are made.
        write: called with the temporary path, at which there is nothing yet.

    Raises:
        UsageError: if there is something at `out`, before or after the work.
        OSError: if it cannot be written; nothing is then left behind.
    """
    refuse_existing(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        write(scratch / out.name)
        refuse_existing(out)
        (scratch / out.name).rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
