"""Measures how far the codes of data are from the prior, which section 4 claims to be near."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

_DIRECTIONS = 256


@dataclass(frozen=True)
class PosteriorDistance:
    """Distances of the aggregate posterior from N(0, I), from n codes of d components.

    Beside each stands its floor: the value that n codes of N(0, I) have themselves.

    Attributes:
        codes: n.
        mean: norm of the mean; `mean_floor` = sqrt(d / n).
        covariance: Frobenius norm of the covariance less I; `covariance_floor` =
            sqrt(d (d + 1) / n).
        sliced: sliced Wasserstein-2 distance: the root of the mean square, over 256 random
            directions, of the distance along a direction to N(0, 1), whose quantiles are known;
            `sliced_floor`: that of N(0, I)'s own codes, drawn once.
    """

    codes: int
    mean: float
    mean_floor: float
    covariance: float
    covariance_floor: float
    sliced: float
    sliced_floor: float

    def to_json(self) -> dict[str, float]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def posterior_distance(codes: Tensor, seed: int = 0) -> PosteriorDistance:
    """Measure the distance of codes from N(0, I).

    Args:
        codes: (n, d), independent.
        seed: of the directions, and of the codes of N(0, I) for the floor.
    """
    codes = codes.cpu().double()  # MPS has no float64
    n, d = codes.shape
    rng = torch.Generator().manual_seed(seed)
    directions = torch.randn(d, _DIRECTIONS, generator=rng, dtype=torch.float64)
    directions /= directions.norm(dim=0)
    prior = torch.randn(n, d, generator=rng, dtype=torch.float64)
    return PosteriorDistance(
        codes=n,
        mean=float(codes.mean(0).norm()),
        mean_floor=math.sqrt(d / n),
        covariance=float((codes.T.cov() - torch.eye(d, dtype=torch.float64)).norm()),
        covariance_floor=math.sqrt(d * (d + 1) / n),
        sliced=sliced_wasserstein(codes, directions),
        sliced_floor=sliced_wasserstein(prior, directions),
    )


def sliced_wasserstein(codes: Tensor, directions: Tensor) -> float:
    """Return the sliced Wasserstein-2 distance of codes from N(0, I).

    Args:
        codes: float64 (n, d).
        directions: float64 (d, m), columns of length 1.
    """
    n = len(codes)
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    quantiles = math.sqrt(2) * torch.erfinv(2 * levels - 1)
    along = (codes @ directions).sort(dim=0).values
    return float((along - quantiles[:, None]).square().mean().sqrt())
