"""Attenuation factors: the share of a divergence that is left after the recognizer's errors.

Let C be the confusion of a factor with k bins, rows normalised: C[i, j] is the probability that
bin i is read as j. A source whose density is 1 + g (g of mean 0) is seen with the density
1 + C^T g, so that its divergence |g|^2 / k becomes |C^T g|^2 / k. If g is noise over all bins,
alike in all k - 1 directions of mean 0, the share

    a = |P C P|_F^2 / (k - 1),    P the projection onto mean 0,

is left on average; it is (|C|_F^2 - 1) / (k - 1) where the columns of C add up to 1 too. If
errors in the factors are independent of each other, the confusion of a set T is the Kronecker
product, and its term Delta_T keeps the product of the shares. The true divergence is then
sum Delta_T / a_T. Smooth deviations lose less than noise, since errors lead to neighbours.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shapeshd.errors import UsageError

from .decomposition import Decomposition
from .interactions import ORDER

MEANING = (
    "The share of a divergence that is left after the recognizer's errors, if it is noise over "
    "all bins; smooth deviations keep more. The divergence in this result is the one that is "
    "seen, not divided by the share."
)
_LEAST = 1e-9


def attenuation_factor(confusion: npt.ArrayLike) -> float:
    """Return the attenuation factor of a factor's confusion: the share of its divergence left.

    It lies in [0, 1].

    Args:
        confusion: (k, k) images of the true bin (row) that were read as another (column).

    Raises:
        UsageError: if it is no such table, or a bin has no image.
    """
    table = np.asarray(confusion, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 2:
        raise UsageError(f"a confusion has the shape (k, k), k >= 2, not {table.shape}")
    images = table.sum(axis=1, keepdims=True)
    if not (np.isfinite(table).all() and table.min() >= 0 and images.min() > 0):
        raise UsageError("a confusion holds counts >= 0, with an image in every row")
    rows = table / images  # P C P = C less the mean of its columns, for rows of total 1
    centred = rows - rows.mean(axis=0)
    return float((centred**2).sum()) / (len(table) - 1)


def attenuation(confusions: Mapping[str, npt.ArrayLike], parts: Decomposition) -> dict[str, Any]:
    """Return the shares left of each factor's noise, of noise over joint bins, and of this D.

    Args:
        confusions: of every factor by name.
        parts: the decomposition of the source as it is seen.

    Returns:
        ``factors`` by name, ``joint``, ``of_this_source`` (None where D is not above 0) and
        ``meaning``.
    """
    shares = {name: attenuation_factor(table) for name, table in confusions.items()}
    freedom = {name: len(np.asarray(table)) - 1 for name, table in confusions.items()}
    names = list(shares)
    # Of noise over all bins a set T holds prod (k_f - 1) directions: the coefficients of
    # prod (1 + (k_f - 1) z), by the number of factors in T.
    kept, every = (
        functools.reduce(np.convolve, [np.array([1.0, one[name]]) for name in names])
        for one in ({name: shares[name] * freedom[name] for name in names}, freedom)
    )
    many = float(every[ORDER + 1 :].sum())
    rest = float(kept[ORDER + 1 :].sum()) / many if many else 1.0
    seen = true = 0.0
    for part in parts.parts:
        share = math.prod(shares[name] for name in part.factors) if part.factors else rest
        seen += part.delta.reported
        true += part.delta.reported / max(share, _LEAST)
    return {
        "factors": shares,
        "joint": float(kept[1:].sum() / every[1:].sum()),
        "of_this_source": seen / true if parts.total.low > 0 and true > 0 else None,
        "meaning": MEANING,
    }
