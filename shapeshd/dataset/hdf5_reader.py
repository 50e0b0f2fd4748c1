"""Reads images of HDF5 files: shards of ours, 3dshapes.h5, and their like (`shards` writes them).

A dataset can have more files than a process may hold open, and random order touches them
all; so few stay open, and what a read needs beside the file (labels, places of the images)
is kept.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import h5py
import numpy as np

from shapeshd.errors import (
    DamagedShardError,
    UsageError,
    one_line,
    require_posix,
)
from shapeshd.factors import FACTORS, FloatArray, IntArray
from shapeshd.scene.render_options import Image

from .hdf5_arrays import (
    check_virtual,
    filter_codes,
    is_packed,
    load_filters,
    unwritten,
    with_chunk_cache,
)
from .manifest import MANIFEST_NAME, VIRTUAL_NAME, load_manifest, manifest_of_available_shards
from .shards import DAMAGE, damaged, header_of, is_shard, list_shards, open_hdf5, shard_number

MAX_OPEN_FILES = 64
_CHECKSUM_BYTES = 4
_DAMAGE = (*DAMAGE, zlib.error)


class DatasetPart(Protocol):
    """A part of a dataset: images that follow each other, and their factors."""

    count: int
    first_index: int
    image_shape: tuple[int, int, int]

    @property
    def labels(self) -> FloatArray:
        """All factors, float64 (count, 6)."""

    def image(self, row: int) -> Image:
        """Return the image `row`, 0 to count - 1: read-only uint8 (H, W, 3)."""


class OpenFiles:
    """At most `limit` open files of one process; the least recently used goes first.

    A forked process drops what it inherited, a pickled copy is empty. A file is closed when
    its last user lets go of it, so threads cannot close each other's files.
    """

    def __init__(self, limit: int = MAX_OPEN_FILES) -> None:
        self._limit = limit
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, open_file: Callable[[], Any]) -> Any:
        """Return the open file `path`, calling `open_file` if it is not open."""
        if self._process != os.getpid():
            self._begin()  # with a new lock: a thread of the parent may have held the old one
        with self._lock:
            handle = self._open.pop(path, None)
            if handle is None:
                while len(self._open) >= self._limit:
                    self._open.popitem(last=False)
                handle = open_file()
            self._open[path] = handle
            return handle

    def __getstate__(self) -> dict[str, Any]:
        return {"_limit": self._limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._limit = state["_limit"]
        self._begin()


class _Descriptor:
    """A file descriptor for `os.pread`, closed when nobody uses it any more."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@dataclass
class _OpenHDF5:
    """An open file and its images; h5py would close the array together with the file."""

    file: h5py.File
    images: h5py.Dataset


@dataclass
class _Contents:
    """The contents of a file that stay in memory: 64 bytes an image."""

    labels: FloatArray
    places: tuple[IntArray, IntArray] | None  # offset and bytes of each image's gzip stream
    packed: bool  # whether many images are compressed together


