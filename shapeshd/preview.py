"""Contact sheets: of a dataset, of a table of factors, and of a sweep through each factor."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from . import povray
from .contact_sheet import check_output, draw_sheet, save_sheet
from .errors import UsageError
from .factors import FACTORS, SHAPES, Factor, FloatArray, IntArray, check_seed
from .info import manifest_of_what_is_there, open_image_file
from .manifest import ShardEntry
from .povray import Image, RenderOptions
from .progress import progress_bar
from .sampling import read_factor_table
from .shards import damaged, open_shard

SWEEP_DEFAULTS = (0.12, 0.55, 0.0, 1.5, 0.0, 15.0)
"""The factors that a sweep holds fixed: colours apart, and an object that shows its angle."""

_FOOT = ("below each image: its number, shape, scale and orientation; hues of floor, wall, object",)


@dataclass(frozen=True)
class Choice:
    """Which images to show.

    Args:
        count: how many at most, >= 1.
        start: the first index, >= 0.
        seed: draws `count` random ones from `start` on instead of the first ones.
    """

    count: int = 64
    start: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.count < 1 or self.start < 0:
            raise UsageError("--count must be at least 1, and --start not negative")
        if self.seed is not None:
            check_seed(self.seed)

    def pick(self, available: IntArray) -> IntArray:
        """Pick from ascending indices; the result is ascending too."""
        beyond = available[np.searchsorted(available, self.start) :]
        if not len(beyond):
            last = f"the last is {available[-1]}" if len(available) else "there are none"
            raise UsageError(f"no image has the index {self.start} or more: {last}")
        if self.seed is None:
            return beyond[: self.count]
        drawn = np.random.default_rng(self.seed).choice(
            beyond, min(self.count, len(beyond)), replace=False
        )
        return np.sort(drawn)


@dataclass(frozen=True)
class Layout:
    """How to draw: images in a row, pixels of the longer side (None: as is), and captions."""

    columns: int = 8
    thumbnail: int | None = None
    labels: bool = False

    def __post_init__(self) -> None:
        if self.columns < 1 or (self.thumbnail is not None and self.thumbnail < 1):
            raise UsageError("--columns and --thumbnail must be at least 1")


@dataclass(frozen=True)
class Preview:
    """The picture that was written: file, images in it, how many there were, and its pixels."""

    out: Path
    indices: tuple[int, ...]
    available: int
    width: int
    height: int

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return {**vars(self), "out": str(self.out), "indices": list(self.indices)}


def preview_dataset(dataset: Path, out: Path, choice: Choice, layout: Layout) -> Preview:
    """Draw images of `dataset`, a folder or a file in the form of 3dshapes.h5.

    Raises:
        UsageError: if `dataset` is neither, or an argument is impossible.
        DamagedShardError: if an image cannot be read.
    """
    check_output(out)
    if not dataset.is_dir():
        with open_image_file(dataset) as file:
            count, *shape = file["images"].shape[:3]
            chosen = choice.pick(np.arange(count))
            reader = _FileReader(dataset, file)
            return _contact_sheet(out, reader, chosen, count, (shape[0], shape[1]), layout)
    manifest = manifest_of_what_is_there(dataset)
    size = manifest.provenance.size
    spans = [np.arange(s.first_index, s.first_index + s.count) for s in manifest.shards]
    available = np.unique(np.concatenate(spans))
    chosen = choice.pick(available)
    folder_reader = _FolderReader(dataset, manifest.shards)
    return _contact_sheet(out, folder_reader, chosen, len(available), (size, size), layout)


def preview_table(table: Path, out: Path, choice: Choice, layout: Layout, size: int) -> Preview:
    """Render rows of a CSV table of factors with POV-Ray and draw them.

    Raises:
        UsageError: if the table or an argument is wrong.
        RendererError: if POV-Ray is missing or fails.
    """
    check_output(out)
    factors = read_factor_table(table)
    chosen = choice.pick(np.arange(len(factors)))
    captions = _captions(chosen, factors[chosen], layout)
    sheet = draw_sheet(
        _render(factors[chosen], size),
        (size, size),
        _in_rows(captions, layout.columns),
        foot=_FOOT if layout.labels else (),
        thumbnail=layout.thumbnail,
    )
    return _write(sheet, out, chosen, len(factors))


def preview_sweep(out: Path, layout: Layout, size: int) -> Preview:
    """Render a row for each factor, from end to end, the others held at `SWEEP_DEFAULTS`.

    Raises:
        UsageError: if an argument is impossible.
        RendererError: if POV-Ray is missing or fails.
    """
    check_output(out)
    rows = sweep_factors(layout.columns)
    factors = np.concatenate(rows)
    captions = [
        [(_value(FACTORS[column], row[column]),) for row in factors_of_row]
        for column, factors_of_row in enumerate(rows)
    ]
    heads = [
        (factor.name,) if factor.topology == "discrete" else (factor.name, f"({factor.unit})")
        for factor in FACTORS
    ]
    sheet = draw_sheet(
        _render(factors, size), (size, size), captions, heads=heads, thumbnail=layout.thumbnail
    )
    return _write(sheet, out, np.arange(len(factors)), len(factors))


def sweep_factors(steps: int) -> list[FloatArray]:
    """Return a row of factors for each factor: float64 (steps, 6), six of them.

    A hue stops one step short of a full turn, which would be the first colour again; the
    shape takes each of its values once, however many steps there are.
    """
    rows = []
    for column, factor in enumerate(FACTORS):
        count = factor.bins if factor.topology == "discrete" else steps
        row = np.tile(np.array(SWEEP_DEFAULTS), (count, 1))
        row[:, column] = np.linspace(
            factor.low, factor.high, count, endpoint=factor.topology != "circle"
        )
        rows.append(row)
    return rows


class _FileReader:
    """Images and labels of one HDF5 file."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path, self._file = path, file

    def labels(self, indices: IntArray) -> FloatArray:
        return np.stack([self._read("labels", index) for index in indices]).astype(np.float64)

    def images(self, indices: IntArray) -> Iterator[Image]:
        for index in indices:
            yield self._read("images", index)

    def _read(self, name: str, index: int) -> npt.NDArray[Any]:
        try:
            row: npt.NDArray[Any] = self._file[name][index]
        except (OSError, RuntimeError) as error:
            raise damaged(self._path, f"image {index} cannot be read", error) from None
        return row


