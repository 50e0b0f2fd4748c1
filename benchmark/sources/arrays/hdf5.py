"""Images in any HDF5 file: its one array of them, or the one that is named."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.dataset.hdf5_files import check_form, check_virtual
from shapeshd.dataset.shards import DAMAGE, shard_number
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


def holds_dataset(path: Path) -> bool:
    """Tell whether the file is a shard of ours, or like 3dshapes.h5: images with six labels."""
    if shard_number(path) is not None:
        return True  # even a damaged one, whose message then says so
    try:
        with h5py.File(path, "r", locking=False) as file:
            check_form(file, path)
    except (UsageError, *DAMAGE):
        return False
    return True


def _open_array(file: h5py.File, path: Path, options: SourceOptions, name: str) -> ArrayImages:
    key = options.key and options.key.strip("/")
    key = choose_key(_list_arrays(file), key, name)
    array = file[key]
    label = f"{name}: {key}"
    check_array(label, array.shape, array.dtype)
    if array.is_virtual:
        check_virtual(array, path)
    if array.external:
        raise UsageError(f"{label}: lies in other files, which are not read: copy it into this one")
    _load_decompressors(array)

    def read(start: int, stop: int) -> NDArray[Any]:
        part: NDArray[Any] = np.asarray(array[start:stop])
        return part

    return ArrayImages(name, "hdf5", array.shape, read, file.close, options, {"key": key})


def _list_arrays(file: h5py.File) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and type of each array; links to other files are not followed."""
    arrays = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            arrays[name] = (item.shape, item.dtype)

    file.visititems(note)
    return arrays


def _load_decompressors(array: h5py.Dataset) -> None:
    """Let the package hdf5plugin, if it is there, add the decompressors that h5py lacks.

    Without it, reading fails with HDF5's own message, which names the filter.
    """
    filters = array.id.get_create_plist()
    codes = [filters.get_filter(number)[0] for number in range(filters.get_nfilters())]
    if not all(map(h5py.h5z.filter_avail, codes)):
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401 - its import registers them
