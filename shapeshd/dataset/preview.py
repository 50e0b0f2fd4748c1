"""Contact sheets: of a dataset, of a table of factors, and of a sweep through each factor."""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from shapeshd.engines import povray
from shapeshd.errors import UsageError, named
from shapeshd.factors import FACTORS, SHAPES, Factor, FloatArray, IntArray, check_seed
from shapeshd.scene.render_options import Image, RenderOptions
from shapeshd.scene.sampling import read_factor_table
from shapeshd.support.progress import progress_bar

from .contact_sheet import check_output, draw_sheet, save_sheet
from .render_spec import RenderSpec
from .shapes_hd import ShapesHD, open_dataset

SWEEP_DEFAULTS = (0.12, 0.55, 0.0, 1.5, 0.0, 15.0)
"""The factors that a sweep holds fixed: colours apart, and an object that shows its angle."""

_MAX_IMAGES = 1_000_000  # more have no room in a picture, however small
_FOOT = ("below each image: its number, shape, scale and orientation; hues of floor, wall, object",)


@dataclass(frozen=True)
class Selection:
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
            raise UsageError(
                f"{named('count')} must be at least 1, and {named('start')} not negative"
            )
        if self.seed is not None:
            check_seed(self.seed)

    def pick(self, available: IntArray | range) -> IntArray:
        """Pick from ascending indices; the result is ascending too."""
        first = bisect_left(available, self.start)
        beyond = len(available) - first
        if not beyond:
            last = f"the last is {available[-1]}" if len(available) else "there are none"
            raise UsageError(f"no image has the index {self.start} or more: {last}")
        count = min(self.count, beyond)
        if count > _MAX_IMAGES:
            raise UsageError(f"{count:,} images are too many for a picture; give {named('count')}")
        places = np.arange(count)
        if self.seed is not None:
            drawn = np.random.default_rng(self.seed).choice(beyond, count, replace=False)
            places = np.sort(drawn)
        return np.array([available[first + place] for place in places.tolist()], dtype=np.int64)


@dataclass(frozen=True)
class SheetLayout:
    """How to draw: images in a row, pixels of the longer side (None: as is), and captions."""

    columns: int = 8
    thumbnail: int | None = None
    labels: bool = False

    def __post_init__(self) -> None:
        if self.columns < 1 or (self.thumbnail is not None and self.thumbnail < 1):
            raise UsageError(f"{named('columns')} and {named('thumbnail')} must be at least 1")


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


def preview_dataset(
    dataset: Path | RenderSpec, out: Path, selection: Selection, layout: SheetLayout
) -> Preview:
    """Draw images of `dataset`, whole or not; see `open_dataset` for what it can be.

    Raises:
        UsageError: if `dataset` is no dataset, or an argument is impossible.
        DamagedShardError: if an image cannot be read.
    """
    check_output(out)
    images = open_dataset(dataset, allow_incomplete=True)
    if len(images.spans) == 1:  # perhaps a billion: an interval takes no memory
        available: IntArray | range = images.spans[0]
        chosen = selection.pick(available)
        items = chosen - images.spans[0].start
    else:
        available, first_items = np.unique(images.indices, return_index=True)
        chosen = selection.pick(available)
        items = first_items[np.searchsorted(available, chosen)]
    labels = images.labels_of(items.tolist()) if layout.labels else None
    sheet = draw_sheet(
        _read(images, items.tolist()),
        images.image_shape[1:],
        _in_rows(_captions(chosen, labels, layout), layout.columns),
        foot=_FOOT if layout.labels else (),
        thumbnail=layout.thumbnail,
    )
    return _write(sheet, out, chosen, len(available))


def preview_table(
    table: Path, out: Path, selection: Selection, layout: SheetLayout, size: int
) -> Preview:
    """Render rows of a CSV table of factors with POV-Ray and draw them.

    Raises:
        UsageError: if the table or an argument is wrong.
        RendererError: if POV-Ray is missing or fails.
    """
    check_output(out)
    factors = read_factor_table(table)
    chosen = selection.pick(np.arange(len(factors)))
    captions = _captions(chosen, factors[chosen], layout)
    sheet = draw_sheet(
        _render(factors[chosen], size),
        (size, size),
        _in_rows(captions, layout.columns),
        foot=_FOOT if layout.labels else (),
        thumbnail=layout.thumbnail,
    )
    return _write(sheet, out, chosen, len(factors))


def preview_sweep(out: Path, layout: SheetLayout, size: int) -> Preview:
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


def _read(images: ShapesHD, items: Sequence[int]) -> Iterator[Image]:
    for start in range(0, len(items), images.block):
        yield from images.read(items[start : start + images.block])[0]


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
    indices: IntArray, labels: FloatArray | None, layout: SheetLayout
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