class _FolderReader:
    """Images and labels of a dataset folder; ascending indices open each shard once."""

    def __init__(self, dataset: Path, shards: Sequence[ShardEntry]) -> None:
        self._dataset = dataset
        self._shards = shards

    def labels(self, indices: IntArray) -> FloatArray:
        return np.stack(list(self._rows("labels", indices)))

    def images(self, indices: IntArray) -> Iterator[Image]:
        return self._rows("images", indices)

    def _rows(self, name: str, indices: IntArray) -> Iterator[npt.NDArray[Any]]:
        for shard in self._shards:
            first, stop = np.searchsorted(
                indices, [shard.first_index, shard.first_index + shard.count]
            )
            if first == stop:
                continue
            path = self._dataset / shard.file
            with open_shard(path) as file:
                reader = _FileReader(path, file)
                for index in indices[first:stop]:
                    yield reader._read(name, int(index) - shard.first_index)


def _contact_sheet(
    out: Path,
    reader: _FileReader | _FolderReader,
    chosen: IntArray,
    available: int,
    shape: tuple[int, int],
    layout: Layout,
) -> Preview:
    captions = _captions(chosen, reader.labels(chosen) if layout.labels else None, layout)
    sheet = draw_sheet(
        reader.images(chosen),
        shape,
        _in_rows(captions, layout.columns),
        foot=_FOOT if layout.labels else (),
        thumbnail=layout.thumbnail,
    )
    return _write(sheet, out, chosen, available)


def _write(sheet: PILImage.Image, out: Path, indices: IntArray, available: int) -> Preview:
    save_sheet(sheet, out)
    return Preview(out, tuple(int(index) for index in indices), available, *sheet.size)


def _render(factors: FloatArray, size: int) -> Iterator[Image]:
    """Render factors with a progress bar: uint8 (size, size, 3) each."""
    options = RenderOptions(size)
    processes = povray.processes_per_core(size) * povray.core_count()
    with (
        tempfile.TemporaryDirectory(prefix="shapeshd-") as work,
        progress_bar(len(factors), "render") as bar,
    ):
        for image in povray.stream_images(factors, options, Path(work), processes):
            bar.update()
            yield image


def _captions(
    indices: IntArray, labels: FloatArray | None, layout: Layout
) -> list[tuple[str, ...]]:
    if labels is None or not layout.labels:
        return [()] * len(indices)
    captions: list[tuple[str, ...]] = []
    for index, row in zip(indices, labels, strict=True):
        floor, wall, thing, scale, shape, orientation = (
            _value(factor, value) for factor, value in zip(FACTORS, row, strict=True)
        )
        captions.append(
            (f"#{index} {shape}", f"x{scale}   {orientation}", f"{floor}   {wall}   {thing}")
        )
    return captions


def _value(factor: Factor, value: float) -> str:
    if factor.topology == "discrete":
        return SHAPES[int(value)] if value in range(len(SHAPES)) else f"{value:g}"
    if factor.unit == "degree":
        return f"{value:+.1f}°"
    return f"{value:.3f}" if factor.topology == "circle" else f"{value:.2f}"


def _in_rows(captions: Sequence[tuple[str, ...]], columns: int) -> list[Sequence[tuple[str, ...]]]:
    return [captions[start : start + columns] for start in range(0, len(captions), columns)]
