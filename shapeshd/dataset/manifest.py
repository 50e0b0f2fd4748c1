"""The manifest of a dataset folder, derived from its shards, and the virtual dataset file.

A dataset is a folder::

    OUT/shards/shard-000000.h5 ...   the images; see `shapeshd.dataset.shards`
    OUT/manifest.json                what the shards hold, for quick reading
    OUT/dataset.h5                   the whole set as one images/labels (HDF5 virtual dataset)

Only the shards carry information: the other two can be made anew from them.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import h5py
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from shapeshd.errors import DamagedShardError, UsageError
from shapeshd.factors import FACTORS
from shapeshd.scene.version import scene_version
from shapeshd.support.atomic_files import replace_file
from shapeshd.support.schema import first_problem, no_flag

from .shards import (
    RECORD,
    SHARD_FOLDER,
    NotNegative,
    Provenance,
    header_of,
    is_shard,
    list_shards,
    open_hdf5,
    read_header,
)

MANIFEST_NAME = "manifest.json"
VIRTUAL_NAME = "dataset.h5"
MANIFEST_FORMAT: Final = "3DShapesHD manifest"
MANIFEST_VERSION: Final = 1


@dataclass(frozen=True, config=RECORD)
class ShardEntry:
    """One shard as the manifest lists it; `file` is relative to the dataset folder."""

    file: Annotated[str, Field(pattern=rf"^{SHARD_FOLDER}/shard-[0-9]{{6,}}\.h5$")]
    first_index: NotNegative
    count: NotNegative
    bytes: NotNegative
    images_sha256: str
    labels_sha256: str


@dataclass(frozen=True, config=RECORD)
class Manifest:
    """What a dataset folder holds.

    Args:
        provenance: what decides the images, equal for all shards.
        count: how many images were asked for.
        shards: the shards that exist, in order.
        format: of the file.
        format_version: of the file.
    """

    provenance: Provenance
    count: NotNegative
    shards: tuple[ShardEntry, ...]
    format: Literal["3DShapesHD manifest"]
    format_version: Annotated[Literal[1], BeforeValidator(no_flag)]

    @property
    def available(self) -> int:
        """How many images the shards hold."""
        return sum(shard.count for shard in self.shards)

    @property
    def complete(self) -> bool:
        """Whether the shards hold every image from 0 to `count` - 1, once."""
        return not self.gaps() and self.available == self.count

    def gaps(self) -> list[tuple[int, int]]:
        """Return the missing images as half-open intervals."""
        gaps, expected = [], 0
        for shard in sorted(self.shards, key=lambda shard: shard.first_index):
            if shard.first_index > expected:
                gaps.append((expected, shard.first_index))
            expected = max(expected, shard.first_index + shard.count)
        if expected < self.count:
            gaps.append((expected, self.count))
        return gaps

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        return {
            "format": self.format,
            "format_version": self.format_version,
            "complete": self.complete,
            "available": self.available,
            "scene_version": scene_version(self.provenance.scene_sha256),
            "provenance": self.provenance.to_json(),
            "count": self.count,
            "shards": [dataclasses.asdict(shard) for shard in self.shards],
        }

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a file that holds what `to_json` gives.

        Raises:
            UsageError: in one line that names the field that is wrong.
            OSError: if the file cannot be read.
        """
        try:
            return _manifest_schema().validate_json(path.read_bytes())
        except ValidationError as error:
            raise UsageError(
                f"{path}: not a manifest of 3DShapesHD ({first_problem(error)})"
            ) from None


@cache
def _manifest_schema() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def scan_shards(dataset: Path, count: int | None = None) -> Manifest:
    """Derive the manifest of the folder `dataset` from its shards' headers.

    Args:
        dataset: the dataset folder.
        count: how many images were asked for; by default up to the last one that exists.

    Raises:
        UsageError: if there are no shards, or shards of different datasets.
        DamagedShardError: if a header cannot be read.
    """
    entries: list[ShardEntry] = []
    provenance: Provenance | None = None
    for path in list_shards(dataset):
        header = read_header(path)
        if provenance is not None and header.provenance != provenance:
            what = "; ".join(header.provenance.differences(provenance))
            raise UsageError(
                f"{path}: belongs to another dataset than the shards before it: {what}"
            )
        provenance = header.provenance
        entries.append(
            ShardEntry(
                file=f"{SHARD_FOLDER}/{path.name}",
                first_index=header.first_index,
                count=header.count,
                bytes=path.stat().st_size,
                images_sha256=header.images_sha256,
                labels_sha256=header.labels_sha256,
            )
        )
    if provenance is None:
        raise UsageError(f"{dataset}: holds no shards of 3DShapesHD")
    if count is None:
        count = max(entry.first_index + entry.count for entry in entries)
    return Manifest(provenance, count, tuple(entries), MANIFEST_FORMAT, MANIFEST_VERSION)


