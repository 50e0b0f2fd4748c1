"""Images as one NumPy array: an npy file, or a member of an npz file.

Only the part that is asked for is read: straight from the file where the numbers lie there as
they are, else (a compressed npz) by unpacking on to where they stand. Nothing is ever unpickled.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import ShapesHDError, UsageError, one_line
from shapeshd.factors import IntArray
from shapeshd.images.names import shown
from shapeshd.images.numbered import NumberedImages

from .headers import choose_member, examine_npy, open_archive

LEARN_FROM = 64
"""How many images of a file the range and the layout are inferred from: its first ones."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and the extra field
_T = TypeVar("_T")


class ArrayImages(NumberedImages):
    """The images of an array of which parts can be read.

    Args:
        name: what the user called it.
        kind: such as "npz".
        shape: of the array; four axes.
        read: returns the images start .. stop - 1 of it.
        close: closes what `read` needs.
        options: range and layout.
        said: what else a result must say of it.
        costly: whether images take long to read in another order than theirs.

    Raises:
        UsageError: if the first images tell that they cannot be scored, or not how to read them.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        shape: tuple[int, ...],
        read: Callable[[int, int], NDArray[Any]],
        close: Callable[[], None],
        options: SourceOptions,
        said: dict[str, Any],
        *,
        costly: bool = False,
    ) -> None:
        super().__init__(name, shape[0])
        self.kind = kind
        self.costly = costly
        self._part = read
        self._close = close
        self._said = said
        self._form = ImageFormat(options, name=name)
        try:
            first = self._read_part(0, min(LEARN_FROM, shape[0]))
            self._checked(self._form.learn, first, range(len(first)))
        except BaseException:
            close()
            raise

    def images_at(self, numbers: IntArray) -> Tensor:
        """Return the images `numbers`: uint8 (n, 3, H, W); errors as of `images`."""
        rows = numbers.tolist()
        part = np.concatenate([self._read_part(number, number + 1) for number in rows])
        return self._checked(self._form, part, rows)

    def _read(self, start: int, stop: int) -> Tensor:
        return self._checked(self._form, self._read_part(start, stop), range(start, stop))

    def _checked(
        self, take: Callable[[NDArray[Any]], _T], part: NDArray[Any], numbers: Sequence[int]
    ) -> _T:
        """Return what `take` makes of a part; of values that are not finite, name the image."""
        try:
            return take(part)
        except ShapesHDError:
            bad = ~np.isfinite(part).reshape(len(part), -1).all(axis=1)
            if not bad.any():
                raise
            row = int(bad.argmax())
            what = "NaN" if np.isnan(part[row]).any() else "infinite values"
            raise ShapesHDError(
                f"{self.name}: image {numbers[row]:,} has {what}: not an image"
            ) from None

    def _read_part(self, start: int, stop: int) -> NDArray[Any]:
        try:
            return self._part(start, stop)
        except ShapesHDError:
            raise
        except Exception as error:  # zlib, zipfile and HDF5 raise anything on damaged bytes
            raise ShapesHDError(
                f"{self.name}: images {start:,} to {stop - 1:,} cannot be read ({one_line(error)})"
            ) from None

    def describe(self) -> dict[str, Any]:
        """Return where the array is and how it was read, ready for JSON."""
        return {**self._said, **self._form.describe()}

    def close(self) -> None:
        """Close the file."""
        self._close()


def open_npy(request: OpenRequest) -> ArrayImages:
    """Open an npy file of images.

    Raises:
        UsageError: if it is none, or holds no images.
    """
    path, name = request.path, request.name
    shape, fortran, dtype, offset = examine_npy(request)
    read = _plain_reader(path, name, offset, shape, fortran, dtype, path.stat().st_size)
    return ArrayImages(name, "npy", shape, read, _nothing, request.options, {})


def open_npz(request: OpenRequest) -> ArrayImages:
    """Open an npz file that holds one array of images, or several and the key names one.

    Raises:
        UsageError: if it is none, the array is not to be found, or holds no images.
    """
    path, name = request.path, request.name
    archive = open_archive(request)
    try:
        return _open_member(archive, path, request.options, name)
    except ShapesHDError:
        archive.close()
        raise
    except Exception as error:  # zlib, zipfile and NumPy raise anything on damaged bytes
        archive.close()
        raise ShapesHDError(f"{name}: is damaged ({one_line(error)})") from None


def _open_member(
    archive: zipfile.ZipFile, path: Path, options: SourceOptions, name: str
) -> ArrayImages:
    key, member, (shape, fortran, dtype, offset) = choose_member(archive, options.key, name)
    label, said = f"{name}: {shown(key)}", {"key": shown(key)}
    if member.compress_type == zipfile.ZIP_STORED:
        first = _data_offset(path, member.header_offset)
        end = first + member.file_size
        read_plain = _plain_reader(path, label, first + offset, shape, fortran, dtype, end)
        archive.close()
        return ArrayImages(name, "npz", shape, read_plain, _nothing, options, said)
    if fortran:
        raise UsageError(
            f"{label}: is compressed with its axes reversed (Fortran order), so its images do not "
            "follow each other: save np.ascontiguousarray of it"
        )
    if member.file_size != offset + _bytes(shape, dtype):
        raise ShapesHDError(f"{label}: is damaged: it is not as large as {dtype} {shape}")
    stream = archive.open(member)

    def read(start: int, stop: int) -> NDArray[Any]:
        stream.seek(offset + start * _bytes(shape[1:], dtype))
        wanted = _bytes((stop - start, *shape[1:]), dtype)
        data = stream.read(wanted)
        if len(data) != wanted:
            raise ShapesHDError(f"{label}: ends before image {stop - 1:,}")
        return np.frombuffer(data, dtype).reshape(stop - start, *shape[1:])

    def close() -> None:
        stream.close()
        archive.close()

    return ArrayImages(name, "npz", shape, read, close, options, said, costly=True)


def _plain_reader(
    path: Path,
    name: str,
    offset: int,
    shape: tuple[int, ...],
    fortran: bool,
    dtype: np.dtype[Any],
    end: int,
) -> Callable[[int, int], NDArray[Any]]:
    """Return what reads images of the array that lies in `path` from `offset` to `end`.

    Images that follow each other are read and not mapped: pages of a map stay in the process's
    memory, and one of a file that is cut off meanwhile ends the process.
    """
    if offset + _bytes(shape, dtype) > end:
        raise ShapesHDError(
            f"{name}: is cut off: {dtype} {shape} are {_bytes(shape, dtype):,} bytes and there are "
            f"{max(0, end - offset):,}"
        )
    if fortran:
        array = np.memmap(path, dtype, "r", offset, shape, "F")
        return lambda start, stop: np.array(array[start:stop])
    path = path.absolute()

    def read(start: int, stop: int) -> NDArray[Any]:
        part = (stop - start, *shape[1:])
        begin = offset + start * _bytes(shape[1:], dtype)
        values = np.fromfile(path, dtype, _bytes(part, dtype) // dtype.itemsize, offset=begin)
        return values.reshape(part)

    return read


def _nothing() -> None:
    """Close a file of which nothing stays open."""


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    count = dtype.itemsize
    for length in shape:
        count *= int(length)
    return count


def _data_offset(path: Path, header_offset: int) -> int:
    """Return where the bytes of a zip's member begin: after its local header."""
    with path.open("rb") as file:
        file.seek(header_offset)
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise ValueError("no member where the directory says")
    return int(header_offset + _LOCAL_HEADER.size + name_length + extra_length)
