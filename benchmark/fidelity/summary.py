"""Residuals of many images in a few numbers, each with its interval, beside those of real images.

Intervals hold the true value with 95%: of a mean by Student's t, of a median by the order
statistics between which it lies (exact), of a share by Clopper and Pearson (exact). They are
those of independent images. A share is that beyond a limit which real images have set; how far
the limit itself would scatter with other real images is not in its interval.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray

from .intervals import CONFIDENCE, student
from .residual import BETTER_IF_LARGE, MEASURES, farther

QUANTILE = 0.999
"""Share of the real images that keep a limit."""

JUDGED = ("rmse", "ssim", "hue")
"""Measures whose limits an image must keep; PSNR says the same as RMSE."""

TOLERATED = 0.02
"""Images of a source beyond the limits that are no fault: twenty times as many as of real ones,
so that a limit which few real images have set raises no false alarm."""


def mean_interval(values: FloatArray) -> dict[str, float]:
    """Return ``value``, ``low`` and ``high`` of the mean of (n,) values, n >= 2."""
    value = float(values.mean())
    half = student(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"value": value, "low": value - half, "high": value + half}


def median_interval(values: FloatArray) -> dict[str, float]:
    """Return ``value``, ``low`` and ``high`` of the median of (n,) values, n >= 6."""
    ordered = np.sort(values)
    below = int(stats.binom.ppf((1 - CONFIDENCE) / 2, len(values), 0.5)) - 1
    below = max(0, below)
    low, high = float(ordered[below]), float(ordered[-1 - below])
    return {"value": float(np.median(values)), "low": low, "high": high}


def share_interval(count: int, of: int) -> dict[str, float]:
    """Return ``value``, ``low`` and ``high`` of a share, and its ``count``."""
    found = stats.binomtest(count, of).proportion_ci(CONFIDENCE, "exact")
    return {"value": count / of, "low": float(found.low), "high": float(found.high), "count": count}


def summarize(sample: FloatArray, real: FloatArray) -> dict[str, Any]:
    """Describe the residuals of a source's images beside those of real images.

    Args:
        sample: (n, 4), see `residuals`, n >= 6.
        real: (m, 4), of real images measured in the same way, m >= 6.

    Returns:
        Ready for JSON: ``images``, ``real_images``; for each of `MEASURES` a dict with the
        ``mean``, ``median`` and ``worst`` of the sample; ``floor``, the mean, median, limit
        (``quantile``) and the worst (``maximum``) of the real images; ``beyond_quantile`` and
        ``beyond_maximum``, the shares of images that are worse than these; and the share of
        images beyond the quantile in any of `JUDGED` as ``beyond`` (and ``beyond_maximum``),
        that of the real images as ``real_beyond``, and whether the quality is ``ok``: whether
        `beyond` may be no more than `TOLERATED`.

    Raises:
        UsageError: if there are too few images, or they have other measures.
    """
    for values in (sample, real):
        if values.ndim != 2 or values.shape[1] != len(MEASURES) or len(values) < 6:
            raise UsageError(f"residuals of shape {values.shape} cannot be summarized")
    result: dict[str, Any] = {"images": len(sample), "real_images": len(real)}
    any_limit, any_maximum, real_limit = (np.zeros(len(v), bool) for v in (sample, sample, real))
    for column, name in enumerate(MEASURES):
        own, theirs, worse = sample[:, column], real[:, column], farther(name)
        limit, extreme = limits(theirs, name)
        over, over_all = worse(own, limit), worse(own, extreme)
        result[name] = {
            "mean": mean_interval(own),
            "median": median_interval(own),
            "worst": float(own.min() if name in BETTER_IF_LARGE else own.max()),
            "beyond_quantile": share_interval(int(over.sum()), len(own)),
            "beyond_maximum": share_interval(int(over_all.sum()), len(own)),
            "floor": {
                "mean": mean_interval(theirs),
                "median": median_interval(theirs),
                "quantile": limit,
                "maximum": extreme,
            },
        }
        if name in JUDGED:
            any_limit |= over.astype(bool)
            any_maximum |= over_all.astype(bool)
            real_limit |= worse(theirs, limit).astype(bool)
    beyond = share_interval(int(any_limit.sum()), len(sample))
    return {
        **result,
        "quantile": QUANTILE,
        "tolerated": TOLERATED,
        "beyond": beyond,
        "beyond_maximum": share_interval(int(any_maximum.sum()), len(sample)),
        "real_beyond": share_interval(int(real_limit.sum()), len(real)),
        "ok": beyond["low"] <= TOLERATED,
    }


def limits(real: FloatArray, measure: str) -> tuple[float, float]:
    """Return what `QUANTILE` of the real images keep, and what all of them keep, in a measure."""
    if measure in BETTER_IF_LARGE:
        return float(np.quantile(real, 1 - QUANTILE)), float(real.min())
    return float(np.quantile(real, QUANTILE)), float(real.max())
