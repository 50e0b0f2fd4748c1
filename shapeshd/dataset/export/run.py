"""Writes a dataset in the form that another trainer reads, image after image.

The pixels are those of the dataset, bit for bit, as PNG; equal datasets give equal bytes.
An export appears under its own name only when it is complete.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.errors import UsageError
from shapeshd.support.atomic_files import publish, refuse_existing
from shapeshd.support.distributed import core_count
from shapeshd.support.progress import progress_bar

from .card import write_card
from .format_names import FORMATS, LABELS, SHARE_A_FOLDER, SUFFIXES
from .samples import Sample, Task, blocks, encode_png, indices_of
from .splits import check_splits, cut
from .writers import WRITERS, import_pyarrow


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
    out: str | os.PathLike[str],
    format: str,
    *,
    per_file: int = 10_000,
    labels: str = "none",
    splits: Mapping[str, float | str | Fraction] | None = None,
    jobs: int | None = None,
    progress: bool = False,
) -> ExportResult:
    """Write `dataset` to `out` in another format; memory does not grow with the dataset.

    Args:
        dataset: the images, without a transform.
        out: the folder to make, or the zip or HDF5 file; it must not exist. With splits it is
            always a folder, which then holds a folder or file for each.
        format: a key of `FORMATS`.
        per_file: images in each file of ``webdataset`` and ``parquet``.
        labels: what StyleGAN conditions on (``dataset.json``): ``none``, the ``shape``'s
            index, or the six ``factors``. The factors are always written beside it.
        splits: the share of each split by its name, such as ``{"train": 0.9, "test": 0.1}``; the
            first has the first images. None for no splits.
        jobs: threads that read and encode; by default one a core.
        progress: show a progress bar on stderr.

    Raises:
        UsageError: if an argument is wrong, a split would be empty, the images to be split are
            sorted by a factor, or `out` exists.
        MissingPackageError: if ``parquet`` lacks pyarrow.
        DamagedShardError: if an image cannot be read.
    """
    began, out = time.monotonic(), Path(out)
    shares = None if splits is None else check_splits(splits)
    _check(out, format, per_file, labels, jobs, split=shares is not None)
    parts = {"": range(len(dataset))} if shares is None else cut(dataset, shares)
    tasks = [Task(dataset, items, name, per_file, labels) for name, items in parts.items()]
    with progress_bar(len(dataset), "export", shown=progress) as bar:

        def write(path: Path) -> None:
            if shares is not None:
                path.mkdir()
            for task in tasks:
                samples = _counted(_encoded(task, jobs or core_count()), bar.update)
                WRITERS[format](_place(path, format, task.split), samples, task)
            if path.is_dir():
                write_card(path, format, tasks)

        publish(out, write)
    written = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
    size = sum(path.stat().st_size for path in written)
    seconds = time.monotonic() - began
    return ExportResult(out, format, len(dataset), len(written), size, seconds)


def _place(out: Path, format: str, split: str) -> Path:
    """Return where a split's writer writes, or that of the whole dataset."""
    if not split or format in SHARE_A_FOLDER:
        return out
    return out / f"{split}{SUFFIXES.get(format, '')}"


def _check(
    out: Path, format: str, per_file: int, labels: str, jobs: int | None, *, split: bool
) -> None:
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
    if format == "stylegan-zip" and not split and out.suffix.lower() != ".zip":
        raise UsageError(f"{out}: the name must end in .zip, or StyleGAN does not open it")
    if format == "h5" and not split and out.suffix.lower() not in (".h5", ".hdf5"):
        raise UsageError(f"{out}: the name must end in .h5, as that of an HDF5 file")
    if format == "parquet":
        import_pyarrow()
    refuse_existing(out)


def _encoded(task: Task, jobs: int) -> Iterator[Sample]:
    """Yield the samples in order; `jobs` threads read and encode a few blocks ahead."""
    dataset, ended = task.dataset, threading.Event()

    def encode(items: range, indices: list[int]) -> list[Sample]:
        if ended.is_set():
            return []
        images, labels = dataset.read(items)
        return [
            Sample(index, encode_png(image), factors)
            for index, image, factors in zip(indices, images, labels, strict=True)
        ]

    ahead = jobs * max(2, 8 // dataset.block)
    indices = indices_of(dataset, task.items)
    waiting: deque[Future[list[Sample]]] = deque()
    with ThreadPoolExecutor(jobs, thread_name_prefix="export") as pool:
        try:
            for items in blocks(task.items, dataset.block):
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
