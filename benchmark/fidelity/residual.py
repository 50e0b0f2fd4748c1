"""How far an image is from the rendering of its own recognised factors.

A recognizer says which scene an image shows; rendered again, that scene is what the image should
look like. So fidelity is measured for every single image, which no statistic of features can do.

`summarize` describes the residuals of many images beside those of real ones. A share is that
beyond a limit which real images have set; how far the limit itself would scatter with other real
images is not in its interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray

from .intervals import mean_interval, median_interval, share_interval

MEASURES = ("rmse", "psnr", "ssim", "hue")
"""Columns of `residuals`: RMSE in levels of 8 bits, PSNR in dB, SSIM, hue error in degrees."""

BETTER_IF_LARGE = ("psnr", "ssim")

COLOURED, GREY = 64, 16
"""Chroma (largest channel - smallest, in levels of 8 bits) from which a pixel of a re-render
counts for the hue, and below which a pixel of an image has none."""

LOST_HUE = 90.0
"""Degrees counted for a pixel that should have a hue and has none: the mean of a random one."""

QUANTILE = 0.999
"""Share of the real images that keep a limit."""

JUDGED = ("rmse", "ssim", "hue")
"""Measures whose limits an image must keep; PSNR says the same as RMSE."""

TOLERATED = 0.02
"""Share of a source's images beyond a limit that is no fault: seven times as many as of real ones,
of which 99.7% at least keep all three, so that limits which few of them have set raise no false
alarm."""

_LEVELS = 255.0
_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03
_BATCH_PIXELS = 64 * 64 * 64  # float tensors of so many pixels stay in a CPU's cache


def residuals(images: Tensor, rerenders: Tensor) -> FloatArray:
    """Compare images with their re-renders.

    Args:
        images: uint8 (n, 3, H, W), sRGB, H and W at least 11.
        rerenders: the same shape, on the same device.

    Returns:
        float64 (n, 4), a column for each of `MEASURES`.

    Raises:
        UsageError: if the shapes or types differ from that.
    """
    _check(images, rerenders)
    step = max(1, _BATCH_PIXELS // (images.shape[-1] * images.shape[-2]))
    parts = [np.empty((0, len(MEASURES)))]
    for start in range(0, len(images), step):
        one, other = images[start : start + step], rerenders[start : start + step]
        mean_square = squared_error(one, other)
        columns = (mean_square.sqrt(), psnr(one, other), ssim(one, other), hue_error(one, other))
        parts.append(torch.stack([column.cpu().double() for column in columns], 1).numpy())
    return np.concatenate(parts)


def squared_error(images: Tensor, references: Tensor) -> Tensor:
    """Return the mean squared error of each image, in squared levels of 8 bits: float (n,)."""
    return (images.float() - references.float()).square().mean((1, 2, 3))


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in dB: float (n,).

    10 log10(255^2 / mean squared error). Equal images are given that of two which differ by
    one level in one value, so that means stay finite.
    """
    smallest = 1 / math.prod(images.shape[1:])
    return 10 * (_LEVELS**2 / squared_error(images, references).clamp_min(smallest)).log10()


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Return the structural similarity of each image, 1 for equal ones: float (n,).

    Wang et al. 2004, eq. 13, with their constants: a Gaussian window of 11 x 11 pixels and
    standard deviation 1.5, K1 = 0.01, K2 = 0.03; the mean over all windows that lie inside the
    image and over the three channels.
    """
    x, y = images.float(), references.float()
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * _LEVELS) ** 2, (_K2 * _LEVELS) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return (above / below).mean((1, 2, 3))


def hue_error(images: Tensor, references: Tensor) -> Tensor:
    """Return the mean distance of hues of each image, 0 to 180 degrees: float (n,).

    Over the pixels that are coloured in the reference (chroma of at least `COLOURED` levels);
    0 if there are none. A pixel of the image that is grey there (chroma below `GREY`) counts
    as `LOST_HUE`.
    """
    wanted, chroma = _hue(references.float())
    found, own = _hue(images.float())
    distance = ((found - wanted + 180) % 360 - 180).abs()
    distance = torch.where(own < GREY, torch.full_like(distance, LOST_HUE), distance)
    counted = chroma >= COLOURED
    return (distance * counted).sum((1, 2)) / counted.sum((1, 2)).clamp_min(1)


def farther(measure: str) -> Callable[[FloatArray, float], FloatArray]:
    """Return the comparison that says whether values of a measure are worse than a limit."""
    return np.less if measure in BETTER_IF_LARGE else np.greater


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
        that of the real images as ``real_beyond``, and whether the fidelity is ``ok``: whether
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


def limits(real: FloatArray, measure: str, quantile: float = QUANTILE) -> tuple[float, float]:
    """Return what a share of the real images keep, and what all of them keep, in a measure."""
    if measure in BETTER_IF_LARGE:
        return float(np.quantile(real, 1 - quantile)), float(real.min())
    return float(np.quantile(real, quantile)), float(real.max())


def _windowed(values: Tensor) -> Tensor:
    """Average float (n, 3, H, W) over the window at each place where it fits."""
    steps = torch.arange(_WINDOW, device=values.device, dtype=values.dtype) - _WINDOW // 2
    kernel = torch.exp(-0.5 * (steps / _SIGMA) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    rows = F.conv2d(values, kernel, groups=3)
    return F.conv2d(rows, kernel.transpose(2, 3), groups=3)


def _hue(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the hue of HSV in degrees, and the chroma: float (n, H, W) each."""
    red, green, blue = images.unbind(1)
    largest = images.amax(1)
    chroma = largest - images.amin(1)
    of_red, of_green, of_blue = green - blue, 2 * chroma + blue - red, 4 * chroma + red - green
    sixths = torch.where(red == largest, of_red, torch.where(green == largest, of_green, of_blue))
    return 60 * sixths / chroma.clamp_min(1), chroma


def _check(images: Tensor, rerenders: Tensor) -> None:
    shape = tuple(images.shape)
    if images.dtype != torch.uint8 or rerenders.dtype != torch.uint8:
        raise UsageError(f"images must be uint8, not {images.dtype} and {rerenders.dtype}")
    if shape != tuple(rerenders.shape) or len(shape) != 4 or shape[1] != 3:
        raise UsageError(f"images of shape {shape} have no re-renders of {tuple(rerenders.shape)}")
    if min(shape[2:]) < _WINDOW:
        raise UsageError(f"images of {shape[3]}x{shape[2]} pixels are too small to be compared")
