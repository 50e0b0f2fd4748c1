"""Scratch folders under ``OUT/.work`` that a killed process cannot leave behind for good.

Beside every folder NAME stands NAME.lock, locked by its owner for as long as it lives. The
system frees the lock of a killed process, so the next run can tell what is abandoned. Runs
on other machines can share ``.work``; since not every file system carries locks from one
machine to another, their folders are left alone for a day.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WORK_FOLDER = ".work"
_OTHERS_SECONDS = 24 * 3600


@contextmanager
def work_folder(dataset: Path, prefix: str) -> Iterator[Path]:
    """Make a folder of our own under ``OUT/.work`` and remove it at the end."""
    name = f"{prefix}-{_machine()}-{uuid.uuid4().hex[:12]}"
    folder = dataset / WORK_FOLDER / name
    lock = _acquire(folder)
    try:
        folder.mkdir()
        yield folder
    finally:
        _discard(folder, lock)


def sweep_work(dataset: Path) -> None:
    """Remove what killed processes left under ``OUT/.work``; the folders in use stay."""
    parent = dataset / WORK_FOLDER
    with suppress(FileNotFoundError):  # there is none, or another run swept it just now
        for folder in {path.with_suffix("") for path in parent.iterdir()}:
            _sweep(folder)
    with suppress(OSError):  # not empty: another run works here
        parent.rmdir()


def _sweep(folder: Path) -> None:
    lock = os.open(_lock_path(folder), os.O_CREAT | os.O_RDWR, 0o666)
    try:
        ours = f"-{_machine()}-" in folder.name
        if ours or time.time() - os.fstat(lock).st_mtime > _OTHERS_SECONDS:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)
    except OSError:
        pass  # in use, or a file system without locks
    finally:
        os.close(lock)


def _acquire(folder: Path) -> int:
    while True:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(_lock_path(folder), os.O_CREAT | os.O_RDWR, 0o666)
        except (FileNotFoundError, FileExistsError):
            continue  # a run that ended just now removed the parent
        with suppress(OSError):  # without locks in this file system nobody sweeps either
            fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if _lock_path(folder).stat().st_ino == os.fstat(lock).st_ino:
                return lock
        os.close(lock)  # swept between the opening and the locking


def _discard(folder: Path, lock: int) -> None:
    _remove(folder)
    os.close(lock)
    with suppress(OSError):
        folder.parent.rmdir()


def _remove(folder: Path) -> None:
    """Remove the folder, then its lock file, while the lock is held."""
    shutil.rmtree(folder, ignore_errors=True)
    _lock_path(folder).unlink(missing_ok=True)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
