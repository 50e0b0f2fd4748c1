"""Images to look at: of the fullest and the emptiest cells, and beside their re-renders.

Cells are chosen in two tables: that of the worst part of the divergence (a significant factor or
pair of factors) and the joint table of all factors. A cell that holds no sample is shown by images
that the ray tracer makes of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from shapeshd.benchmark.fidelity.residual import MEASURES
from shapeshd.benchmark.statistics.decomposition import Decomposition, Part
from shapeshd.distribution import Distribution
from shapeshd.factors import (
    BIN_SHAPE,
    NAMES,
    NUM_BINS,
    FloatArray,
    IntArray,
    from_unit,
    uniform_factors,
)
from shapeshd.support.progress import progress_bar

if TYPE_CHECKING:
    from shapeshd.benchmark.fidelity.measurement_files import Measurements
    from shapeshd.benchmark.recognizer.reader import Reader
    from shapeshd.benchmark.sources.base import Source

Arrays = dict[str, npt.NDArray[Any]]

CELLS = 4
"""Cells of each kind, at most: the fullest of the part, its emptiest, and the same of all."""

IMAGES = 4
"""Images of a cell, at most."""

THUMBNAIL = 128
"""Length of the longer side of an image that is kept, in pixels, at most."""

WORST, MEDIAN = 8, 4
"""Images beside their re-renders: the worst and ordinary ones, at most."""


def choose_examples(
    counts: npt.ArrayLike,
    first_seen: npt.ArrayLike,
    decomposition: Decomposition,
    source: Source,
    recognizer: Reader,
    distribution: Distribution | None = None,
    *,
    progress: bool = False,
) -> Arrays:
    """Choose cells, fetch samples that lie in them again, and trace what is missing.

    Args:
        counts: samples in each joint bin, integers of shape (k,) or `BIN_SHAPE`.
        first_seen: int64 (k, m): the lowest numbers of samples in each joint bin, -1 for none.
        decomposition: of these counts; says which part is the worst.
        source: gives the images again by number.
        recognizer: its `size` is that of traced images, if below `THUMBNAIL`.
        distribution: that the samples should follow; None for the uniform one. Fullest and emptiest
            are then the cells with most and fewest samples for what it lets one expect.
        progress: show a bar on stderr.

    Returns:
        Arrays for an npz file, c cells and m images in all:
        ``part`` (text, no axis): the worst significant factor or set of factors such as "scale" or
        "floor_hue x shape", "" if none is significant;
        ``kind`` (c,) text: "part-full", "part-empty", "joint-full" or "joint-empty";
        ``bins`` int64 (c, 6): the bin of each factor, -1 where it may be any;
        ``count`` int64 (c,): samples in the cell; ``expected`` float64 (c,): under the
        distribution;
        ``images`` uint8 (m, H, W, 3), sRGB, reduced to `THUMBNAIL`; ``image_cell`` int64
        (m,): their cell; ``image_index`` int64 (m,): their number in the source;
        ``traced`` uint8 (t, S, S, 3): images of empty cells; ``traced_cell`` int64 (t,).

    Raises:
        ShapesHDError: if the source cannot give an image again.
    """
    table = np.asarray(counts, dtype=np.int64).reshape(BIN_SHAPE)
    seen = np.asarray(first_seen, dtype=np.int64).reshape(NUM_BINS, -1)
    worst = worst_part(decomposition)
    axes = tuple(NAMES.index(name) for name in worst.factors) if worst else ()
    cells = []
    if worst:
        cells += _choose(table, axes, "part", distribution)
    cells += _choose(table, tuple(range(len(NAMES))), "joint", distribution)
    image_cell, image_sample, traced, traced_cell = [], [], [], []
    for number, (_, bins, count) in enumerate(cells):
        if count:
            found = _samples(seen, bins)
            image_sample += found
            image_cell += [number] * len(found)
        else:
            drawn = _missing(bins)
            traced.append(drawn)
            traced_cell += [number] * len(drawn)
    side = min(int(recognizer.size), THUMBNAIL)
    samples, bin_rows = int(table.sum()), np.array([bins for _, bins, _ in cells])
    shape = np.where(bin_rows >= 0, np.array(BIN_SHAPE), 1)
    shares = 1 / shape.prod(axis=1) if distribution is None else _shares(distribution, bin_rows)
    return {
        "part": np.array(worst.name if worst else ""),
        "kind": np.array([kind for kind, _, _ in cells]),
        "bins": bin_rows,
        "count": np.array([count for _, _, count in cells], dtype=np.int64),
        "expected": samples * shares,
        "images": _stack(_fetch(source, image_sample, progress)),
        "image_cell": np.array(image_cell, dtype=np.int64),
        "image_index": _numbers(source, image_sample),
        "traced": _trace(traced, side),
        "traced_cell": np.array(traced_cell, dtype=np.int64),
    }


def _fetch(source: Source, samples: Sequence[int], progress: bool) -> list[Tensor]:
    """Return the images of samples, (1, 3, H, W), reduced as `thumbnail` does.

    Those of one batch are asked for together, in order: a generator makes whole batches, and so
    makes each but once; a command is started once for each.
    """
    wanted, found = sorted(set(samples)), {}
    batch = source.describe().get("batch") or 1
    with progress_bar(len(wanted), "examples", shown=progress) as bar:
        for _, numbers in itertools.groupby(wanted, lambda sample: sample // batch):
            group = list(numbers)
            images = source.images(group[0], group[-1] + 1)
            for sample in group:
                found[sample] = thumbnail(images[sample - group[0]][None])
            bar.update(len(group))
    return [found[sample] for sample in samples]


def _numbers(source: Source, samples: Sequence[int]) -> IntArray:
    """Return the numbers of samples' images in their source, of which a part may be drawn."""
    number = getattr(source, "number", None)
    found = [sample if number is None else int(number(sample)) for sample in samples]
    return np.array(found, dtype=np.int64)


