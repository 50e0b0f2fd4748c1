"""Decides which images a generator cannot make, from what a projection leaves of them.

An image counts as one that cannot be generated if

- a factor of its projection, as the recognizer reads it, lies in another bin than the true factor
  and is further from it than the recognizer errs; or
- its residual is above a limit: one that is given, or else the outer fence of the residuals,
  Q3 + 3 (Q3 - Q1) with Q1 and Q3 their quartiles, which Tukey calls far out; but never less than
  what the search leaves of the generator's own samples.

How far the recognizer errs is, of each factor, the largest error on the held-out images of its
card, or on the very images that are projected if that is larger (they may have been resized), but
half a bin at most. A factor that it errs by more in the original itself is not compared there.
The fence finds a few images that stand out; where a quarter of them or more fail, none does, and
the factors, or a limit, must tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shapeshd.benchmark.recognizer.card import Accuracy
from shapeshd.factors import FACTORS, FloatArray, bin_indices

_DEGREES = 360.0  # in a turn, which a card gives the errors of hues in
_FENCE = 3.0

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class FactorComparison:
    """The factors of projections, compared with the true ones.

    Attributes:
        errors: (6,), how far the recognizer errs, in the factors' own units; 0 for the shape.
        compared: (n, 6), whether the recognizer reads the factor in the original.
        wrong: (n, 6), whether the factor is in another bin by more than that; false where it is
            not compared.
    """

    errors: FloatArray
    compared: BoolArray
    wrong: BoolArray


@dataclass(frozen=True)
class ResidualLimit:
    """The residual above which an image counts as not generated.

    Attributes:
        rmse: it, levels of 0 to 255.
        source: what set it: "given" by the user, the outer "fence" of the images' residuals, or
            the largest residual of the "reference", the generator's own samples.
    """

    rmse: float
    source: Literal["given", "fence", "reference"]

    def to_json(self) -> dict[str, Any]:
        """Return it as ``result.json`` holds it."""
        return {"rmse": self.rmse, "from": self.source}


def compare_factors(
    truth: FloatArray,
    original: FloatArray,
    projected: FloatArray,
    accuracy: Accuracy | None = None,
) -> FactorComparison:
    """Compare the factors of projections with the true ones; see the module.

    Args:
        truth: (n, 6).
        original: (n, 6), what the recognizer reads in the images themselves.
        projected: (n, 6), what it reads in their projections.
        accuracy: of the recognizer, as its card has it; None if that is not known.
    """
    off = factor_distance(original, truth)
    half = np.array([0.0 if f.topology == "discrete" else f.period / f.bins / 2 for f in FACTORS])
    compared = off <= half
    seen = np.where(compared, off, 0.0).max(axis=0, initial=0.0)
    errors = np.minimum(half, np.maximum(seen, _card_errors(accuracy)))
    other = bin_indices(projected) != bin_indices(truth)
    wrong = compared & other & (factor_distance(projected, truth) > errors)
    return FactorComparison(errors, compared, wrong)


def factor_distance(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the distances of factors: (n, 6), along the shorter way where they are circular."""
    distance = np.abs(a - b)
    for column, factor in enumerate(FACTORS):
        if factor.topology == "circle":
            turned = distance[:, column] % factor.period
            distance[:, column] = np.minimum(turned, factor.period - turned)
    return distance


def outer_fence(residuals: FloatArray) -> float:
    """Return the residual above which Tukey calls one far out: Q3 + 3 (Q3 - Q1)."""
    first, third = np.quantile(residuals, (0.25, 0.75))
    return float(third + _FENCE * (third - first))


def choose_limit(
    residuals: FloatArray, own: FloatArray, given: float | None = None
) -> ResidualLimit:
    """Return the residual above which an image counts as not generated; see the module.

    Args:
        residuals: of the images, n >= 1.
        own: of the generator's own samples, which it certainly makes; may be none.
        given: by the user; None for the larger of the outer fence and the largest of `own`.
    """
    if given is not None:
        return ResidualLimit(given, "given")
    fence, largest = outer_fence(residuals), float(own.max(initial=0.0))
    return ResidualLimit(largest, "reference") if largest > fence else ResidualLimit(fence, "fence")


def _card_errors(accuracy: Accuracy | None) -> FloatArray:
    """Return the largest errors in a card, in the factors' own units; 0 where there is none."""
    errors = np.zeros(len(FACTORS))
    by_name = (accuracy.factors if accuracy else None) or {}
    for column, factor in enumerate(FACTORS):
        found = by_name.get(factor.name)
        if found is not None and (value := found.largest_error) is not None:
            errors[column] = value / (_DEGREES if factor.unit == "turn" else 1.0)
    return errors
