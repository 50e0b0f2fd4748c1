"""Scratch folders under ``OUT/.work`` that a killed process cannot leave behind for good.

Beside every folder NAME stands NAME.lock, locked by its owner for as long as it lives. The
system frees the lock of a killed process, so the next run can tell what is abandoned.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WORK_FOLDER = ".work"


@contextmanager
def work_folder(dataset: Path, prefix: str) -> Iterator[Path]:
    """Make a folder of our own under ``OUT/.work`` and remove it at the end."""
    parent = dataset / WORK_FOLDER
    folder = parent / f"{prefix}{uuid.uuid4().hex[:12]}"
    lock = _acquire(folder)
    try:
        folder.mkdir()
        yield folder
    finally:
        _discard(folder, lock)


def sweep_work(dataset: Path) -> None:
    """Remove what killed processes left under ``OUT/.work``; the folders in use stay."""
    parent = dataset / WORK_FOLDER
    if not parent.is_dir():
        return
    for folder in {path.with_suffix("") for path in parent.iterdir()}:
        lock = os.open(_lock_path(folder), os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            _discard(folder, lock)
    with suppress(OSError):  # not empty: another run works here
        parent.rmdir()


def _acquire(folder: Path) -> int:
    while True:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(_lock_path(folder), os.O_CREAT | os.O_RDWR, 0o666)
        except FileNotFoundError:
            continue  # a run that ended just now removed the parent
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if _lock_path(folder).stat().st_ino == os.fstat(lock).st_ino:
                return lock
        os.close(lock)  # swept between the opening and the locking


def _discard(folder: Path, lock: int) -> None:
    """Remove the folder, then its lock file, while the lock is held."""
    shutil.rmtree(folder, ignore_errors=True)
    _lock_path(folder).unlink(missing_ok=True)
    os.close(lock)
    with suppress(OSError):
        folder.parent.rmdir()


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")
