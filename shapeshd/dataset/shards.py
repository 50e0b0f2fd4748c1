"""The HDF5 shard: its format, how it is written, read and checked.

A shard holds the images `first_index` .. `first_index` + n - 1 of a dataset:

- ``images``: uint8 (n, H, W, 3), sRGB, one chunk an image, compressed without loss, each
  chunk with a checksum;
- ``labels``: float64 (n, 6), columns as in `FACTORS`;
- attributes: what decides the images (`Provenance`), where the shard stands, and the
  SHA-256 of its pixels and of its labels.

The names are those of the original 3dshapes. A shard appears under its own name only when
it is complete. It records no time and no machine: with the same versions of HDF5 and its
filters, equal content is equal bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from shapeshd.distribution import Distribution
from shapeshd.engines.engine import current_name
from shapeshd.errors import DamagedShardError, MissingPackageError, UsageError, one_line
from shapeshd.factors import FACTORS, FloatArray
from shapeshd.scene.render_options import MAX_SIZE, MIN_SIZE, Image
from shapeshd.support.file_system import flush
from shapeshd.support.schema import first_problem

from .safe_file import SafeFile

FORMAT = "3DShapesHD shard"
FORMAT_VERSION = 1
SHARD_FOLDER = "shards"
COMPRESSIONS = ("gzip", "zstd", "none")
_GZIP_LEVEL = 4
_ZSTD_LEVEL = 9
_READ_BYTES = 32 * 2**20

DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError)
"""What h5py raises on damaged bytes."""


NotNegative = Annotated[int, Field(ge=0, le=2**63 - 1)]
AtLeastOne = Annotated[int, Field(ge=1, le=2**63 - 1)]
Side = Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE)]

RECORD = ConfigDict(strict=True)
"""Values of a dataset's records must have the types stated; none is converted."""


