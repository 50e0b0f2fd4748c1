"""Rendering images of a dataset again, and comparing them pixel by pixel."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from .. import povray
from ..errors import ShapesHDError
from ..factors import FloatArray, check_factors
from ..povray import Image, RenderOptions
from ..progress import progress_bar
from ..shards import Provenance, ShardHeader, open_shard
from .read import Check, Evidence, judge

NAME = "pixels"
ENGINE = "povray"


def check_pixels(evidence: Evidence, count: int, seed: int) -> Check:
    """Render random images again from their labels, with the recorded options.

    Args:
        evidence: the dataset; only its sound shards are drawn from.
        count: how many images to draw, without replacement; all if there are fewer.
        seed: draws them.

    Returns:
        The check; a value that differs in any pixel is a failure.
    """
    headers, labels, provenance = evidence.headers, evidence.labels, evidence.provenance
    if count == 0:
        return Check(NAME, None, "not checked: ask with --rerender N")
    if provenance is None or not labels:
        return Check(NAME, None, "not checked: no shard can be read")
    if provenance.engine != ENGINE:
        problem = f"engine {provenance.engine!r}: POV-Ray cannot render these images again"
        return judge(NAME, "not rendered again", [problem])
    paths, rows = _draw(headers, labels, count, seed)
    try:
        differences = _installed_differences(provenance)
        factors = np.stack([labels[path][row] for path, row in zip(paths, rows, strict=True)])
        problems = _compare(headers, paths, rows, check_factors(factors), provenance)
    except ShapesHDError as error:
        return judge(NAME, "the images could not be rendered again", [str(error)])
    detail = f"{len(rows)} images rendered again, drawn with seed {seed}"
    if differences:
        detail += "; " + "; ".join(differences)
    values = {
        "rendered": len(rows),
        "seed": seed,
        "indices": [headers[path].first_index + row for path, row in zip(paths, rows, strict=True)],
        "installed_differs": differences,
    }
    return judge(NAME, detail, problems, **values)


def _draw(
    headers: Mapping[Path, ShardHeader], labels: Mapping[Path, FloatArray], count: int, seed: int
) -> tuple[list[Path], list[int]]:
    """Draw images without replacement: their shards and their rows there, in order of the data."""
    paths = sorted(labels, key=lambda path: (headers[path].first_index, path))
    ends = np.cumsum([len(labels[path]) for path in paths])
    total = int(ends[-1])
    drawn = np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False))
    shards = np.searchsorted(ends, drawn, side="right")
    starts = ends - [len(labels[path]) for path in paths]
    return [paths[shard] for shard in shards], [int(row) for row in drawn - starts[shards]]


def _installed_differences(provenance: Provenance) -> list[str]:
    differences = []
    installed = f"POV-Ray {povray.version()}"
    if installed != provenance.renderer:
        differences.append(f"rendered with {installed}, but the dataset with {provenance.renderer}")
    if povray.scene_digest() != provenance.scene_sha256:
        differences.append("the installed scene templates are not those of the dataset")
    return differences


def _compare(
    headers: Mapping[Path, ShardHeader],
    paths: list[Path],
    rows: list[int],
    factors: FloatArray,
    provenance: Provenance,
) -> list[str]:
    options = RenderOptions(provenance.size, provenance.antialias, provenance.antialias_depth)
    processes = povray.processes_per_core(provenance.size) * povray.core_count()
    problems = []
    with (
        tempfile.TemporaryDirectory(prefix="shapeshd-") as work,
        progress_bar(len(rows), "rerender") as bar,
        ExitStack() as stack,
    ):
        images = stack.enter_context(
            closing(povray.stream_images(factors, options, Path(work), processes))
        )
        for path, row, image in zip(paths, rows, images, strict=True):
            if problem := _difference(path, row, image):
                problems.append(
                    f"{path}: image {headers[path].first_index + row} differs from its "
                    f"re-render: {problem}"
                )
            bar.update()
    return problems


def _difference(path: Path, row: int, image: Image) -> str:
    """Say how image `row` of a shard differs from `image`, uint8 (H, W, 3); empty if not."""
    with open_shard(path) as file:
        stored = file["images"][row]
    if stored.shape != image.shape:
        return f"its shape is {stored.shape}"
    distance = np.abs(stored.astype(np.int16) - image.astype(np.int16))
    if not distance.any():
        return ""
    return f"{np.count_nonzero(distance)} of {distance.size} values, by at most {distance.max()}"
