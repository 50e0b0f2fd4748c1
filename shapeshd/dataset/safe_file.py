"""A file object for h5py that keeps failures to write away from the HDF5 library.

The HDF5 library can crash the whole process when it cannot write what it still holds, as on
a full disk. This file never fails towards HDF5: it remembers the first error, goes on in
memory, and leaves it to us to look at `error`.
"""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path


class SafeFile(io.RawIOBase):
    """A new binary file to be written and read by h5py's file-object driver.

    Args:
        path: the file, which must not exist.

    Attributes:
        error: the first failure to write, or None.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._file: io.FileIO | io.BytesIO = path.open("x+b", buffering=0)

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Write all of `data`; on a failure, in memory from then on."""
        view = memoryview(data).cast("B")
        position = self._file.tell()
        try:
            written = 0
            while written < len(view):
                written += self._file.write(view[written:])
        except OSError as error:
            self._go_on_in_memory(error, position)
            self._file.write(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        position = self._file.tell()
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._go_on_in_memory(error, position)
            return self._file.truncate(size)

    def _go_on_in_memory(self, error: OSError, position: int) -> None:
        self.error = error
        disk, self._file = self._file, io.BytesIO()
        with suppress(OSError):  # HDF5 must not notice; the file is lost anyway
            disk.seek(0)
            self._file.write(disk.read() or b"")
        with suppress(OSError):
            disk.close()
        self._file.seek(position)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into `buffer` and return the number of bytes."""
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` and return the new position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def readable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()
