"""Images in any HDF5 file: its one array of them, or the one that is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.dataset.hdf5_arrays import (
    check_virtual,
    is_packed,
    load_filters,
    unwritten,
    with_chunk_cache,
)
from shapeshd.errors import ShapesHDError, UsageError, one_line

from .numpy_files import ArrayImages, check_array, choose_key


def open_hdf5_images(request: OpenRequest) -> ArrayImages:
    """Open an HDF5 file; the array is searched in all groups.

    Raises:
        UsageError: if it is none, the array is not to be found, or holds no images.
        ShapesHDError: if it is damaged.
    """
    path, name = request.path, request.name
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise UsageError(f"{name}: is no whole HDF5 file ({one_line(error)})") from None
    try:
        return _open_array(file, path, request.options, name)
    except ShapesHDError:
        file.close()
        raise
    except Exception as error:  # h5py raises anything on damaged bytes
        file.close()
        raise ShapesHDError(f"{name}: is damaged ({one_line(error)})") from None


def _open_array(file: h5py.File, path: Path, options: SourceOptions, name: str) -> ArrayImages:
    key = options.key and options.key.strip("/")
    key = choose_key(_list_arrays(file), key, name)
    array = file[key]
    label = f"{name}: {key}"
    if h5py.check_vlen_dtype(array.dtype) is not None or h5py.check_string_dtype(array.dtype):
        raise UsageError(
            f"{label}: holds values of variable length (encoded images, such as JPEG?), not an "
            "array of pixels: write each into a file of a folder, zip or tar, or decode them into "
            "one array uint8 (n, H, W, 3)"
        )
    check_array(label, array.shape, array.dtype)
    if array.external:
        raise UsageError(f"{label}: lies in other files, which are not read: copy it into this one")
    if array.is_virtual:
        check_virtual(array, path)
    load_filters(array)
    if problem := unwritten(array, "image"):
        raise UsageError(
            f"{label}: {problem}, as black images: write them, or copy those that are there into "
            "an array of their own"
        )
    array = with_chunk_cache(file, key)

    def read(start: int, stop: int) -> NDArray[Any]:
        part: NDArray[Any] = np.asarray(array[start:stop])
        return part

    return ArrayImages(
        name, "hdf5", array.shape, read, file.close, options, {"key": key},
        costly=is_packed(array),
    )  # fmt: skip


def _list_arrays(file: h5py.File) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and type of each array; links to other files are not followed."""
    arrays = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            arrays[name] = (item.shape, item.dtype)

    file.visititems(note)
    return arrays
