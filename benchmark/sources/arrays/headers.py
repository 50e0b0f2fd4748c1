"""What arrays a file holds, and which of them is images: by headers alone, without PyTorch.

So a file of which none can be scored is refused before anything heavy is loaded.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import ShapesHDError, UsageError, named, one_line
from shapeshd.images.names import MAX_PIXELS, shown

if TYPE_CHECKING:
    import h5py

_ENCRYPTED = 0x1
_NUMBERS = "fiu"

Arrays = Mapping[str, tuple[tuple[int, ...], "np.dtype[Any]"]]
"""Shape and type of each array of a file, by its name."""


class NpyHeader(NamedTuple):
    """What the header of an npy file says.

    Attributes:
        shape: of the array.
        fortran: whether its axes are reversed in the file.
        dtype: of its numbers.
        offset: where they begin, in bytes.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int


def examine_npy(request: OpenRequest) -> NpyHeader:
    """Return the header of an npy file of images.

    Raises:
        UsageError: if it is none, or holds no images.
    """
    with request.path.open("rb") as file:
        header = _read_header(file, request.name)
    check_array(request.name, header.shape, header.dtype)
    return header


def examine_npz(request: OpenRequest) -> None:
    """Raise `UsageError` if no array of an npz file is chosen, or it holds no images."""
    with open_archive(request) as archive:
        try:
            choose_member(archive, request.options.key, request.name)
        except ShapesHDError:
            raise
        except Exception as error:  # zlib, zipfile and NumPy raise anything on damaged bytes
            raise ShapesHDError(f"{request.name}: is damaged ({one_line(error)})") from None


def open_archive(request: OpenRequest) -> zipfile.ZipFile:
    """Open an npz file, or raise `UsageError`."""
    try:
        return zipfile.ZipFile(request.path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UsageError(f"{request.name}: is no whole npz file ({one_line(error)})") from None


def choose_member(
    archive: zipfile.ZipFile, key: str | None, name: str
) -> tuple[str, zipfile.ZipInfo, NpyHeader]:
    """Return the array of images of an npz file: its name, its member and its header.

    Args:
        archive: the file.
        key: the name that the user gave.
        name: what the user called the file.

    Raises:
        UsageError: if there is none or several, or it holds no images.
    """
    found = {}
    for member in archive.infolist():
        own = member.filename.removesuffix(".npy")
        if own == member.filename:
            continue
        if member.flag_bits & _ENCRYPTED:
            raise UsageError(f"{name}: {shown(own)} is encrypted: save it anew")
        with archive.open(member) as file:
            found[own] = (member, _read_header(file, name))
    arrays = {own: (header.shape, header.dtype) for own, (_, header) in found.items()}
    chosen = choose_key(arrays, key, name)
    member, header = found[chosen]
    check_array(f"{name}: {shown(chosen)}", header.shape, header.dtype)
    return chosen, member, header


def examine_hdf5(request: OpenRequest) -> None:
    """Raise `UsageError` if no array of an HDF5 file is chosen, or it holds no images."""
    with open_hdf5_file(request) as file:
        try:
            choose_array(file, request)
        except ShapesHDError:
            raise
        except Exception as error:  # h5py raises anything on damaged bytes
            raise ShapesHDError(f"{request.name}: is damaged ({one_line(error)})") from None


def open_hdf5_file(request: OpenRequest) -> h5py.File:
    """Open an HDF5 file, or raise `UsageError`."""
    import h5py

    try:
        return h5py.File(request.path, "r", locking=False)
    except OSError as error:
        raise UsageError(f"{request.name}: is no whole HDF5 file ({one_line(error)})") from None


def choose_array(file: h5py.File, request: OpenRequest) -> str:
    """Return the name of the array of images of an HDF5 file; it is searched in all groups.

    Raises:
        UsageError: if there is none or several, or it holds no images.
    """
    import h5py

    arrays = {}

    def note(name: str, item: Any) -> None:  # links to other files are not followed
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            arrays[name] = (item.shape, item.dtype)

    file.visititems(note)
    given = request.options.key
    key = choose_key(arrays, given and given.strip("/"), request.name)
    array, label = file[key], f"{request.name}: {key}"
    if h5py.check_vlen_dtype(array.dtype) is not None or h5py.check_string_dtype(array.dtype):
        raise UsageError(
            f"{label}: holds values of variable length (encoded images, such as JPEG?), not an "
            "array of pixels: write each into a file of a folder, zip or tar, or decode them into "
            "one array uint8 (n, H, W, 3)"
        )
    check_array(label, array.shape, array.dtype)
    if array.external:
        raise UsageError(f"{label}: lies in other files, which are not read: copy it into this one")
    return key


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


def choose_key(arrays: Arrays, key: str | None, name: str) -> str:
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


def _read_header(file: IO[bytes], name: str) -> NpyHeader:
    """Return what a header says, or raise `UsageError`."""
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
    return NpyHeader(shape, fortran, dtype, file.tell())
