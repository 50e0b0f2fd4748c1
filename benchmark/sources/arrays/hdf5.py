"""Images in any HDF5 file: its one array of them, or the one that is named."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.dataset.hdf5_arrays import (
    check_virtual,
    is_packed,
    load_filters,
    unwritten,
    with_chunk_cache,
)
from shapeshd.errors import ShapesHDError, UsageError, one_line

from .headers import choose_array, open_hdf5_file
from .numpy_files import ArrayImages


def open_hdf5_images(request: OpenRequest) -> ArrayImages:
    """Open an HDF5 file; the array is searched in all groups.

    Raises:
        UsageError: if it is none, the array is not to be found, or holds no images.
        ShapesHDError: if it is damaged.
    """
    name, file = request.name, open_hdf5_file(request)
    try:
        return _open_array(file, request)
    except ShapesHDError:
        file.close()
        raise
    except Exception as error:  # h5py raises anything on damaged bytes
        file.close()
        raise ShapesHDError(f"{name}: is damaged ({one_line(error)})") from None


def _open_array(file: h5py.File, request: OpenRequest) -> ArrayImages:
    key = choose_array(file, request)
    array, label = file[key], f"{request.name}: {key}"
    if array.is_virtual:
        check_virtual(array, request.path)
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
        request.name, "hdf5", array.shape, read, file.close, request.options, {"key": key},
        costly=is_packed(array),
    )  # fmt: skip
