"""Rendering images of a dataset again, and comparing them pixel by pixel."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shapeshd.dataset.shards import Provenance, ShardHeader, open_shard
from shapeshd.engines.engine import ENGINES, engine_named, is_scene_installed
from shapeshd.errors import ShapesHDError
from shapeshd.factors import FloatArray, check_factors
from shapeshd.scene.render_options import Image, RenderOptions
from shapeshd.support.distributed import core_count
from shapeshd.support.progress import progress_bar

from .evidence import Check, Evidence, outcome

NAME = "pixels"
TOLERANCE = 1
"""Levels of 255 by which a value of another engine may differ."""
MAX_BEYOND = 0.005
"""Share of an image's values that may differ by more: the edges of a few pixels."""
_LARGE = 8


@dataclass(frozen=True)
class _Draw:
    """Images to render again, in order of the data.

    Args:
        paths: their shards.
        rows: where they stand there.
        indices: where they stand in the dataset.
        factors: float64 (n, 6).
    """

    paths: list[Path]
    rows: list[int]
    indices: list[int]
    factors: FloatArray


def check_pixels(evidence: Evidence, count: int, seed: int, engine: str | None = None) -> Check:
    """Render random images again from their labels, with the recorded options.

    With the dataset's own engine every value must be equal. With the other one, the check
    fails if in any image more than 0.5% of the values differ by more than 1/255.

    Args:
        evidence: the dataset; only its sound shards are drawn from.
        count: how many images to draw, without replacement; all if there are fewer.
        seed: draws them.
        engine: one of `ENGINES`; by default the dataset's own.

    Returns:
        The check, with the numbers of a comparison with tolerance among its values.
    """
    headers, labels, provenance = evidence.headers, evidence.labels, evidence.provenance
    if count == 0:
        return Check(NAME, None, "not checked: ask with --rerender N")
    if provenance is None or not labels:
        return Check(NAME, None, "not checked: no shard can be read")
    engine = engine or provenance.engine
    if engine not in ENGINES:
        problem = f"engine {engine!r} is unknown here and cannot render its images again"
        return outcome(NAME, "not rendered again", [problem])
    try:
        differences = _installed_differences(provenance, engine)
        drawn = _draw(headers, labels, count, seed)
        with closing(_pairs(drawn, provenance, engine)) as pairs:
            if engine == provenance.engine:
                detail, problems, values = _compare_exactly(drawn, pairs)
            else:
                detail, problems, values = _compare_roughly(drawn, pairs, engine)
    except ShapesHDError as error:
        return outcome(NAME, "the images could not be rendered again", [str(error)])
    detail = "; ".join([f"{detail}, drawn with seed {seed}", *differences])
    values |= {
        "engine": engine,
        "rendered": len(drawn.rows),
        "seed": seed,
        "indices": drawn.indices,
        "installed_differs": differences,
    }
    return outcome(NAME, detail, problems, **values)


def _draw(
    headers: Mapping[Path, ShardHeader], labels: Mapping[Path, FloatArray], count: int, seed: int
) -> _Draw:
    """Draw images without replacement.

    Raises:
        UsageError: if a label is outside its range, so that nothing can be rendered.
    """
    files = sorted(labels, key=lambda path: (headers[path].first_index, path))
    ends = np.cumsum([len(labels[path]) for path in files])
    total = int(ends[-1])
    drawn = np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False))
    shards = np.searchsorted(ends, drawn, side="right")
    starts = ends - [len(labels[path]) for path in files]
    paths = [files[shard] for shard in shards]
    rows = [int(row) for row in drawn - starts[shards]]
    places = list(zip(paths, rows, strict=True))
    return _Draw(
        paths,
        rows,
        [headers[path].first_index + row for path, row in places],
        check_factors(np.stack([labels[path][row] for path, row in places])),
    )


def _installed_differences(provenance: Provenance, engine: str) -> list[str]:
    """Say what here is not as it was where the dataset was rendered."""
    differences = []
    if engine == provenance.engine:
        installed = engine_named(engine).renderer()
        if installed != provenance.renderer:
            differences.append(
                f"rendered with {installed}, but the dataset with {provenance.renderer}"
            )
    if not is_scene_installed(provenance.engine, provenance.scene_sha256):
        differences.append("the installed scene templates are not those of the dataset")
    return differences