def worst_part(decomposition: Decomposition) -> Part | None:
    """Return the largest significant part that is of a factor or of a set of some, or None."""
    return next((part for part in decomposition.significant if part.factors), None)


def _choose(
    table: IntArray, axes: tuple[int, ...], what: str, distribution: Distribution | None
) -> list[tuple[str, tuple[int, ...], int]]:
    """Return (kind, bins, count) of the fullest and emptiest cells of a marginal table."""
    others = tuple(axis for axis in range(table.ndim) if axis not in axes)
    marginal = table.sum(axis=others)
    flat = marginal.ravel()
    surplus: npt.NDArray[Any] = flat
    number = min(CELLS, flat.size // 2)
    nothing = np.zeros(flat.size, dtype=bool)
    if distribution is not None:
        mean = table.sum() * distribution.marginal(*(NAMES[axis] for axis in axes)).ravel()
        surplus = np.round((flat - mean) / np.sqrt(np.maximum(mean, 1e-9)), 6)  # deviations
        nothing = (mean == 0) & (flat == 0)  # in order: not to be looked at
        number = min(number, int((~nothing).sum()))
    chosen = []
    for kind, order in (("full", -1), ("empty", 1)):
        values = np.where(nothing, np.inf, order * surplus) if nothing.any() else order * surplus
        for cell in _extremes(values, number):
            bins = np.full(table.ndim, -1)
            bins[list(axes)] = np.unravel_index(cell, marginal.shape)
            chosen.append((f"{what}-{kind}", tuple(map(int, bins)), int(flat[cell])))
    return chosen


def _shares(distribution: Distribution, rows: IntArray) -> FloatArray:
    """Return the probabilities of cells, (c, 6) bins of which -1 is any, under a distribution."""
    joint = distribution.expected().reshape(BIN_SHAPE)
    places = [tuple(slice(None) if index < 0 else index for index in row) for row in rows]
    return np.array([float(joint[place].sum()) for place in places])


def _extremes(values: npt.NDArray[Any], number: int) -> IntArray:
    """Return the places of the smallest values; of equal ones, some from all over the table.

    Neighbours look alike: the first cells of many that are empty would all show one colour.
    """
    order = np.argsort(values, kind="stable")
    limit = values[order[number - 1]]
    below, equal = order[values[order] < limit], order[values[order] == limit]
    missing = number - len(below)
    # Steps of the golden ratio: spread evenly, and never the same row or column twice in turn.
    places = np.floor(len(equal) * np.mod(0.5 + 0.6180339887498949 * np.arange(missing), 1))
    spread = np.unique(places.astype(np.int64))
    if len(spread) < missing:
        spread = np.arange(missing)
    return np.concatenate([below, equal[spread]])


def _samples(seen: IntArray, bins: tuple[int, ...]) -> list[int]:
    """Return the lowest numbers of samples in a cell, at most `IMAGES`."""
    rows = seen.reshape(*BIN_SHAPE, -1)
    found = rows[tuple(slice(None) if index < 0 else index for index in bins)].ravel()
    return [int(index) for index in np.sort(found[found >= 0])[:IMAGES]]


def _missing(bins: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return factors in the middle of a cell's bins, (m, 6); what may be any is drawn."""
    number = 1 if min(bins) >= 0 else IMAGES
    factors = uniform_factors(0, 0, number)
    middle = from_unit((np.array([bins]) + 0.5) / np.array(BIN_SHAPE))
    fixed = np.array(bins) >= 0
    factors[:, fixed] = middle[:, fixed]
    return factors


def _trace(factors: list[npt.NDArray[np.float64]], size: int) -> npt.NDArray[np.uint8]:
    if not factors:
        return np.empty((0, size, size, 3), np.uint8)
    from shapeshd.raytracer.tracer import trace_images

    return pixels_of(trace_images(np.concatenate(factors), size))


def thumbnail(images: Tensor) -> Tensor:
    """Reduce (n, 3, H, W) to `THUMBNAIL` at its longer side, with antialiasing, on the CPU."""
    images, (height, width) = images.detach().cpu(), images.shape[-2:]
    if max(height, width) > THUMBNAIL:
        sides = [max(1, round(side * THUMBNAIL / max(height, width))) for side in (height, width)]
        images = F.interpolate(images, sides, mode="bilinear", antialias=True)
    return images


def _stack(images: list[Tensor]) -> npt.NDArray[np.uint8]:
    """Return (m, H, W, 3) of images that are (1, 3, H, W)."""
    if not images:
        return np.empty((0, 0, 0, 3), np.uint8)
    return pixels_of(torch.cat(images))


def pixels_of(images: Tensor) -> npt.NDArray[np.uint8]:
    """Return images uint8 (n, 3, H, W) on the CPU as an array (n, H, W, 3)."""
    pixels: npt.NDArray[np.uint8] = images.permute(0, 2, 3, 1).contiguous().numpy()
    return pixels


def choose_fidelity_examples(
    sample: Measurements,
    source: Source,
    rerender: Callable[[FloatArray], Tensor],
    *,
    progress: bool = False,
) -> Arrays:
    """Fetch the images farthest from their re-render by RMSE, and ordinary ones, again.

    Args:
        sample: what was measured of the first images of `source`.
        source: gives them again by number.
        rerender: renders factors (n, 6) at the size of the source's images.
        progress: show a bar on stderr.

    Returns:
        Arrays for an npz file, m images in all: ``kind`` (m,) text, "worst" (the worst first)
        or "median"; ``image_index`` int64 (m,), their numbers; ``images`` and ``rerenders``
        uint8 (m, H, W, 3), sRGB, reduced as examples are; ``residuals`` float64 (m, 4), see
        `residuals`; ``factors`` float64 (m, 6), as recognised.

    Raises:
        ShapesHDError: if the source cannot give an image again.
    """
    worst, median = _worst_and_median(sample.residuals[:, MEASURES.index("rmse")])
    chosen = np.concatenate([worst, median])
    again = thumbnail(rerender(sample.factors[chosen]))
    samples = [int(number) for number in chosen]
    return {
        "kind": np.array(["worst"] * len(worst) + ["median"] * len(median)),
        "image_index": _numbers(source, samples),
        "images": _stack(_fetch(source, samples, progress)),
        "rerenders": pixels_of(again),
        "residuals": sample.residuals[chosen],
        "factors": sample.factors[chosen],
    }


def _worst_and_median(errors: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the numbers of the images with the largest errors, and of those in the middle."""
    order = np.argsort(-errors, kind="stable")
    middle = max(WORST, len(order) // 2 - MEDIAN // 2)
    return order[:WORST], order[middle : middle + MEDIAN]
