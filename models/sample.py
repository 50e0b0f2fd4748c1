"""Draws images from a generator into a picture, a folder or a zip file.

Sample i is made of the latent that `shapeshd score` makes it of: a function of the seed and i
alone. With the same batch the pixels are the same, bit for bit; with another they can differ by a
level where the network rounds otherwise.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.base import Source
from shapeshd.checks import whole_number
from shapeshd.dataset.contact_sheet import FORMATS, check_output, draw_sheet, save_sheet
from shapeshd.dataset.export.samples import block_name, encode_png
from shapeshd.errors import UsageError, named
from shapeshd.factors import MAX_IMAGE
from shapeshd.support.atomic_files import publish, refuse_existing
from shapeshd.support.distributed import core_count
from shapeshd.support.progress import progress_bar

COLUMNS = 8
_ZIP = ".zip"
_NOT_WRITTEN = (".npz", ".npy", ".h5", ".hdf5", ".tar", ".gif", ".bmp", ".tif", ".tiff")
_MOST_IN_A_SHEET = 1_000_000  # more have no room in a picture, however small
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold


@dataclass(frozen=True)
class SampleRange:
    """The samples to draw: `start` .. `start` + `count` - 1."""

    count: int = 64
    start: int = 0

    def __post_init__(self) -> None:
        whole_number(named("count"), self.count, 1, MAX_IMAGE)
        whole_number(named("start"), self.start, 0, MAX_IMAGE - self.count)


@dataclass(frozen=True)
class Samples:
    """Describes the images that were written.

    Attributes:
        out: the picture, the folder or the zip file.
        form: "sheet", "folder" or "zip".
        images: how many.
        start: number of the first sample.
        height: of an image, pixels.
        width: of an image, pixels.
    """

    out: Path
    form: str
    images: int
    start: int
    height: int
    width: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {**asdict(self), "out": str(self.out)}


def open_generator(
    text: str,
    *,
    seed: int = 0,
    trust: bool = False,
    device: str = "cpu",
    options: SourceOptions | None = None,
) -> Source:
    """Open a generator; see `open_source`.

    Args:
        text: the path of a network, or a Python entry.
        seed: of the latents.
        trust: whether code that comes with the source may run.
        device: where the network runs.
        options: what the source does not say itself.

    Raises:
        UsageError: as `open_source`; or if it is no generator.
        ShapesHDError: if it is damaged.
    """
    source = open_source(text, seed=seed, trust=trust, device=device, options=options)
    if source.count is not None:
        source.__exit__(None, None, None)
        raise UsageError(
            f"{text}: holds {source.count:,} images and is no generator; `shapeshd preview` shows "
            "a dataset"
        )
    return source


def draw_samples(
    source: Source,
    out: Path,
    choice: SampleRange,
    *,
    batch: int = 64,
    columns: int | None = None,
    progress: bool = False,
) -> Samples:
    """Draw samples of a generator, and write them whole or not at all.

    Args:
        source: the generator.
        out: a name ending in .png, .jpg or .webp makes one contact sheet, which replaces an older
            one; .zip makes a zip file, anything else a folder, and neither must exist. In both,
            sample i is a PNG file such as ``00001/img00001234.png``.
        choice: which samples.
        batch: samples to ask for at a time, which should be that of the source.
        columns: images in a row of the sheet; None for 8.
        progress: show a bar on stderr.

    Raises:
        UsageError: if an argument is impossible or `out` exists.
        ShapesHDError: if the generator fails.
        OSError: if `out` cannot be written.
    """
    form = _check(out, choice, columns)
    height, width = source.images(choice.start, choice.start + 1).shape[-2:]
    with progress_bar(choice.count, "sample", shown=progress) as bar:
        images = _draw(source, choice, whole_number(named("batch"), batch, 1), bar)
        if form == "sheet":
            places = range(choice.count)
            across = columns or COLUMNS
            rows = [[()] * len(places[at : at + across]) for at in places[::across]]
            sheet = draw_sheet((image for _, image in images), (height, width), rows)
            save_sheet(sheet, out)
        else:
            write = _write_zip if form == "zip" else _write_folder
            publish(out, lambda path: write(path, _encoded(images)))
    return Samples(out, form, choice.count, choice.start, height, width)


def _check(out: Path, choice: SampleRange, columns: int | None) -> str:
    """Return which form `out` has, or raise `UsageError` if it cannot be written."""
    suffix = out.suffix.lower()
    if columns is not None:
        whole_number(named("columns"), columns, 1)
    if suffix in FORMATS:
        check_output(out)
        if choice.count > _MOST_IN_A_SHEET:
            raise UsageError(
                f"{choice.count:,} images are too many for a picture; give a folder or a .zip"
            )
        return "sheet"
    if columns is not None:
        raise UsageError(
            f"{named('columns')} is for a contact sheet: OUT must end in .png, .jpg or .webp"
        )
    if suffix in _NOT_WRITTEN:
        raise UsageError(
            f"{out}: samples are written as a contact sheet (.png), a .zip of PNG files, or a "
            f"folder, not as {suffix}"
        )
    refuse_existing(out)
    return "zip" if suffix == _ZIP else "folder"


def _draw(
    source: Source, choice: SampleRange, batch: int, bar: tqdm[Any]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the number and the pixels, uint8 (H, W, 3), of each sample."""
    stop = choice.start + choice.count
    first = choice.start
    while first < stop:
        last = min(stop, first - first % batch + batch)  # whole batches, as the network makes them
        pixels = source.images(first, last).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        for index, image in enumerate(pixels, first):
            yield index, image
            bar.update()
        first = last


def _encoded(
    images: Iterator[tuple[int, NDArray[np.uint8]]],
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the PNG file of each image; threads encode some at a time."""
    threads = core_count()
    with ThreadPoolExecutor(threads, thread_name_prefix="png") as pool:
        waiting: list[tuple[str, NDArray[np.uint8]]] = []
        for index, image in images:
            waiting.append((block_name(index), image))
            if len(waiting) >= 8 * threads:
                yield from _encode(pool, waiting)
                waiting = []
        yield from _encode(pool, waiting)


def _encode(
    pool: ThreadPoolExecutor, images: list[tuple[str, NDArray[np.uint8]]]
) -> Iterator[tuple[str, bytes]]:
    names = [name for name, _ in images]
    return zip(names, pool.map(encode_png, [image for _, image in images]), strict=True)


def _write_folder(path: Path, files: Iterator[tuple[str, bytes]]) -> None:
    path.mkdir()
    for name, data in files:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(data)


def _write_zip(path: Path, files: Iterator[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
