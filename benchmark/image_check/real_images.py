"""Real images of known factors, read and rendered again, with which a source is compared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.fidelity.measure import REAL_SEED
from shapeshd.benchmark.fidelity.rerender import DEFAULT_ENGINE, Renderer
from shapeshd.benchmark.fidelity.residual import residuals
from shapeshd.benchmark.recognizer.reader import Reader, precision_in_use
from shapeshd.distribution import Distribution
from shapeshd.factors import FACTORS, FloatArray, bin_indices, from_unit, unit_numbers
from shapeshd.images.resize import resized
from shapeshd.scene.sampling import make_sampling

_PLACES_SEED = REAL_SEED + 1  # where in its bin the second image of a pair lies
_cached: dict[tuple[object, ...], RealImages] = {}


class RealImages(NamedTuple):
    """Real images, n, as the recognizer sees them; two of each joint bin follow each other.

    Attributes:
        factors: float64 (n, 6), the true ones.
        images: uint8 (n, 3, S, S).
        residuals: float64 (n, 4), see `residuals`.
    """

    factors: FloatArray
    images: Tensor
    residuals: FloatArray

    def __len__(self) -> int:
        return len(self.factors)


class Rerender:
    """Renders factors as the recognizer sees a source's images.

    Args:
        side: width and height of the source's images, pixels: the size of the render.
        size: of the recognizer's images, to which it is brought as they are.
        device: where to render.
    """

    def __init__(self, side: int, size: int, device: torch.device) -> None:
        self.side, self.size = side, size
        self._renderer = Renderer(DEFAULT_ENGINE, side, device)

    def __call__(self, factors: FloatArray) -> Tensor:
        """Return images of factors (n, 6): uint8 (n, 3, size, size), on the CPU."""
        return resized(self._renderer(within_ranges(factors)), self.size).cpu()


def within_ranges(factors: FloatArray) -> FloatArray:
    """Return factors (n, 6) inside their ranges, in the bins in which they are counted."""
    inside = np.array(factors, dtype=np.float64)
    for column, factor in enumerate(FACTORS):
        if factor.topology == "circle":
            inside[:, column] = np.mod(inside[:, column] - factor.low, factor.period) + factor.low
        elif factor.topology == "discrete":
            inside[:, column] = np.rint(inside[:, column])
        inside[:, column] = inside[:, column].clip(factor.low, factor.high)
    return inside


def explained_share(images: Tensor, rerenders: Tensor) -> FloatArray:
    """Return the share of the variance of each image that its re-render explains: (n,), <= 1.

    1 - |x - r|^2 / |x - mean|^2, the mean that of each channel; 0 of an image of one colour.
    """
    x, r = images.double(), rerenders.double()
    whole = (x - x.mean((2, 3), keepdim=True)).square().sum((1, 2, 3))
    left = (x - r).square().sum((1, 2, 3))
    return torch.where(whole > 0, 1 - left / whole.clamp_min(1e-9), 0.0).numpy()


def real_images(
    count: int, reader: Reader, rerender: Rerender, distribution: Distribution | None = None
) -> RealImages:
    """Make real images, two of each joint bin, let them be read, and render them again.

    Args:
        count: how many, an even number.
        reader: reads factors.
        rerender: renders them.
        distribution: of the bins; by default the uniform one.
    """
    key = (
        count, reader.name, reader.digest, precision_in_use(reader), reader.size, rerender.side,
        None if distribution is None else distribution.digest,
    )  # fmt: skip
    if reader.digest and key in _cached:
        return _cached[key]
    factors = paired_factors(count, distribution)
    images = rerender(factors)
    again = rerender(np.asarray(reader(images), dtype=np.float64))
    found = RealImages(factors, images, residuals(images, again))
    if reader.digest:
        _cached.clear()  # one is enough: scores of one kind follow each other
        _cached[key] = found
    return found


def paired_factors(count: int, distribution: Distribution | None = None) -> FloatArray:
    """Return factors (count, 6) of which rows 2 j and 2 j + 1 lie in one joint bin.

    The bins are drawn from the distribution, the place in a bin uniformly.
    """
    pairs = count // 2
    first = make_sampling("uniform", seed=REAL_SEED, distribution=distribution).factors(0, pairs)
    places = unit_numbers(_PLACES_SEED, 0, pairs)
    shape = np.array([factor.bins for factor in FACTORS])
    second = from_unit((bin_indices(first) + places) / shape)
    return np.stack([first, second], axis=1).reshape(-1, len(FACTORS))
