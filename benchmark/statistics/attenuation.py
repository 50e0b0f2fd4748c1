"""Attenuation factors: the share of a divergence that is left after the recognizer's errors.

Let C be the confusion of a factor with k bins, rows normalised: C[i, j] is the probability that
bin i is read as j. A source whose density is 1 + g (g of mean 0) is seen with the density
1 + C^T g, so that its divergence |g|^2 / k becomes |C^T g|^2 / k. If g is noise over all bins,
alike in all k - 1 directions of mean 0, the share

    a = |P C P|_F^2 / (k - 1),    P the projection onto mean 0,

is left on average; it is (|C|_F^2 - 1) / (k - 1) where the columns of C add up to 1 too. If
errors in the factors are independent of each other, the confusion of a set T is the Kronecker
product, and its term Delta_T keeps the product of the shares. The true divergence is then
sum Delta_T / a_T. Smooth deviations lose less than noise, since errors lead to neighbours. A
pattern that alternates from bin to bin loses more: at least the square of the smallest singular
value of P C P over mean 0 is left.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray

from .decomposition import Decomposition
from .interactions import ORDER

MEANING = (
    "The share of a divergence that is left after the recognizer's errors, on average if it is "
    "noise over all bins, and at least, for the pattern that loses most, such as one that "
    "alternates from bin to bin; smooth deviations keep more than the average. The divergence in "
    "this result is the one that is seen, not divided by the share."
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
    centred = _centred(confusion)
    return float((centred**2).sum()) / (len(centred) - 1)


def least_attenuation_factor(confusion: npt.ArrayLike) -> float:
    """Return the share of a factor's divergence that is left of the pattern that loses most.

    It lies in [0, 1].

    Args:
        confusion: as `attenuation_factor` takes it.

    Raises:
        UsageError: if it is no such table, or a bin has no image.
    """
    sizes = np.linalg.svd(_centred(confusion), compute_uv=False)
    return float(sizes[-2]) ** 2  # the last one, 0, is that of the mean


def _centred(confusion: npt.ArrayLike) -> FloatArray:
    """Return P C P."""
    table = np.asarray(confusion, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 2:
        raise UsageError(f"a confusion has the shape (k, k), k >= 2, not {table.shape}")
    images = table.sum(axis=1, keepdims=True)
    if not (np.isfinite(table).all() and table.min() >= 0 and images.min() > 0):
        raise UsageError("a confusion holds counts >= 0, with an image in every row")
    rows = table / images  # P C P = C less the mean of its columns, for rows of total 1
    return np.asarray(rows - rows.mean(axis=0))


def attenuation(confusions: Mapping[str, npt.ArrayLike], parts: Decomposition) -> dict[str, Any]:
    """Return the shares left of each factor's noise, of noise over joint bins, and of this D.

    Args:
        confusions: of every factor by name.
        parts: the decomposition of the source as it is seen.

    Returns:
        ``factors`` by name, ``joint``, ``of_this_source`` (None where D is not above 0), each also
        with ``least_``, of the pattern that loses most; and ``meaning``.
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
    least = {name: least_attenuation_factor(table) for name, table in confusions.items()}
    least_joint = math.prod(least.values())
    return {
        "factors": shares,
        "joint": float(kept[1:].sum() / every[1:].sum()),
        "of_this_source": _of(parts, shares, rest),
        "least_factors": least,
        "least_joint": least_joint,
        "least_of_this_source": _of(parts, least, least_joint),
        "meaning": MEANING,
    }


def _of(parts: Decomposition, shares: Mapping[str, float], higher_order: float) -> float | None:
    seen = true = 0.0
    for part in parts.parts:
        share = math.prod(shares[name] for name in part.factors) if part.factors else higher_order
        seen += part.delta.reported
        true += part.delta.reported / max(share, _LEAST)
    return seen / true if parts.total.low > 0 and true > 0 else None
