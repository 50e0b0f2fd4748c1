"""Images as one NumPy array: an npy file, or a member of an npz file.

Only the part that is asked for is read: straight from the file where the numbers lie there as
they are, else (a compressed npz) by unpacking on to where they stand. Nothing is ever unpickled.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import ShapesHDError, UsageError, named, one_line
from shapeshd.factors import IntArray
from shapeshd.images.decode import MAX_PIXELS
from shapeshd.images.names import shown
from shapeshd.images.numbered import NumberedImages

LEARN_FROM = 64
"""How many images of a file the range and the layout are inferred from: its first ones."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and the extra field
_ENCRYPTED = 0x1
_NUMBERS = "fiu"
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


def check_array(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse an array that holds no images, before any of it is read.

    Raises:
        UsageError: saying what it is instead.
    """
    what = f"{dtype} {shape}"
    if dtype.hasobject:
        raise UsageError(
            f"{name}: holds Python objects (pickled), which can run code and are not read: save "
            "one array of numbers"
        )
    if dtype.kind not in _NUMBERS:
        raise UsageError(f"{name}: holds {what}, not images: uint8 or floats are")
    if len(shape) != 4:
        hint = " (one image? the number of images comes first)" * (len(shape) == 3)
        raise UsageError(f"{name}: holds {what}, not (n, 3, H, W) or (n, H, W, 3){hint}")
    if 0 in shape:
        raise UsageError(f"{name}: holds no images: its shape is {shape}")
    if np.prod(shape[1:], dtype=float) > 4 * MAX_PIXELS:
        raise UsageError(
            f"{name}: holds {what}: images too large: at most {MAX_PIXELS:,} pixels each"
        )


def open_npy(request: OpenRequest) -> ArrayImages:
    """Open an npy file of images.

    Raises:
        UsageError: if it is none, or holds no images.
    """
    path, name = request.path, request.name
    with path.open("rb") as file:
        shape, fortran, dtype, offset = _read_header(file, name)
    check_array(name, shape, dtype)
    read = _plain_reader(path, name, offset, shape, fortran, dtype, path.stat().st_size)
    return ArrayImages(name, "npy", shape, read, _nothing, request.options, {})


def open_npz(request: OpenRequest) -> ArrayImages:
    """Open an npz file that holds one array of images, or several and the key names one.

    Raises:
        UsageError: if it is none, the array is not to be found, or holds no images.
    """
    path, name = request.path, request.name
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UsageError(f"{name}: is no whole npz file ({one_line(error)})") from None
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
    headers = {}
    for member in archive.infolist():
        key = member.filename.removesuffix(".npy")
        if key == member.filename:
            continue
        if member.flag_bits & _ENCRYPTED:
            raise UsageError(f"{name}: {shown(key)} is encrypted: save it anew")
        with archive.open(member) as file:
            headers[key] = (member, *_read_header(file, name))
    key = choose_key({key: (head[1], head[3]) for key, head in headers.items()}, options.key, name)
    member, shape, fortran, dtype, offset = headers[key]
    label, said = f"{name}: {shown(key)}", {"key": shown(key)}
    check_array(label, shape, dtype)
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


def choose_key(
    arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]], key: str | None, name: str
) -> str:
    """Return the name of the array to read: `key`, or the only one that looks like images.

    Args:
        arrays: shape and type of each array of the file, by name.
        key: what the user said.
        name: what the user called the file.

    Raises:
        UsageError: if there is none or several; lists what there is.
    """
    listed = ", ".join(f"{shown(k)} {dtype} {shape}" for k, (shape, dtype) in arrays.items())
    listed = listed if len(listed) < 300 else f"{listed[:300]}..."
    if not arrays:
        raise UsageError(f"{name}: holds no array")
    if key is not None:
        if key not in arrays:
            raise UsageError(f"{name}: holds no array {key!r}; it holds {listed}")
        return key
    if len(arrays) == 1:
        return next(iter(arrays))
    images = [k for k, (shape, dtype) in arrays.items() if _looks_like_images(shape, dtype)]
    if not images:
        raise UsageError(f"{name}: no array is of images, (n, 3, H, W) or (n, H, W, 3): {listed}")
    if len(images) > 1:
        keys = [named("key", key) for key in images[:4]]
        raise UsageError(f"{name}: holds several arrays of images: give {' or '.join(keys)}")
    return images[0]


def _looks_like_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return len(shape) == 4 and 3 in (shape[1], shape[3]) and dtype.kind in _NUMBERS


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


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, Fortran order, type, and where the numbers begin."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"format version {version[0]}.{version[1]}")
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        raise UsageError(f"{name}: holds no NumPy array ({one_line(error)})") from None
    return shape, fortran, dtype, file.tell()


def _data_offset(path: Path, header_offset: int) -> int:
    """Return where the bytes of a zip's member begin: after its local header."""
    with path.open("rb") as file:
        file.seek(header_offset)
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise ValueError("no member where the directory says")
    return int(header_offset + _LOCAL_HEADER.size + name_length + extra_length)