class ImageFile:
    """One HDF5 file with ``images`` uint8 (n, H, W, 3) and ``labels`` (n, 6), numbers.

    Args:
        path: the file.
        count: n.
        image_shape: (H, W, 3).
        files: keeps the open files of this and other parts.
        first_index: index of the first image in the dataset.
        ours: whether the file is a shard, which ``shapeshd render`` can make anew.
    """

    def __init__(
        self,
        path: Path,
        count: int,
        image_shape: tuple[int, int, int],
        files: OpenFiles,
        first_index: int = 0,
        *,
        ours: bool = False,
    ) -> None:
        self.path = path
        self.count = count
        self.image_shape = image_shape
        self.first_index = first_index
        self._files = files
        self._ours = ours
        self._contents: _Contents | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_contents": None}

    @property
    def labels(self) -> FloatArray:
        """All labels of the file, float64 (n, 6), read on first use.

        Raises:
            DamagedShardError: if they cannot be read.
        """
        return self._load().labels

    @property
    def packed(self) -> bool:
        """Whether many images are compressed together, so that single ones take long to read."""
        return self._load().packed

    def image(self, row: int) -> Image:
        """Read the image `row`, 0 to n - 1: uint8 (H, W, 3), read-only.

        Raises:
            DamagedShardError: if it cannot be read or fails a checksum.
        """
        places = self._load().places
        try:
            if places is None:
                pixels = self._files.get(self.path, self._open).images[row]
                pixels.flags.writeable = False
                return pixels
            return self._inflate(int(places[0][row]), int(places[1][row]))
        except _DAMAGE as error:
            self._fail(f"image {row} of the file cannot be read", error)

    def _inflate(self, offset: int, size: int) -> Image:
        """Read one gzip chunk without the HDF5 library.

        Reopening an HDF5 file costs more than an image does, and an open one 0.6 MB; a
        plain file costs neither. The stream's own Adler-32 guards the pixels.
        """
        descriptor = self._files.get(self.path, lambda: _Descriptor(self.path))
        stream = os.pread(descriptor.number, size, offset)
        pixels = zlib.decompress(stream, bufsize=int(np.prod(self.image_shape)))
        return np.frombuffer(pixels, dtype=np.uint8).reshape(self.image_shape)

    def _load(self) -> _Contents:
        if self._contents is None:
            opened = self._open()
            try:
                arrays = {"image": opened.images, "label": opened.file["labels"]}
                missing = [unwritten(array, what) for what, array in arrays.items()]
                labels = arrays["label"][()].astype(np.float64, copy=False)
                places = _gzip_places(opened.file, opened.images)
                self._contents = _Contents(labels, places, is_packed(opened.images))
            except _DAMAGE as error:
                self._fail("its labels cannot be read", error)
            if problem := next(filter(None, missing), None):
                self._contents = None
                self._fail(problem)
            labels.flags.writeable = False
        return self._contents

    def _open(self) -> _OpenHDF5:
        try:
            file = open_hdf5(self.path)
            images = file["images"]
            form = _describe_form(file)
            load_filters(images)
            opened = _OpenHDF5(file, with_chunk_cache(file, "images"))
        except FileNotFoundError:
            self._fail("is missing")
        except _DAMAGE as error:
            self._fail("cannot be read", error)
        if not _fits(form, self.count, self.image_shape):
            self._fail(f"holds other arrays than expected: {form}")
        return opened

    def _fail(self, what: str, error: Exception | None = None) -> NoReturn:
        if self._ours:
            raise damaged(self.path, what, error) from None
        detail = f" ({one_line(error)})" if error else ""
        raise DamagedShardError(
            f"{self.path}: {what}{detail}; copy or download the file again"
        ) from None


def find_files(path: Path, files: OpenFiles, *, allow_incomplete: bool) -> list[ImageFile]:
    """Return the parts of what `path` names; see `shapeshd.dataset.shapes_hd.ShapesHD`."""
    require_posix()
    path = path.expanduser().absolute()  # a worker may have another working directory
    if path.is_dir():
        return _find_shards(path, files, allow_incomplete)
    with open_file(path) as file:
        if is_shard(file):
            header = header_of(file, path)
            size = header.provenance.size
            return [
                ImageFile(path, header.count, (size, size, 3), files, header.first_index, ours=True)
            ]
        count, image_shape = check_form(file, path)
        if file["images"].is_virtual:
            for index in (path, path.resolve()):  # it may be a link
                if index.name == VIRTUAL_NAME and list_shards(index.parent):
                    return _find_shards(index.parent, files, allow_incomplete)
            check_virtual(file["images"], path)
    return [ImageFile(path, count, image_shape, files)]


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file whose content is not known yet.

    Raises:
        UsageError: if there is no such file, or it is no HDF5 file.
        DamagedShardError: if its name is a shard's, and it is no HDF5 file.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder")
    try:
        return open_hdf5(path)
    except OSError as error:
        if shard_number(path) is not None:
            raise damaged(path, "cannot be opened as HDF5", error) from None
        raise UsageError(
            f"{path}: neither a dataset folder nor a whole HDF5 file ({one_line(error)})"
        ) from None


