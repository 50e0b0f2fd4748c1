"""The writers of the formats: each writes samples in the form that another program reads."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import PIL.Image

from shapeshd.dataset.safe_file import SafeFile
from shapeshd.errors import MissingPackageError
from shapeshd.factors import NAMES, SHAPE

from .card import parquet_features
from .samples import Sample, Task, block_name, groups, metadata_lines, table_lines, typed

TABLE_NAME = "labels.csv"
METADATA_NAME = "metadata.csv"
_ROW_GROUP = 100
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold


def write_folder(out: Path, samples: Iterable[Sample], task: Task) -> None:
    """Write PNG files in subfolders of 1000, ``labels.csv``, and the same as ``metadata.csv``."""
    out.mkdir()
    for sample in samples:
        path = out / sample.block_name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(sample.png)
    for name, lines in ((TABLE_NAME, table_lines(task)), (METADATA_NAME, metadata_lines(task))):
        with (out / name).open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)


def write_h5(out: Path, samples: Iterable[Sample], task: Task) -> None:
    """Write one HDF5 file with ``images`` and ``labels``, named and shaped as in 3dshapes.h5."""
    channels, height, width = task.dataset.image_shape
    shape = (height, width, channels)
    target = SafeFile(out)
    file = h5py.File(target, "w", libver=("v110", "v110"))
    try:
        images = file.create_dataset(
            "images", (len(task), *shape), "u1", chunks=(1, *shape), compression="gzip"
        )
        labels = file.create_dataset("labels", (len(task), len(NAMES)), "<f8")
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
            for line in table_lines(task):
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
    for number, (index, row) in enumerate(task.rows()):
        label = int(row[SHAPE]) if task.labels == "shape" else row
        yield (", " if number else "") + json.dumps([block_name(index), label])
    yield "]}\n"


def write_webdataset(out: Path, samples: Iterable[Sample], task: Task) -> None:
    """Write tar files of ``00000000.png`` and ``00000000.json``, the factors by name."""
    out.mkdir(exist_ok=True)
    for number, group in enumerate(groups(samples, task.per_file)):
        path = out / f"{task.split or 'shapeshd'}-{number:06d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for sample in group:
                factors = dict(zip(NAMES, sample.factors.tolist(), strict=True))
                for suffix, data in (("png", sample.png), ("json", json.dumps(factors).encode())):
                    entry = tarfile.TarInfo(f"{sample.index:08d}.{suffix}")  # mtime 0, owner 0
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))


def write_parquet(out: Path, samples: Iterable[Sample], task: Task) -> None:
    """Write Parquet files of the images and the six factors, as on the Hugging Face Hub.

    They lie in ``data``, where a reader of a folder of Parquet files finds nothing else. The
    schema's metadata makes ``datasets.load_dataset`` decode the column ``image`` and name the
    shapes.
    """
    pyarrow, parquet = import_pyarrow()
    image_type = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    columns = {"image": image_type} | {name: pyarrow.float64() for name in NAMES}
    columns[NAMES[SHAPE]] = pyarrow.int64()
    metadata = {"huggingface": json.dumps({"info": {"features": parquet_features()}})}
    schema = pyarrow.schema(columns, metadata=metadata)
    folder = out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    files = -(-len(task) // task.per_file)
    for number, group in enumerate(groups(samples, task.per_file)):
        path = folder / f"{task.split or 'train'}-{number:05d}-of-{files:05d}.parquet"
        # PNG does not compress again, and statistics of its bytes say nothing. The file is opened
        # here, because pyarrow takes no path that is not UTF-8.
        with (
            path.open("wb") as file,
            parquet.ParquetWriter(
                file, schema, compression="none", use_dictionary=False, write_statistics=list(NAMES)
            ) as writer,
        ):
            for rows in groups(group, _ROW_GROUP):
                writer.write_table(pyarrow.Table.from_pylist(list(map(_row, rows)), schema))


def _row(sample: Sample) -> dict[str, Any]:
    image = {"bytes": sample.png, "path": f"{sample.index:08d}.png"}
    return {"image": image, **typed(sample.factors.tolist())}


def import_pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and pyarrow.parquet, or raise `MissingPackageError`."""
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
