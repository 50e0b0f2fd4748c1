"""Writes a dataset in the form that another trainer reads, image after image.

The pixels are those of the dataset, bit for bit, as PNG; equal datasets give equal bytes.
An export appears under its own name only when it is complete.
"""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import PIL.Image

from shapeshd.errors import MissingPackageError, UsageError
from shapeshd.factors import NAMES, SHAPE, FloatArray
from shapeshd.scene.render_options import Image
from shapeshd.support.atomic_files import publish, refuse_existing
from shapeshd.support.distributed import core_count
from shapeshd.support.progress import progress_bar

from .format_names import FORMATS, LABELS
from .safe_file import SafeFile
from .shapes_hd import ShapesHD

TABLE_NAME = "labels.csv"
METADATA_NAME = "metadata.csv"
_PNG_LEVEL = 4
_BLOCK = 1000
_ROW_GROUP = 100
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold


@dataclass(frozen=True)
class Sample:
    """One image to be exported: its index, its PNG file and its factors, float64 (6,)."""

    index: int
    png: bytes
    factors: FloatArray

    @property
    def block_name(self) -> str:
        """The name in StyleGAN's style, such as ``00001/img00001234.png``."""
        return block_name(self.index)


@dataclass(frozen=True)
class Task:
    """The dataset and the options of an export, for its writer."""

    dataset: ShapesHD
    per_file: int
    labels: str


@dataclass(frozen=True)
class ExportResult:
    """What was written: where, how many images, files and bytes, and how long it took."""

    path: Path
    format: str
    images: int
    files: int
    bytes: int
    seconds: float


def export_dataset(
    dataset: ShapesHD,
    out: Path,
    format: str,
    *,
    per_file: int = 10_000,
    labels: str = "none",
    jobs: int | None = None,
    progress: bool = False,
) -> ExportResult:
    """Write `dataset` to `out` in another format; memory does not grow with the dataset.

    Args:
        dataset: the images, without a transform.
        out: the folder to make, or the zip file; it must not exist.
        format: a key of `FORMATS`.
        per_file: images in each file of ``webdataset`` and ``parquet``.
        labels: what StyleGAN conditions on (``dataset.json``): ``none``, the ``shape``'s
            index, or the six ``factors``. The factors are always written beside it.
        jobs: threads that read and encode; by default one a core.
        progress: show a progress bar on stderr.

    Raises:
        UsageError: if an argument is wrong or `out` exists.
        MissingPackageError: if ``parquet`` lacks pyarrow.
        DamagedShardError: if an image cannot be read.
    """
    began = time.monotonic()
    _check(out, format, per_file, labels, jobs)
    total = len(dataset)
    task = Task(dataset, per_file, labels)
    with progress_bar(total, "export") if progress else nullcontext() as bar:
        samples = _encoded(dataset, jobs or core_count())
        if bar is not None:
            samples = _counted(samples, bar.update)
        publish(out, lambda path: WRITERS[format](path, samples, task))
    written = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
    size = sum(path.stat().st_size for path in written)
    return ExportResult(out, format, total, len(written), size, time.monotonic() - began)


def encode_png(image: Image) -> bytes:
    """Return the PNG file of an image, uint8 (H, W, 3)."""
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG", compress_level=_PNG_LEVEL)
    return file.getvalue()


def block_name(index: int) -> str:
    """Return an image's path, such as ``00001/img00001234.png``; sorting keeps the order."""
    return f"{index // _BLOCK:05d}/img{index:08d}.png"


def table_lines(dataset: ShapesHD) -> Iterator[str]:
    """Yield the lines of ``labels.csv``: index, file and the six factors, digit for digit."""
    yield f"index,file,{','.join(NAMES)}\n"
    for index, row in _rows(dataset):
        yield f"{index},{block_name(index)},{','.join(map(repr, row))}\n"


def _rows(dataset: ShapesHD) -> Iterator[tuple[int, list[float]]]:
    """Yield the index and the factors of each image, without those of all in memory."""
    indices = chain.from_iterable(dataset.spans)
    for items in _blocks(len(dataset), _BLOCK):
        rows = dataset.labels_of(items).tolist()
        yield from zip(islice(indices, len(rows)), rows, strict=True)


