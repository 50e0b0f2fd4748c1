"""Temporary folders under ``OUT/.work``; those of killed processes are removed by the next run.

Beside every folder NAME stands NAME.lock, locked by its owner for as long as it lives. The
system frees the lock of a killed process, so the next run can tell what is abandoned. Runs
on other machines can share ``.work``; since not every file system carries locks from one
machine to another, their folders are left alone for a day.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .file_system import FileLock

WORK_FOLDER = ".work"
_OTHERS_SECONDS = 24 * 3600


@contextmanager
def work_folder(dataset: Path, prefix: str) -> Iterator[Path]:
    """Make a folder of our own under ``OUT/.work`` and remove it at the end."""
    name = f"{prefix}-{machine_tag()}-{uuid.uuid4().hex[:12]}"
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
    path = _lock_path(folder)
    with suppress(OSError):  # gone
        ours = f"-{machine_tag()}-" in folder.name
        if not ours and time.time() - path.stat().st_mtime <= _OTHERS_SECONDS:
            return
        lock = FileLock(path)
        if lock.acquire(sure=True):
            _remove(folder)
            lock.release()


def _acquire(folder: Path) -> FileLock:
    lock = FileLock(_lock_path(folder))
    while True:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            if lock.acquire():  # if not, another run sweeps it away just now
                return lock
        except (FileNotFoundError, FileExistsError):
            continue  # a run that ended just now removed the parent


def _discard(folder: Path, lock: FileLock) -> None:
    _remove(folder)
    lock.release()
    with suppress(OSError):
        folder.parent.rmdir()


def _remove(folder: Path) -> None:
    """Remove the folder, then its lock file, while the lock is held."""
    shutil.rmtree(folder, ignore_errors=True)
    _lock_path(folder).unlink(missing_ok=True)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def machine_tag() -> str:
    """Return eight characters that tell this machine from others."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