def _find_shards(dataset: Path, files: OpenFiles, allow_incomplete: bool) -> list[ImageFile]:
    manifest = (
        load_manifest(dataset) if not allow_incomplete else manifest_of_available_shards(dataset)
    )
    if not allow_incomplete:
        remedy = (
            "finish it with `shapeshd render`, or pass allow_incomplete=True to read what there is"
        )
        if not (dataset / MANIFEST_NAME).exists():
            raise UsageError(
                f"{dataset}: has no {MANIFEST_NAME}, so its rendering has not ended; {remedy}"
            )
        if not manifest.complete:
            raise UsageError(
                f"{dataset}: incomplete: holds {manifest.available:,} of {manifest.count:,} "
                f"images; {remedy}"
            )
    if not manifest.shards:
        raise UsageError(f"{dataset}: holds no images yet")
    size = manifest.provenance.size
    return [
        ImageFile(
            dataset / shard.file, shard.count, (size, size, 3), files, shard.first_index, ours=True
        )
        for shard in manifest.shards
    ]


_Form = tuple[tuple[int, ...], np.dtype[Any], tuple[int, ...], np.dtype[Any]]


def _describe_form(file: h5py.File) -> _Form:
    """Return the shape and type of ``images`` and of ``labels``; KeyError without them."""
    images, labels = file["images"], file["labels"]
    return images.shape, images.dtype, labels.shape, labels.dtype


def _fits(form: _Form, count: int, image_shape: tuple[int, ...]) -> bool:
    """Tell whether a file of this form holds `count` images, and real numbers as labels."""
    shape, dtype, label_shape, label_dtype = form
    return (
        shape == (count, *image_shape)
        and dtype == np.uint8
        and label_shape == (count, len(FACTORS))
        and label_dtype.kind in "fiu"
    )


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


def check_form(file: h5py.File, path: Path) -> tuple[int, tuple[int, int, int]]:
    """Return how many images a file like 3dshapes.h5 holds, and their shape (H, W, 3).

    Raises:
        UsageError: if the file has another form.
    """
    wanted = "images uint8 (n, H, W, 3) and numbers as labels (n, 6), as 3dshapes.h5 has"
    try:
        form = _describe_form(file)
    except (KeyError, AttributeError):
        raise UsageError(f"{path}: holds no {wanted}") from None
    shape = form[0]
    if len(shape) != 4 or not _fits(form, shape[0], (*shape[1:3], 3)):
        raise UsageError(
            f"{path}: images are {form[1]} {form[0]} and labels {form[3]} {form[2]}, not {wanted}"
        )
    return shape[0], (shape[1], shape[2], 3)


def _gzip_places(file: h5py.File, images: h5py.Dataset) -> tuple[IntArray, IntArray] | None:
    """Return offset and bytes of each image's gzip stream, if each is a chunk of its own.

    Returns:
        Two int64 arrays (n,), or None if the images are stored in another way.
    """
    codes = filter_codes(images)
    checksum = codes == [h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32]
    if not checksum and codes != [h5py.h5z.FILTER_DEFLATE]:
        return None
    if images.chunks != (1, *images.shape[1:]) or file.userblock_size:
        return None
    places = np.full((2, len(images)), -1, dtype=np.int64)
    masks = []

    def note(chunk: Any) -> None:
        places[:, chunk.chunk_offset[0]] = chunk.byte_offset, chunk.size
        masks.append(chunk.filter_mask)

    if not hasattr(images.id, "chunk_iter"):  # h5py on an HDF5 older than 1.12.3
        return None
    images.id.chunk_iter(note)
    if (places < 0).any() or any(masks):  # never written, or stored without its filters
        return None
    return places[0], places[1] - (_CHECKSUM_BYTES if checksum else 0)
