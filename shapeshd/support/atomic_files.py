"""Writes files and folders so that others see them whole or not at all.

What is not whole yet lies beside its place under a hidden name, and is locked by its writer for as
long as that lives. The system frees the lock of a killed process, so the next one that writes
into the same folder can tell what is abandoned, and removes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shapeshd.errors import UsageError

from .file_system import flush, rename, set_mode
from .workspace import machine_tag

_LONGEST = 60  # characters of a name that are kept in the hidden one
_OTHERS_SECONDS = 24 * 3600  # not every file system carries locks from one machine to another
_ASIDE = re.compile(r"\..*-aside-([0-9a-f]{8})-[0-9a-f]{12}")
_swept: set[tuple[int, Path]] = set()


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name beside `path`, then rename it.

    It is on the disk before it has its name: a power cut leaves the old one or the new one.

    Args:
        path: the file; its folder must exist.
        write: called with the temporary path.

    Raises:
        OSError: if it cannot be written; the old file then stays.
    """
    with _aside(path) as temporary:
        write(temporary)
        flush(temporary)
        set_mode(temporary, 0o666 & ~_umask())
        rename(temporary, path)


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """Give a place for `path` in a hidden folder beside it, which is locked and removed then.

    The folder is locked and not the file: HDF5 locks its files itself.
    """
    sweep(path.parent)
    while True:
        name = f".{path.name[:_LONGEST]}-aside-{machine_tag()}-{secrets.token_hex(6)}"
        folder = path.parent / name
        folder.mkdir(mode=0o700)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # swept before it was locked
            continue
        with suppress(OSError):  # a file system without locks: nobody sweeps there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():
            break
        os.close(descriptor)
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder; once in a process for each folder."""
    place = (os.getpid(), folder.absolute())
    if place in _swept:
        return
    _swept.add(place)
    with suppress(OSError):  # it cannot be read, or is gone
        for path in [entry for entry in folder.iterdir() if _ASIDE.fullmatch(entry.name)]:
            _sweep(path)


def remove_hidden_files(folder: Path, pattern: str = ".*") -> None:
    """Remove hidden files that killed processes of version 0.1.0 left in a folder of theirs.

    Hidden folders are left: what `replace_file` and `publish` write now lies in them.
    """
    for path in folder.glob(pattern):
        if path.is_file():
            path.unlink()


def _sweep(path: Path) -> None:
    found = _ASIDE.fullmatch(path.name)
    assert found is not None
    with suppress(OSError):  # in use, gone, or a file system without locks
        if found[1] != machine_tag() and time.time() - path.stat().st_mtime < _OTHERS_SECONDS:
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def refuse_existing(out: Path) -> None:
    """Raise `UsageError` if there is something at `out`, be it a broken link, or none can be made.

    What a process left that was killed right after it had made `out` is removed.
    """
    sweep(out.parent)
    if os.path.lexists(out):
        raise UsageError(f"{out}: exists already; remove it or choose another name")
    above = next(folder for folder in out.absolute().parents if os.path.lexists(folder))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "may not be written to" if above.is_dir() else "is no folder"
        raise UsageError(f"{out}: cannot be made: {above} {why}; choose another name")


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
    with _aside(out) as temporary:
        write(temporary)
        refuse_existing(out)
        rename(temporary, out)