def _blocks(count: int, size: int) -> Iterator[range]:
    """Cut the numbers below `count` into intervals of `size`."""
    return (range(first, min(first + size, count)) for first in range(0, count, size))


def write_folder(out: Path, samples: Iterable[Sample], task: Task) -> None:
    """Write PNG files in subfolders of 1000, ``labels.csv``, and the same as ``metadata.csv``.

    The latter is what ``datasets.load_dataset("imagefolder", ...)`` takes labels from.
    """
    out.mkdir()
    for sample in samples:
        path = out / sample.block_name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(sample.png)
    with (out / TABLE_NAME).open("w", encoding="utf-8", newline="") as file:
        file.writelines(table_lines(task.dataset))
    with (out / METADATA_NAME).open("w", encoding="utf-8", newline="") as file:
        file.write(f"file_name,{','.join(NAMES)}\n")
        for index, row in _rows(task.dataset):
            file.write(f"{block_name(index)},{','.join(map(repr, row))}\n")


def write_h5(out: Path, samples: Iterable[Sample], task: Task) -> None:
    """Write one HDF5 file with ``images`` and ``labels``, named and shaped as in 3dshapes.h5."""
    channels, height, width = task.dataset.image_shape
    shape = (height, width, channels)
    target = SafeFile(out)
    file = h5py.File(target, "w", libver=("v110", "v110"))
    try:
        images = file.create_dataset(
            "images", (len(task.dataset), *shape), "u1", chunks=(1, *shape), compression="gzip"
        )
        labels = file.create_dataset("labels", (len(task.dataset), len(NAMES)), "<f8")
        for row, sample in enumerate(samples):
            with PIL.Image.open(io.BytesIO(sample.png)) as image:
                images[row] = np.asarray(image)
            labels[row] = sample.factors
            if target.error is not None:
                raise target.error
    finally:
        file.close()
        target.close()
    if target.error is not None:
        raise target.error


def write_stylegan_zip(out: Path, samples: Iterable[Sample], task: Task) -> None:
    """Write the zip file that the NVlabs trainers read: PNG files and ``dataset.json``.

    They read the images sorted by name and ignore what is no image, such as ``labels.csv``.
    """
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for sample in samples:
            archive.writestr(_zip_entry(sample.block_name), sample.png)
        with archive.open(_zip_entry(TABLE_NAME), "w", force_zip64=True) as file:
            for line in table_lines(task.dataset):
                file.write(line.encode())
        with archive.open(_zip_entry("dataset.json"), "w", force_zip64=True) as file:
            for text in _stylegan_labels(task):
                file.write(text.encode())


def _zip_entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    return entry


def _stylegan_labels(task: Task) -> Iterator[str]:
    if task.labels == "none":
        yield '{"labels": null}\n'
        return
    yield '{"labels": ['
    for number, (index, row) in enumerate(_rows(task.dataset)):
        label = int(row[SHAPE]) if task.labels == "shape" else row
        yield (", " if number else "") + json.dumps([block_name(index), label])
    yield "]}\n"


def write_webdataset(out: Path, samples: Iterable[Sample], task: Task) -> None:
    """Write tar files of ``00000000.png`` and ``00000000.json``, the factors by name."""
    out.mkdir()
    for number, group in enumerate(_groups(samples, task.per_file)):
        path = out / f"shapeshd-{number:06d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for sample in group:
                factors = dict(zip(NAMES, sample.factors.tolist(), strict=True))
                for suffix, data in (("png", sample.png), ("json", json.dumps(factors).encode())):
                    entry = tarfile.TarInfo(f"{sample.index:08d}.{suffix}")  # mtime 0, owner 0
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))