def _pairs(
    drawn: _Draw, provenance: Provenance, engine: str
) -> Generator[tuple[Image, Image], None, None]:
    """Yield each image as it is stored and as it is rendered now, with a progress bar."""
    options = RenderOptions(provenance.size, provenance.antialias, provenance.antialias_depth)
    renderer = engine_named(engine)
    parallel = renderer.parallelism(provenance.size, core_count())
    with (
        tempfile.TemporaryDirectory(prefix="shapeshd-") as work,
        progress_bar(len(drawn.rows), "rerender") as bar,
        closing(renderer.stream(drawn.factors, options, Path(work), parallel)) as images,
    ):
        for path, row, image in zip(drawn.paths, drawn.rows, images, strict=True):
            with open_shard(path) as file:
                stored = file["images"][row]
            yield stored, image
            bar.update()


def _distance(stored: Image, image: Image) -> npt.NDArray[np.int16]:
    return np.abs(stored.astype(np.int16) - image.astype(np.int16))


def _compare_exactly(
    drawn: _Draw, pairs: Iterator[tuple[Image, Image]]
) -> tuple[str, list[str], dict[str, Any]]:
    """Return detail, problems and values: no value may differ."""
    problems = []
    for path, index, (stored, image) in zip(drawn.paths, drawn.indices, pairs, strict=True):
        if stored.shape != image.shape:
            what = f"its shape is {stored.shape}"
        elif (distance := _distance(stored, image)).any():
            count = np.count_nonzero(distance)
            what = f"{count} of {distance.size} values, by at most {distance.max()}"
        else:
            continue
        problems.append(f"{path}: image {index} differs from its re-render: {what}")
    return f"{len(drawn.rows)} images rendered again", problems, {}


@dataclass
class PixelDifferences:
    """By how many levels the values of the images seen so far differ.

    Args:
        counts: int64 (256,), how many values differ by 0, 1, ... 255 levels.
        beyond: share of each image's values that differ by more than `TOLERANCE`.
        means: mean difference of each image, in levels.
    """

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    beyond: list[float] = field(default_factory=list)
    means: list[float] = field(default_factory=list)

    def add(self, distance: npt.NDArray[np.int16]) -> None:
        """Count the differences of one image, (H, W, 3)."""
        self.counts += np.bincount(distance.ravel(), minlength=256)
        self.beyond.append(float((distance > TOLERANCE).mean()))
        self.means.append(float(distance.mean()))

    def within(self, levels: int) -> float:
        """Return the share of values that differ by `levels` at most."""
        return float(self.counts[: levels + 1].sum() / self.counts.sum())

    @property
    def mean(self) -> float:
        """Mean absolute difference, in levels of 255."""
        return float(self.counts @ np.arange(256) / self.counts.sum())

    @property
    def worst(self) -> int:
        """Which image differs most: by its share beyond the tolerance, then by its mean."""
        return max(range(len(self.beyond)), key=lambda i: (self.beyond[i], self.means[i]))


def _compare_roughly(
    drawn: _Draw, pairs: Iterator[tuple[Image, Image]], engine: str
) -> tuple[str, list[str], dict[str, Any]]:
    """Return detail, problems and values: few values may differ by more than `TOLERANCE`."""
    differences, problems = PixelDifferences(), []
    for path, index, (stored, image) in zip(drawn.paths, drawn.indices, pairs, strict=True):
        differences.add(_distance(stored, image))
        if (share := differences.beyond[-1]) > MAX_BEYOND:
            problems.append(
                f"{path}: image {index} differs from that of the engine {engine}: {share:.2%} of "
                f"its values by more than {TOLERANCE}/255, where {MAX_BEYOND:.1%} may"
            )
    values = {
        "equal": differences.within(0),
        "within_1": differences.within(TOLERANCE),
        "within_8": differences.within(_LARGE),
        "mean_absolute_difference": differences.mean,
        "worst_index": drawn.indices[differences.worst],
        "worst_beyond_1": differences.beyond[differences.worst],
    }
    detail = (
        f"{len(drawn.rows)} images against the engine {engine}: of their values "
        f"{_percent(values['equal'])} equal, {_percent(values['within_1'])} within "
        f"{TOLERANCE}/255, {_percent(values['within_8'])} within {_LARGE}/255, mean absolute "
        f"difference {differences.mean:.2g}/255, worst image {values['worst_index']}"
    )
    return detail, problems, values


def _percent(share: float) -> str:
    """Write a share so that only 1 reads as 100%."""
    return "100%" if share == 1 else f"{min(share, 0.9999999):.5%}"