def load_manifest(dataset: Path) -> Manifest:
    """Read the manifest of the folder `dataset`; without one, derive it from the shards.

    Raises:
        UsageError: if `dataset` is no dataset folder.
        DamagedShardError: if a shard that the manifest lists is missing or cannot be read.
    """
    if not dataset.is_dir():
        raise UsageError(f"{dataset}: {'not a folder' if dataset.exists() else 'no such folder'}")
    path = dataset / MANIFEST_NAME
    if not path.exists():
        return scan_shards(dataset)
    try:
        manifest = Manifest.read(path)
    except UsageError as error:
        raise UsageError(f"{error}; delete it, and it is derived from the shards again") from None
    for shard in manifest.shards:
        file = dataset / shard.file
        if not file.is_file():
            raise DamagedShardError(f"{file}: is missing; run `shapeshd render` again")
        if file.stat().st_size != shard.bytes:
            return _rescan(dataset, manifest)  # extended, or damaged: its own header tells
    if {dataset / shard.file for shard in manifest.shards} != set(list_shards(dataset)):
        return _rescan(dataset, manifest)  # a run was killed before it could write the manifest
    return manifest


def provenance_of(path: Path) -> Provenance | None:
    """Return how the images of a dataset's folder, index file or shard were made, if known.

    Raises:
        UsageError: if `path` is a folder, and no dataset.
        DamagedShardError: if it is damaged.
    """
    if path.is_dir():
        return load_manifest(path).provenance
    with open_hdf5(path) as file:
        if is_shard(file):
            return header_of(file, path).provenance
        indexed = path.name == VIRTUAL_NAME and file["images"].is_virtual
    return load_manifest(path.parent).provenance if indexed and list_shards(path.parent) else None


def manifest_of_available_shards(path: Path) -> Manifest:
    """Load the manifest of the folder `path`, or derive it where shards are gone or changed.

    Raises:
        UsageError: if `path` is no dataset folder.
        DamagedShardError: if a shard that is there has no readable header.
    """
    try:
        return load_manifest(path)
    except DamagedShardError:
        text = path / MANIFEST_NAME
        if not text.exists():
            raise
        return scan_shards(path, Manifest.read(text).count)


def _rescan(dataset: Path, old: Manifest) -> Manifest:
    found = scan_shards(dataset)
    return dataclasses.replace(found, count=max(found.count, old.count))


def write_manifest(dataset: Path, count: int) -> Manifest:
    """Derive and write ``manifest.json`` and, of a complete set, ``dataset.h5``.

    Several runs (a job array) can end at once; each lists the shards again after writing,
    so that the last file written is never the older list.
    """
    while True:
        listed = _signature(dataset)
        manifest = scan_shards(dataset, count)
        if not manifest.complete:  # HDF5 reads a missing part as black images
            (dataset / VIRTUAL_NAME).unlink(missing_ok=True)
        text = json.dumps(manifest.to_json(), indent=1) + "\n"
        replace_file(dataset / MANIFEST_NAME, partial(Path.write_text, data=text))
        if manifest.complete:
            replace_file(dataset / VIRTUAL_NAME, partial(_write_virtual, manifest=manifest))
        if _signature(dataset) == listed:
            return manifest


def _signature(dataset: Path) -> list[tuple[Path, int, int]]:
    """Return what changes when a shard appears or is replaced."""
    states = [(path, path.stat()) for path in list_shards(dataset)]
    return [(path, state.st_size, state.st_mtime_ns) for path, state in states]


def _write_virtual(path: Path, manifest: Manifest) -> None:
    size = manifest.provenance.size
    images = h5py.VirtualLayout(shape=(manifest.count, size, size, 3), dtype="u1")
    labels = h5py.VirtualLayout(shape=(manifest.count, len(FACTORS)), dtype="<f8")
    for shard in manifest.shards:
        place = slice(shard.first_index, shard.first_index + shard.count)
        shape = (shard.count, size, size, 3)
        images[place] = h5py.VirtualSource(shard.file, "images", shape=shape, dtype="u1")
        labels[place] = h5py.VirtualSource(
            shard.file, "labels", shape=(shard.count, 6), dtype="<f8"
        )
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.create_virtual_dataset("images", images)
        file.create_virtual_dataset("labels", labels)


def is_dataset_folder(path: Path) -> bool:
    """Tell whether a folder is a dataset of ours, be it incomplete, and not one of images."""
    manifest = path / MANIFEST_NAME
    ours = manifest.is_file() and MANIFEST_FORMAT.encode() in manifest.read_bytes()[:200]
    return ours or bool(list_shards(path))
