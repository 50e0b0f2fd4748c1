"""The images of an LMDB, as LSUN comes: each value is an encoded image, each key its name."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError, one_line

from .decode import MAX_FILE_BYTES
from .numbered import EncodedImages, PackedNames

if TYPE_CHECKING:
    import lmdb

DATA_NAME = "data.mdb"
# A database that was changed may end before its last page, by pages that hold nothing.
_UNWRITTEN_BYTES = 2**20

# LMDB is opened at most once in a process, and not used in one that inherits it: so it is open only
# while it is read (50 us each time), by one thread at a time, and never while a process is forked.
_OPEN = threading.Lock()
os.register_at_fork(
    before=_OPEN.acquire, after_in_parent=_OPEN.release, after_in_child=_OPEN.release
)


class LmdbImages(EncodedImages):
    """The images of an LMDB, in the order of their keys, which is that of their bytes.

    Only the keys are held, without an object for each. Nothing stays open.

    Args:
        path: the folder that holds ``data.mdb``.
        name: what the user called it.

    Raises:
        UsageError: if it is no LMDB, or empty.
        ShapesHDError: if it is damaged.
        MissingPackageError: if the package lmdb is not installed.
    """

    kind = "lmdb"

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self._path = path.absolute()  # a worker may have another working directory
        with self._reading() as transaction:
            keys = transaction.cursor().iternext(keys=True, values=False)
            self._keys = PackedNames(map(bytes, keys))
        if not len(self._keys):
            raise UsageError(f"{name}: holds no images: its LMDB is empty")
        super().__init__(name, len(self._keys))

    def label(self, number: int) -> str:
        """Return the name of image `number` for messages."""
        return f"{self.name}: {repr(self._keys[number])[2:-1]}"

    def encoded(self, number: int) -> bytes:
        """Return the value of image `number`, for `decode_image`.

        Raises:
            UsageError: if it is larger than an image can be.
            ShapesHDError: if it cannot be read.
        """
        with self._reading() as transaction:
            found = transaction.get(self._keys[number])
        if found is None:
            raise ShapesHDError(f"{self.label(number)}: is no longer in the LMDB")
        value = bytes(found)
        if len(value) > MAX_FILE_BYTES:
            raise UsageError(f"{self.label(number)}: is larger than {MAX_FILE_BYTES // 2**20} MiB")
        return value

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        """Open the database for a while; what goes wrong becomes one line."""
        try:
            import lmdb
        except ImportError:
            raise MissingPackageError.of("lmdb", "lsun", f"{self.name}: an LMDB") from None
        try:
            with (
                _OPEN,
                # Without its lock file: it may lie where nobody can write, and nobody writes to it.
                lmdb.open(
                    str(self._path), readonly=True, create=False, lock=False,
                    readahead=False, meminit=False,
                ) as environment,
            ):  # fmt: skip
                self._check_whole(environment)
                with environment.begin() as transaction:
                    yield transaction
        except (lmdb.InvalidError, lmdb.VersionMismatchError) as error:
            raise UsageError(
                f"{self.name}: its {DATA_NAME} is no LMDB ({_reason(error)})"
            ) from None
        except (lmdb.Error, OSError) as error:
            raise ShapesHDError(f"{self.name}: cannot be read ({_reason(error)})") from None

    def _check_whole(self, environment: lmdb.Environment) -> None:
        """Refuse a file that was cut short: to read behind its end would kill the process."""
        pages, page = environment.info()["last_pgno"] + 1, environment.stat()["psize"]
        missing = pages * page - (self._path / DATA_NAME).stat().st_size
        if missing > _UNWRITTEN_BYTES:
            raise ShapesHDError(
                f"{self.name}: its {DATA_NAME} lacks {missing:,} bytes at its end: copy or "
                "download it again"
            )


def _reason(error: Exception) -> str:
    """Return what went wrong without the path, which LMDB puts before it."""
    return one_line(error).rpartition(": ")[2]
