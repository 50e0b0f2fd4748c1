"""Images to look at: the worst ones and ordinary ones, each beside the rendering of its factors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.scoring.examples import Arrays, pixels_of, thumbnail
from shapeshd.benchmark.sources.base import Source
from shapeshd.factors import FloatArray, IntArray

from .pieces import Measured
from .residual import MEASURES

WORST, MEDIAN = 8, 4
"""Images of each kind, at most."""


def choose_pictures(
    sample: Measured, source: Source, rerender: Callable[[FloatArray], Tensor]
) -> Arrays:
    """Fetch the images farthest from their re-render by RMSE, and those in the middle, again.

    Args:
        sample: what was measured of the source's first images.
        source: gives them again by number.
        rerender: renders factors (n, 6) at the size of the source's images.

    Returns:
        Arrays for an npz file, m images in all: ``kind`` (m,) text, "worst" (the worst first)
        or "median"; ``image_index`` int64 (m,), their numbers; ``images`` and ``rerenders``
        uint8 (m, H, W, 3), sRGB, reduced as examples are; ``residuals`` float64 (m, 4), see
        `residuals`; ``factors`` float64 (m, 6), as recognised.

    Raises:
        ShapesHDError: if the source cannot give an image again.
    """
    worst, median = _choose(sample.residuals[:, MEASURES.index("rmse")])
    chosen = np.concatenate([worst, median])
    again = thumbnail(rerender(sample.factors[chosen]))
    images = torch.cat([thumbnail(source.images(int(i), int(i) + 1)) for i in chosen])
    return {
        "kind": np.array(["worst"] * len(worst) + ["median"] * len(median)),
        "image_index": chosen,
        "images": pixels_of(images),
        "rerenders": pixels_of(again),
        "residuals": sample.residuals[chosen],
        "factors": sample.factors[chosen],
    }


def _choose(errors: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the numbers of the images with the largest errors, and of those in the middle."""
    order = np.argsort(-errors, kind="stable")
    middle = max(WORST, len(order) // 2 - MEDIAN // 2)
    return order[:WORST], order[middle : middle + MEDIAN]
