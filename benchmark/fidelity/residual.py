"""How far an image is from the rendering of its own recognised factors.

A recognizer says which scene an image shows; rendered again, that scene is what the image should
look like. So quality is measured for every single image, which no statistic of features can do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray

MEASURES = ("rmse", "psnr", "ssim", "hue")
"""Columns of `residuals`: RMSE in levels of 8 bits, PSNR in dB, SSIM, hue error in degrees."""

BETTER_IF_LARGE = ("psnr", "ssim")

COLOURED, GREY = 64, 16
"""Chroma (largest channel - smallest, in levels of 8 bits) from which a pixel of a re-render
counts for the hue, and below which a pixel of an image has none."""

LOST_HUE = 90.0
"""Degrees counted for a pixel that should have a hue and has none: the mean of a random one."""

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
        parts.append(torch.stack([column.double().cpu() for column in columns], 1).numpy())
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
