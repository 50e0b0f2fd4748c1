"""The look at a source's images: how far they are from their re-render, why, and how they are read.

Three questions, in this order.

1. *Are these images of the dataset?* What the recognizer reads from an image is rendered again. Of
   real images a share of 1% is farther from its re-render than a limit, in each of three measures;
   if more than 5% of a source's images surely are, they do not look like the dataset.
2. *What was done to them?* Known changes, such as exchanged channels, are undone on some of them.
3. *How well can they be read?* Their differences from the re-renders are put on images of known
   factors, each on the image of a scene that is like its own, which are read: see `response` and
   `source_attenuation`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor

from shapeshd.benchmark.fidelity.intervals import mean_interval, share_interval
from shapeshd.benchmark.fidelity.residual import JUDGED, MEASURES, farther, limits, residuals
from shapeshd.benchmark.recognizer.reader import Reader
from shapeshd.benchmark.result.image_check import ImageCheckRecord
from shapeshd.benchmark.statistics.source_attenuation import source_attenuation
from shapeshd.distribution import Distribution
from shapeshd.factors import FACTORS, NAMES, FloatArray, IntArray, bin_indices, joint_bins

from .kept_images import FEWEST, Kept
from .known_changes import find_change
from .real_images import RealImages, Rerender, explained_share, paired_factors, real_images
from .response import Response, fit_response

QUANTILE = 0.99
"""Share of real images that keep a limit."""
TOLERATED = 0.05
"""Share of a source's images beyond a limit that is no fault: three limits are kept by 97% of real
images at least, and few of them set a limit."""
ALIKE = 0.9
"""Share of an image's variance that its re-render must explain, of the median image, to be taken
for a damaged scene that can still be read. As JPEG of quality 50 images keep 0.96, in BGR order
0.78."""
_OTHER_SHAPE = 4.0
_FEWEST, _PROBES = FEWEST // 2, 8


def check_images(
    kept: Kept, reader: Reader, side: int, distribution: Distribution | None = None
) -> ImageCheckRecord | None:
    """Look at samples of a source.

    Args:
        kept: the samples, as the recognizer sees them.
        reader: read them.
        side: width and height of the source's images, pixels.
        distribution: that they should follow; None for the uniform one.

    Returns:
        What was found. None if there are fewer than 32 samples, or if what the reader reads are
        no images of this dataset: it does not read real ones.
    """
    count = len(kept.numbers)
    if count < _FEWEST:
        return None
    rerender = Rerender(side, reader.size, reader.device)
    if not _reads_real_images(reader, rerender, distribution):
        return None
    real = real_images(count + count % 2, reader, rerender, distribution)
    again = rerender(kept.factors)
    found = residuals(kept.images, again)
    beyond, real_beyond = _beyond(found, real.residuals)
    share = share_interval(int(beyond.sum()), count)
    explained = float(np.median(explained_share(kept.images, again)))
    rmse = MEASURES.index("rmse")
    ok = share["low"] <= TOLERATED
    change, tried = (None, []) if ok else find_change(kept.images, again, reader, rerender)
    alike = ok or explained >= ALIKE
    values: dict[str, Any] = {
        "images": count,
        "real_images": len(real),
        "quantile": QUANTILE,
        "tolerated": TOLERATED,
        "beyond": share,
        "real_beyond": share_interval(int(real_beyond.sum()), len(real)),
        "rmse": mean_interval(found[:, rmse]),
        "real_rmse": mean_interval(real.residuals[:, rmse]),
        "explained": explained,
        "ok": ok,
        "alike": alike,
        "change": None if change is None else change.name,
        "tried": [one._asdict() for one in tried],
    }
    if alike:
        response = fit_response(kept.images, again)
        known, read = read_known_images(response, kept, again, real, reader)
        values |= {
            "response": _response(response, kept.images, again),
            "right_bins": float((joint_bins(known) == joint_bins(read)).mean()),
            "right_factors": {
                name: share_interval(int(right.sum()), len(known))
                for name, right in zip(
                    NAMES, (bin_indices(known) == bin_indices(read)).T, strict=True
                )
            },
            # Its formula holds for bins of equal probability alone.
            "attenuation": source_attenuation(known, read) if distribution is None else None,
        }
    return ImageCheckRecord.model_validate(values)


def read_known_images(
    response: Response, kept: Kept, rerenders: Tensor, real: RealImages, reader: Reader
) -> tuple[FloatArray, FloatArray]:
    """Put a source's differences on images of known factors, and read them.

    Args:
        response: of the source.
        kept: samples of the source, n.
        rerenders: of their factors, uint8 (n, 3, S, S).
        real: images of known factors, m >= n.
        reader: reads factors.

    Returns:
        The known factors (m, 6), and what was read.
    """
    remainder = kept.images.float() - response(rerenders)
    rows = torch.from_numpy(like_scenes(kept.factors, real.factors))
    known = (response(real.images) + remainder[rows]).round().clamp(0, 255).byte()
    return real.factors, np.asarray(reader(known), dtype=np.float64)


def like_scenes(factors: FloatArray, known: FloatArray) -> IntArray:
    """Return for each known scene the row of a scene that is like it: int64 (m,).

    Each row is taken as often as any other, or once more, such that all scenes together are as
    near as can be. What is left by JPEG lies along edges, and stands out where there are none.

    Args:
        factors: of the scenes to choose from, (n, 6).
        known: (m, 6), m >= n.
    """
    rows = np.arange(len(known)) % len(factors)
    apart = scipy.spatial.distance.cdist(_places(known), _places(factors)[rows], "sqeuclidean")
    return np.asarray(rows[scipy.optimize.linear_sum_assignment(apart)[1]], dtype=np.int64)


def _places(factors: FloatArray) -> FloatArray:
    """Return factors (n, 6) as points: each spans 2, and other shapes are farther than that."""
    columns = []
    for column, factor in zip(factors.T, FACTORS, strict=True):
        share = (column - factor.low) / factor.period
        if factor.topology == "circle":
            columns += [np.cos(2 * np.pi * share), np.sin(2 * np.pi * share)]
        elif factor.topology == "discrete":
            columns += [_OTHER_SHAPE * (np.rint(column) == value) for value in range(factor.bins)]
        else:
            columns.append(2 * share)
    return np.stack(columns, axis=1)


def limit_of(real: FloatArray, measure: str) -> float:
    """Return what `QUANTILE` of real images keep in a measure; `real` is (m, 4)."""
    return limits(real[:, MEASURES.index(measure)], measure, QUANTILE)[0]


def _beyond(found: FloatArray, real: FloatArray) -> tuple[np.ndarray, np.ndarray]:
    """Return which images are beyond a limit of real ones, and which of the real ones."""
    over, real_over = np.zeros(len(found), bool), np.zeros(len(real), bool)
    for measure in JUDGED:
        limit, column, worse = limit_of(real, measure), MEASURES.index(measure), farther(measure)
        over |= worse(found[:, column], limit).astype(bool)
        real_over |= worse(real[:, column], limit).astype(bool)
    return over, real_over


def _reads_real_images(
    reader: Reader, rerender: Rerender, distribution: Distribution | None
) -> bool:
    """Tell whether a reader reads real images at all, such that a re-render is like them."""
    images = rerender(paired_factors(_PROBES, distribution))
    again = rerender(np.asarray(reader(images), dtype=np.float64))
    return float(np.median(explained_share(images, again))) >= ALIKE


def _response(response: Response, images: Tensor, rerenders: Tensor) -> dict[str, Any]:
    """Return what a response says in numbers, and the RMSE that it leaves."""
    left = (images.float() - response(rerenders)).square().mean().sqrt()
    right, down = response.shift
    return {
        "gain": response.gain,
        "shift_right": right,
        "shift_down": down,
        "blur": response.blur,
        "remainder": float(left),
    }
