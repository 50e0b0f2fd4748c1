"""Arrays in HDF5 files, looked at before they are read: what is missing, filters, chunk caches.

HDF5 gives zeros, black pixels, for what was never written, and for what a virtual array maps from
a file that is not there. Nothing here reads a pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from shapeshd.errors import DamagedShardError, MissingPackageError
from shapeshd.factors import IntArray

from .shards import open_hdf5

_CACHE_BYTES = 256 * 2**20  # of chunks, unless one is larger
_UNLIMITED = 2**63  # points of a selection that grows with its file, and more


def unwritten_rows(array: h5py.Dataset) -> IntArray:
    """Return the rows (axis 0) that HDF5 would make up, as some part of each was never written.

    Chunks that are not allocated, an array without chunks of which nothing was ever written, and
    what a virtual array maps from nowhere, or from such places. What was written as zeros counts
    as written.

    Args:
        array: of an open file, with at least one axis.

    Returns:
        Their numbers in order, int64 (m,); m is 0 for a whole array.
    """
    if array.is_virtual:
        return np.flatnonzero(~_mapped_rows(array))
    if array.chunks is None:
        layout = array.id.get_create_plist().get_layout()
        nothing = layout == h5py.h5d.CONTIGUOUS and array.id.get_offset() is None and array.size
        return np.arange(len(array) if nothing and not array.external else 0)
    grid = [-(-length // chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    if array.id.get_num_chunks() >= np.prod(grid):
        return np.empty(0, np.int64)
    found = np.zeros(grid[0], np.int64)
    for offset in _chunk_offsets(array):
        found[offset[0] // array.chunks[0]] += 1
    whole = np.repeat(found == np.prod(grid[1:]), array.chunks[0])[: len(array)]
    return np.flatnonzero(~whole)


def _chunk_offsets(array: h5py.Dataset) -> Iterator[tuple[int, ...]]:
    if hasattr(array.id, "chunk_iter"):
        offsets: list[tuple[int, ...]] = []
        array.id.chunk_iter(lambda chunk: offsets.append(chunk.chunk_offset))
        yield from offsets
    else:  # h5py on an HDF5 older than 1.12.3
        for number in range(array.id.get_num_chunks()):
            yield array.id.get_chunk_info(number).chunk_offset


def _mapped_rows(array: h5py.Dataset) -> npt.NDArray[np.bool_]:
    """Return which rows of a virtual array are mapped whole from what was written, bool (n,)."""
    row_points = int(np.prod(array.shape[1:]))
    points = np.zeros(len(array), np.int64)
    for source in array.virtual_sources():
        selected = source.vspace.get_select_npoints()
        if not 0 < selected < _UNLIMITED:  # it grows with its source
            points[:] = row_points
            continue
        rows = _selected_rows(source.vspace, len(array))
        origin_rows = _selected_rows(source.src_space, len(rows))
        found = np.full(len(rows), selected // len(rows))
        with _opened_source(array, source) as origin:
            missing = np.isin(origin_rows, unwritten_rows(origin)) | (origin_rows >= len(origin))
        if len(missing) == len(rows):
            found[missing] = 0
        elif missing.any():
            found[:] = 0
        points[rows] += found
    return points >= row_points


def _selected_rows(space: Any, count: int) -> IntArray:
    """Return the rows (axis 0) that a selection touches, in order; `count` if it is of all."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return np.arange(count)
    low, high = (int(corner[0]) for corner in space.get_select_bounds())
    rows = np.arange(low, high + 1)
    if space.get_select_type() == h5py.h5s.SEL_HYPERSLABS and space.is_regular_hyperslab():
        start, stride, _, block = (int(values[0]) for values in space.get_regular_hyperslab())
        rows = rows[(rows - start) % stride < block]
    return rows


@contextmanager
def _opened_source(array: h5py.Dataset, source: Any) -> Iterator[h5py.Dataset]:
    """Open the array that a virtual one maps."""
    if source.file_name == ".":
        yield array.file[source.dset_name]
        return
    with open_hdf5(_beside(array, source.file_name)) as file:
        yield file[source.dset_name]


def _beside(array: h5py.Dataset, name: str) -> Path:
    return Path(array.file.filename).resolve().parent / name


def check_virtual(array: h5py.Dataset, path: Path) -> None:
    """Refuse a virtual array with missing sources, which HDF5 would read as black.

    Raises:
        DamagedShardError: naming the first.
    """
    for source in array.virtual_sources():
        if source.file_name != "." and not _beside(array, source.file_name).exists():
            raise DamagedShardError(
                f"{path}: is only an index of other files, and {source.file_name} is not beside "
                "it; move them together, or name the dataset's own folder"
            )


def unwritten(array: h5py.Dataset, what: str) -> str | None:
    """Say which rows of an array were never written; None if all were.

    Args:
        array: of images or labels.
        what: what one row is, such as "image".
    """
    rows = unwritten_rows(array)
    if not len(rows):
        return None
    return (
        f"{what} {rows[0]:,} was never written, {len(rows):,} of {len(array):,} in all, and HDF5 "
        "reads zeros there"
    )


def load_filters(array: h5py.Dataset) -> None:
    """Load the decompressors that h5py lacks.

    Raises:
        MissingPackageError: if that takes a package which is not installed.
    """
    if not all(map(h5py.h5z.filter_avail, filter_codes(array))):
        try:
            import hdf5plugin  # noqa: F401 - its import registers the filters
        except ImportError:
            raise MissingPackageError.of("hdf5plugin", "zstd", "reading this compression") from None


def filter_codes(array: h5py.Dataset) -> list[int]:
    """Return the numbers of the filters that an array's chunks go through."""
    filters = array.id.get_create_plist()
    return [filters.get_filter(number)[0] for number in range(filters.get_nfilters())]


def is_packed(array: h5py.Dataset) -> bool:
    """Tell whether images are compressed many at a time, so that single ones take long to read."""
    return array.chunks is not None and array.chunks[0] > 1 and bool(filter_codes(array))


def with_chunk_cache(file: h5py.File, name: str) -> h5py.Dataset:
    """Open an array again with a cache that holds the chunks of one row, or one chunk at least.

    A chunk of one image is never needed twice; a chunk of many is, by the next in order. To read
    from a chunk that is compressed takes the memory of all of it, cached or not.
    """
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(*_chunk_cache(file[name]))
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))


def _chunk_cache(array: h5py.Dataset) -> tuple[int, int, float]:
    """Return slots, bytes and preemption of the chunk cache."""
    if array.chunks is None or array.chunks == (1, *array.shape[1:]):
        return 1, 0, 0.0
    chunks = np.prod([-(-s // c) for s, c in zip(array.shape[1:], array.chunks[1:], strict=True)])
    chunk_bytes = int(np.prod(array.chunks)) * array.dtype.itemsize
    size = max(min(_CACHE_BYTES, 2 * int(chunks) * chunk_bytes), chunk_bytes)
    return int(100 * chunks) + 1, size, 1