@dataclass(frozen=True, config=RECORD)
class Provenance:
    """Everything that decides a dataset's images and how its shards are cut.

    Two shards belong to one dataset only if all of this is equal. The names that version 0.1.0
    wrote before its first release are read, too.
    """

    sampling: str
    seed: NotNegative
    size: Side
    antialias: Annotated[float, Field(gt=0, le=3)] | None
    antialias_depth: Annotated[int, Field(ge=1, le=9)]
    engine: str
    renderer: str
    scene_sha256: str
    shard_size: AtLeastOne
    compression: str
    distribution: str = ""
    """`Distribution.text` of sampling "distribution"; "" of others, which do not mention it."""

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, given: Any) -> Any:
        if isinstance(given, ArgsKwargs):
            return ArgsKwargs(given.args, _with_new_names(given.kwargs or {}))
        return _with_new_names(given) if isinstance(given, dict) else given

    def differences(self, other: Provenance) -> list[str]:
        """Name what differs from `other`, one phrase a field."""
        # Of two engines, renderer and scene differ as a matter of course.
        implied = {"renderer", "scene_sha256"} if self.engine != other.engine else set()
        if self.sampling != other.sampling:
            implied.add("distribution")
        return [
            _distribution_difference(self.distribution, other.distribution)
            if field.name == "distribution"
            else f"{field.name} is {mine!r}, not {theirs!r}"
            for field in dataclasses.fields(self)
            if (mine := getattr(self, field.name)) != (theirs := getattr(other, field.name))
            and field.name not in implied
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; `distribution` only where there is one."""
        values = dataclasses.asdict(self)
        if not self.distribution:
            del values["distribution"]
        return values


def _with_new_names(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a `Provenance` with names and values as they are written today."""
    values = dict(given)
    if "law" in values:
        values["distribution"] = values.pop("law")
    if values.get("sampling") == "law":
        values["sampling"] = "distribution"
    if isinstance(renderer := values.get("renderer"), str):
        values["renderer"] = current_name(renderer)
    return values


def _distribution_difference(mine: str, theirs: str) -> str:
    try:
        one, other = Distribution.from_text(mine), Distribution.from_text(theirs)
    except UsageError as error:
        return f"distribution is another one ({error})"
    return f"distribution is {one}, not {other}: {one.difference(other)}"


@dataclass(frozen=True, config=RECORD)
class ShardHeader:
    """One shard's attributes: its dataset, its place there, and its digests."""

    provenance: Provenance
    first_index: NotNegative
    count: NotNegative
    images_sha256: str
    labels_sha256: str


def shard_name(number: int) -> str:
    """Return the file name of shard `number`."""
    return f"shard-{number:06d}.h5"


def shard_number(path: Path) -> int | None:
    """Return the number in a shard's file name, or None if it is not such a name."""
    match = re.fullmatch(r"shard-(\d{6,})\.h5", path.name)
    return int(match[1]) if match else None


def list_shards(dataset: Path) -> list[Path]:
    """Return the shard files of the dataset folder `dataset`, in order of their numbers."""
    folder = dataset / SHARD_FOLDER
    if not folder.is_dir():
        return []
    numbered = [(shard_number(path), path) for path in folder.iterdir()]
    return [path for number, path in sorted((n, p) for n, p in numbered if n is not None)]


def compression_filter(compression: str) -> dict[str, Any]:
    """Return h5py's arguments for `compression`: ``gzip``, ``zstd`` or ``none``."""
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": _GZIP_LEVEL}
    if compression == "none":
        return {}
    if compression == "zstd":
        try:
            import hdf5plugin
        except ImportError:
            raise MissingPackageError.of("hdf5plugin", "zstd", "zstd compression") from None
        return dict(hdf5plugin.Zstd(clevel=_ZSTD_LEVEL))
    raise UsageError(f"unknown compression {compression!r}: choose {', '.join(COMPRESSIONS)}")


class ShardWriter:
    """Writes one shard image by image; a context manager.

    The file is complete and synchronised to disk only after `finish`; without it, leaving
    the context closes a file that no reader accepts.

    Args:
        path: the file to write, usually a temporary name.
        provenance: what decides the images.
        first_index: index of the first image in the dataset.
        labels: float64 (n, 6), the factors of all images of the shard.
    """

    def __init__(
        self, path: Path, provenance: Provenance, first_index: int, labels: FloatArray
    ) -> None:
        self._path = path
        self._provenance = provenance
        self._first_index = first_index
        self._labels = np.ascontiguousarray(labels, dtype="<f8")
        self._written = 0
        self._digest = hashlib.sha256()
        count, size = len(labels), provenance.size
        # The 1.10 format has checksums on its own structures; the older one has none.
        self._target = SafeFile(path)
        self._file = h5py.File(self._target, "w", libver=("v110", "v110"))
        self._images = self._file.create_dataset(
            "images",
            shape=(count, size, size, 3),
            dtype="u1",
            chunks=(1, size, size, 3),
            fletcher32=True,
            **compression_filter(provenance.compression),
        )
        # Which image is written, and in which form: an assignment would make both for each anew.
        self._place, self._form = (
            self._images.id.get_space(),
            h5py.h5s.create_simple((size, size, 3)),
        )
        self._file.create_dataset(
            "labels", data=self._labels, chunks=self._labels.shape, fletcher32=True
        )

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._target.close()

    def append(self, image: Image) -> None:
        """Write the next image, uint8 (size, size, 3)."""
        pixels = np.ascontiguousarray(image, dtype=np.uint8)
        self._place.select_hyperslab((self._written, 0, 0, 0), (1, *pixels.shape))
        self._images.id.write(self._form, self._place, pixels)
        self._check_target()
        self._digest.update(pixels.data)
        self._written += 1

    def finish(self) -> ShardHeader:
        """Write the attributes, close the file and flush it to disk."""
        if self._written != len(self._labels):
            raise ValueError(f"{self._written} of {len(self._labels)} images were written")
        header = ShardHeader(
            self._provenance,
            self._first_index,
            self._written,
            self._digest.hexdigest(),
            hashlib.sha256(self._labels.data).hexdigest(),
        )
        attributes: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
        attributes |= header.provenance.to_json()
        attributes["antialias"] = header.provenance.antialias or 0.0
        attributes["first_index"] = header.first_index
        attributes["images_sha256"] = header.images_sha256
        attributes["labels_sha256"] = header.labels_sha256
        attributes["factors"] = json.dumps([dataclasses.asdict(factor) for factor in FACTORS])
        for name, value in attributes.items():
            # Text of fixed length: HDF5 keeps the other kind in a heap without a checksum,
            # where one flipped bit can send it into an endless loop.
            self._file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value
        self._file.close()
        self._check_target()
        flush(self._path)
        return header

    def _check_target(self) -> None:
        if self._target.error is not None:
            raise self._target.error


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, without a lock if possible; OSError if it cannot be."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        # Whoever has it open in this process too decides how it is locked.
        if "locking flag" not in str(error):
            raise
        return h5py.File(path, "r")


def open_shard(path: Path) -> h5py.File:
    """Open a shard for reading.

    Raises:
        DamagedShardError: if it is missing, cut short or no HDF5 file.
        MissingPackageError: if it is compressed with zstd and hdf5plugin is not installed.
    """
    try:
        file = open_hdf5(path)
    except DAMAGE as error:
        raise damaged(path, "cannot be opened as HDF5", error) from None
    try:
        if _attribute(file.attrs.get("compression")) == "zstd":
            compression_filter("zstd")  # importing its package registers HDF5's filter
    except MissingPackageError:
        file.close()
        raise
    except DAMAGE as error:
        file.close()
        raise damaged(path, "cannot be opened as HDF5", error) from None
    return file


def is_shard(file: h5py.File) -> bool:
    """Whether an open HDF5 file says that it is a shard of ours."""
    try:
        return bool(_attribute(file.attrs.get("format")) == FORMAT)
    except DAMAGE:
        return False


def _attribute(value: Any) -> Any:
    """Return an attribute as a plain Python value."""
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def damaged(path: Path, what: str, error: Exception | None = None) -> DamagedShardError:
    """Return the error that says what is wrong with a shard and how to mend it."""
    detail = f" ({one_line(error)})" if error else ""
    return DamagedShardError(
        f"{path}: {what}{detail}; run `shapeshd render` on this dataset again to make it anew"
    )


def read_header(path: Path) -> ShardHeader:
    """Read a shard's attributes and check the form of its two arrays, not their content.

    Raises:
        DamagedShardError: if the file is no whole shard of this format.
    """
    with open_shard(path) as file:
        return header_of(file, path)


def header_of(file: h5py.File, path: Path) -> ShardHeader:
    """Read the header of an open shard; see `read_header`."""
    try:
        attributes = {name: _attribute(value) for name, value in file.attrs.items()}
        found = attributes["format"], attributes["format_version"]
        if found != (FORMAT, FORMAT_VERSION):
            raise UsageError(
                f"{path}: is of format {found[0]!r}, version {found[1]!r}, which this version of "
                f"shapeshd (format {FORMAT!r}, version {FORMAT_VERSION}) cannot read or replace"
            )
        attributes["antialias"] = attributes["antialias"] or None
        provenance = Provenance(**attributes)
        images, labels = file["images"], file["labels"]
        size, count = provenance.size, int(labels.shape[0])
        form = (images.shape, images.dtype, labels.shape, labels.dtype)
        header = ShardHeader(**{**attributes, "provenance": provenance, "count": count})
    except UsageError:
        raise
    except ValidationError as error:
        what = f"is no whole shard of 3DShapesHD ({first_problem(error)})"
        raise damaged(path, what) from None
    except DAMAGE as error:
        raise damaged(path, "is no whole shard of 3DShapesHD", error) from None
    if form != ((count, size, size, 3), np.dtype("u1"), (count, len(FACTORS)), np.dtype("<f8")):
        raise damaged(path, f"holds arrays of another form: {form}")
    return header


def iterate_images(file: h5py.File, path: Path) -> Iterator[Image]:
    """Yield the images of an open shard in blocks of a bounded size: uint8 (b, H, W, 3).

    Raises:
        DamagedShardError: if a chunk cannot be read or fails its checksum.
    """
    images = file["images"]
    stop = images.shape[0]
    step = max(1, _READ_BYTES // int(np.prod(images.shape[1:])))
    for start in range(0, stop, step):
        try:
            yield images[start : min(stop, start + step)]
        except DAMAGE as error:
            raise damaged(path, f"images {start} and on cannot be read", error) from None


def read_labels(file: h5py.File, path: Path) -> FloatArray:
    """Read all labels of an open shard: float64 (n, 6)."""
    try:
        labels: FloatArray = file["labels"][()]
    except DAMAGE as error:
        raise damaged(path, "its labels cannot be read", error) from None
    return labels


def check_shard(path: Path) -> tuple[ShardHeader, FloatArray]:
    """Read a whole shard and compare it with its digests.

    Returns:
        Its header and its labels, float64 (n, 6).

    Raises:
        DamagedShardError: naming what is wrong.
    """
    with open_shard(path) as file:
        header = header_of(file, path)
        labels = read_labels(file, path)
        if hashlib.sha256(labels.data).hexdigest() != header.labels_sha256:
            raise damaged(path, "its labels differ from their digest")
        digest = hashlib.sha256()
        for block in iterate_images(file, path):
            digest.update(block.data)
    if digest.hexdigest() != header.images_sha256:
        raise damaged(path, "its images differ from their digest")
    return header, labels