def write_parquet(out: Path, samples: Iterable[Sample], task: Task) -> None:
    """Write Parquet files of the images and the six factors, as Hugging Face datasets does.

    The schema's metadata makes ``datasets.load_dataset`` decode the column ``image``.
    """
    pyarrow, parquet = _import_pyarrow()
    image_type = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    columns = {"image": image_type} | {name: pyarrow.float64() for name in NAMES}
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features |= {name: {"dtype": "float64", "_type": "Value"} for name in NAMES}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pyarrow.schema(columns, metadata=metadata)
    out.mkdir()
    files = -(-len(task.dataset) // task.per_file)
    for number, group in enumerate(_groups(samples, task.per_file)):
        path = out / f"train-{number:05d}-of-{files:05d}.parquet"
        # PNG does not compress again, and statistics of its bytes say nothing.
        with parquet.ParquetWriter(
            path, schema, compression="none", use_dictionary=False, write_statistics=list(NAMES)
        ) as writer:
            for rows in _groups(group, _ROW_GROUP):
                writer.write_table(pyarrow.Table.from_pylist(list(map(_row, rows)), schema))


def _row(sample: Sample) -> dict[str, Any]:
    image = {"bytes": sample.png, "path": f"{sample.index:08d}.png"}
    return {"image": image, **dict(zip(NAMES, sample.factors.tolist(), strict=True))}


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingPackageError.of("pyarrow", "parquet", "exporting Parquet files") from None
    return pyarrow, pyarrow.parquet


WRITERS: dict[str, Callable[[Path, Iterable[Sample], Task], None]] = {
    "folder": write_folder,
    "stylegan-zip": write_stylegan_zip,
    "webdataset": write_webdataset,
    "parquet": write_parquet,
    "h5": write_h5,
}


def _check(out: Path, format: str, per_file: int, labels: str, jobs: int | None) -> None:
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}: choose {', '.join(FORMATS)}")
    if labels not in LABELS:
        raise UsageError(f"unknown labels {labels!r}: choose {', '.join(LABELS)}")
    if labels != "none" and format != "stylegan-zip":
        raise UsageError(f"labels are chosen for stylegan-zip only: {format} has all six factors")
    if per_file < 1:
        raise UsageError(f"a file must hold at least one image, not {per_file}")
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs must be at least 1, not {jobs}")
    if format == "stylegan-zip" and out.suffix.lower() != ".zip":
        raise UsageError(f"{out}: the name must end in .zip, or StyleGAN does not open it")
    if format == "h5" and out.suffix.lower() not in (".h5", ".hdf5"):
        raise UsageError(f"{out}: the name must end in .h5, as that of an HDF5 file")
    if format == "parquet":
        _import_pyarrow()
    refuse_existing(out)


def _encoded(dataset: ShapesHD, jobs: int) -> Iterator[Sample]:
    """Yield the samples in order; `jobs` threads read and encode a few blocks ahead."""

    ended = threading.Event()

    def encode(items: range, indices: list[int]) -> list[Sample]:
        if ended.is_set():
            return []
        images, labels = dataset.read(items)
        return [
            Sample(index, encode_png(image), factors)
            for index, image, factors in zip(indices, images, labels, strict=True)
        ]

    ahead = jobs * max(2, 8 // dataset.block)
    indices = chain.from_iterable(dataset.spans)
    waiting: deque[Future[list[Sample]]] = deque()
    with ThreadPoolExecutor(jobs, thread_name_prefix="export") as pool:
        try:
            for items in _blocks(len(dataset), dataset.block):
                waiting.append(pool.submit(encode, items, list(islice(indices, len(items)))))
                if len(waiting) >= ahead:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            ended.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _counted(samples: Iterable[Sample], update: Callable[[int], Any]) -> Iterator[Sample]:
    for sample in samples:
        yield sample
        update(1)


def _groups(samples: Iterable[Sample], size: int) -> Iterator[Iterator[Sample]]:
    """Cut the samples into groups; each must be used up before the next is taken."""
    remaining = iter(samples)
    for first in remaining:
        yield _chain(first, islice(remaining, size - 1))


def _chain(first: Sample, rest: Iterator[Sample]) -> Iterator[Sample]:
    yield first
    yield from rest
