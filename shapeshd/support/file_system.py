"""What not every file system offers: locks, flushes to the disk, access rights, renaming.

Lustre, CIFS, FUSE and network file systems each lack some of them. Where no loss can follow, work
goes on with one warning; where it can, an error says in one line what to do.
"""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path

from shapeshd.errors import ShapesHDError

from .progress import warn

_NOT_OFFERED = frozenset(
    {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
)
_NO_RENAME = _NOT_OFFERED | {errno.EXDEV, errno.EPERM}
_NO_FLUSH_OF_FOLDERS = _NOT_OFFERED | {errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM}
_IN_USE = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK})
_warned: set[str] = set()


class FileLock:
    """A file that one process at a time holds; the system frees it when the process ends.

    Processes that are forked from it do not hold it.

    Where the file system has no locks, everybody gets it, and a warning says so once.

    Args:
        path: the file, which is made, and which stays; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, *, sure: bool = False) -> bool:
        """Take the lock if nobody has it, and tell whether it is ours.

        Args:
            sure: False is returned where the file system has no locks, without a warning.

        Raises:
            OSError: if the file cannot be made, or is gone with its folder.
        """
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            taken = False
            try:
                if not self._lock(descriptor, sure):
                    return False
                # Its last owner may have removed it since it was opened: others see another one.
                taken = self._is_ours(descriptor)
            finally:
                if not taken:
                    os.close(descriptor)
            if taken:
                self._descriptor = descriptor
                _held.add(self)
                return True

    def _lock(self, descriptor: int, sure: bool) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _IN_USE:
                return False
            if error.errno not in _NOT_OFFERED:
                raise
            if not sure:
                _warn(
                    "lock",
                    f"{self._path.parent}: its file system has no locks ({_reason(error)}): see to "
                    "it that two runs do not write there at once",
                )
            return not sure
        return True

    def _is_ours(self, descriptor: int) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        return False

    def release(self) -> None:
        """Give the lock back, if it is ours."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_copies() -> None:
    """Close a forked process's copies: while one is open, the system keeps the file locked."""
    for lock in _held:
        lock.release()


os.register_at_fork(after_in_child=_close_copies)


def flush(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk, so that a power cut does not lose them.

    Where the file system cannot do that, a warning says so once.

    Raises:
        OSError: if writing fails, as on a full disk.
    """
    # Some file systems flush only what is open for writing, which a folder cannot be.
    is_folder = path.is_dir()
    descriptor = os.open(path, (os.O_RDONLY if is_folder else os.O_RDWR) | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (_NO_FLUSH_OF_FOLDERS if is_folder else _NOT_OFFERED):
            raise
        _warn(
            "flush",
            f"{path.parent}: its file system cannot be told to write at once ({_reason(error)}): "
            "after a power cut, what was written last may be missing or damaged",
        )
    finally:
        os.close(descriptor)


def set_mode(path: Path, mode: int) -> None:
    """Set the access rights of a file, unless the file system has its own for all."""
    try:
        path.chmod(mode)
    except OSError as error:
        # Such a mount decides who may read, and nothing can be lost.
        if error.errno not in _NOT_OFFERED | {errno.EPERM, errno.EACCES}:
            raise


def rename(old: Path, new: Path) -> None:
    """Rename a file or folder in one step; a file replaces one that has the name.

    Raises:
        ShapesHDError: if the file system cannot do that.
        OSError: if it fails for another reason.
    """
    try:
        old.replace(new)
    except OSError as error:
        if error.errno not in _NO_RENAME:
            raise
        raise ShapesHDError(
            f"{new}: cannot be given its name ({_reason(error)}): its file system does not rename "
            "as is needed; write into a folder of another one and copy it then"
        ) from error


def _warn(what: str, message: str) -> None:
    """Write a warning, once in a process for each thing that is missing."""
    if what not in _warned:
        _warned.add(what)
        warn(f"warning: {message}")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
