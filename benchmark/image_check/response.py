"""How a source's images come from the images of their factors: a linear response, and a remainder.

An image x that the recognizer reads as the factors f is taken as

    x = h * R(f) + e

with the re-render R(f), one linear filter h for the luma and each chroma of all images of the
source (with a constant), fitted by least squares, and a remainder e of each image. Blur, gain,
shift and chroma subsampling are in h, noise and compression artefacts in e. Then h * R(g) + e is an
image of known factors g with the differences of the source.

Why not add x - R(f) to R(g)? Of a blurred image that difference lies along the edges of f, where g
has none. And why other factors than f? The recognizer read f from x, so what it misread is in R(f)
and missing in e: near f the sum would be read as if nothing were wrong.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = 5
"""Width and height of the filter, pixels."""
_FITTED_PIXELS = 2**18
_MIDDLE = 128.0
_RIDGE = 1e-4  # towards the filter that changes nothing, of the mean square of a pixel
# Of ITU-R BT.601, as JPEG has them.
_TO_LUMA = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class Response(NamedTuple):
    """A linear response.

    Attributes:
        filters: float32 (3, `TAPS`, `TAPS`), of the luma and the two chroma.
        constants: float32 (3,), levels.
    """

    filters: Tensor
    constants: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Return what becomes of uint8 (n, 3, H, W): float32 of the same shape, levels."""
        padded = F.pad(_luma(images), (TAPS // 2,) * 4, mode="replicate")
        filtered = F.conv2d(padded, self.filters[:, None], self.constants, groups=3)
        return torch.einsum("ij,njhw->nihw", torch.linalg.inv(_matrix()), filtered)

    @property
    def gain(self) -> float:
        """By how much the luma of a plain area is multiplied."""
        return float(self.filters[0].sum())

    @property
    def shift(self) -> tuple[float, float]:
        """By how many pixels images are moved to the right and down: the filter's centroid."""
        return _moment(self.filters[0].sum(0), 1), _moment(self.filters[0].sum(1), 1)

    @property
    def blur(self) -> float:
        """Standard deviation of the filter, pixels; 0 of one that sharpens."""
        variances = [
            _moment(line, 2) - _moment(line, 1) ** 2
            for line in (self.filters[0].sum(0), self.filters[0].sum(1))
        ]
        return math.sqrt(max(sum(variances) / 2, 0.0))


def fit_response(images: Tensor, rerenders: Tensor) -> Response:
    """Fit the response by which images come from their re-renders.

    Args:
        images: uint8 (n, 3, H, W).
        rerenders: of their factors, the same shape.
    """
    count = max(1, _FITTED_PIXELS // (images.shape[-1] * images.shape[-2]))
    x, r = _luma(images[:count]), _luma(rerenders[:count])
    filters, constants = [], []
    for channel in range(3):
        taps = _taps(r[:, channel])
        # The constant in units of a middle level, so that the ridge weighs it as it does a tap.
        columns = torch.cat([taps, torch.full_like(taps[:, :1], _MIDDLE)], 1).double()
        products = columns.T @ columns
        prior = torch.zeros(len(products), dtype=torch.float64)
        prior[TAPS * TAPS // 2] = 1
        ridge = _RIDGE * float(products.diagonal().mean()) + 1e-9
        solved = torch.linalg.solve(
            products + ridge * torch.eye(len(products), dtype=torch.float64),
            columns.T @ x[:, channel].reshape(-1).double() + ridge * prior,
        ).float()
        filters.append(solved[:-1].reshape(TAPS, TAPS))
        constants.append(_MIDDLE * solved[-1])
    return Response(torch.stack(filters), torch.stack(constants))


def _matrix() -> Tensor:
    return torch.tensor(_TO_LUMA)


def _luma(images: Tensor) -> Tensor:
    """Return luma and chroma of RGB images."""
    return torch.einsum("ij,njhw->nihw", _matrix(), images.float())


def _taps(channel: Tensor) -> Tensor:
    """Return what lies around each pixel of (n, H, W): (n H W, TAPS^2)."""
    padded = F.pad(channel[:, None], (TAPS // 2,) * 4, mode="replicate")
    return F.unfold(padded, TAPS).transpose(1, 2).reshape(-1, TAPS * TAPS)


def _moment(weights: Tensor, power: int) -> float:
    """Return the mean power of the distance from the middle, weighted."""
    total = float(weights.sum())
    if abs(total) < 1e-6:
        return 0.0
    # The filter looks to where the value comes from, which is against the shift.
    steps = -(torch.arange(len(weights)) - len(weights) // 2).float()
    return float((weights * steps**power).sum()) / total
