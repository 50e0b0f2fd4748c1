"""The mutual information gap (MIG) of codes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray, IntArray

_PARTS = 20  # that the images are cut into for the standard error


class InformationGap(NamedTuple):
    """The gap of each factor, and their mean.

    Attributes:
        mean: over the factors, in [0, 1].
        standard_error: of that mean, over draws of the images.
        gaps: (factors,), each in [0, 1].
        best: int (factors,), the component of a code that knows most of each factor.
        information: (components, factors), mutual information over the factor's entropy.
    """

    mean: float
    standard_error: float
    gaps: FloatArray
    best: IntArray
    information: FloatArray


def mutual_information_gap(
    codes: FloatArray, factors: FloatArray, bins: int = 20
) -> InformationGap:
    """Return the mutual information gap (Chen et al. 2018, arXiv:1802.04942, equation 6).

    The gap of a factor v is (I(z_a; v) - I(z_b; v)) / H(v), where a is the component of the code
    with the largest mutual information and b the next. As in Locatello et al. 2019
    (arXiv:1811.12359), information is that of a table of counts: a component is cut into bins of
    equal width between its extremes, and so is a factor of more than `bins` different values.
    Counts of n images overestimate information by about (bins - 1)^2 / (2 n) nats, the first and
    the second component alike. The standard error is a jackknife's, of 20 groups of images.

    A hue that is encoded as a point on a circle has two components that know equally much of it,
    and a gap near 0, though nothing is entangled: see `dci`.

    Args:
        codes: (n, d), n >= 20 and d >= 2.
        factors: (n, k); one that has a single value has no entropy and is refused.
        bins: for a component, at least 2.

    Raises:
        UsageError: if a shape is another, a number is not finite, or a factor does not vary.
    """
    check_codes(codes, factors)
    cut = np.stack([_bins_of(column, bins) for column in codes.T], 1)
    classes = np.stack([classes_of(column, bins) for column in factors.T], 1)
    tables = _tables(cut, classes, bins)
    gaps, best, information = _gaps(tables)
    group = np.arange(len(codes)) % _PARTS
    left = [
        _gaps(tables - _tables(cut[group == part], classes[group == part], bins))[0].mean()
        for part in range(_PARTS)
    ]
    error = np.sqrt((_PARTS - 1) * np.var(left))
    return InformationGap(float(gaps.mean()), float(error), gaps, best, information)


def check_codes(codes: FloatArray, factors: FloatArray) -> None:
    """Raise `UsageError` unless codes (n, d) and factors (n, k) can be compared."""
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise UsageError(
            f"codes must be (n, d) and factors (n, k), not {codes.shape} and {factors.shape}"
        )
    if codes.shape[1] < 2:
        raise UsageError(f"codes must have at least 2 components, not {codes.shape[1]}")
    if len(codes) < _PARTS:
        raise UsageError(f"{len(codes)} images are too few: give at least {_PARTS}")
    if not np.isfinite(codes).all():
        row, column = np.argwhere(~np.isfinite(codes))[0]
        raise UsageError(f"component {column} of code {row} is {codes[row, column]}")
    fixed = np.flatnonzero((factors == factors[0]).all(0))
    if len(fixed):
        raise UsageError(f"factor {fixed[0]} has the value {factors[0, fixed[0]]:g} in all images")


def classes_of(values: FloatArray, bins: int) -> IntArray:
    """Number the values of a factor: the different ones, if they are at most `bins`, else bins."""
    different, numbers = np.unique(values, return_inverse=True)
    if len(different) <= bins:
        return numbers.reshape(-1).astype(np.int64)
    return _bins_of(values, bins)


def _bins_of(values: FloatArray, bins: int) -> IntArray:
    """Number the bins of equal width between the extremes; of one value alone all are in bin 0."""
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(len(values), dtype=np.int64)
    numbers = np.floor((values - low) / (high - low) * bins)
    return np.minimum(numbers, bins - 1).astype(np.int64)


def _tables(cut: IntArray, classes: IntArray, bins: int) -> npt.NDArray[np.int64]:
    """Count components against factors: (d, k, bins, bins)."""
    components, factors = cut.shape[1], classes.shape[1]
    tables = np.empty((components, factors, bins, bins), dtype=np.int64)
    for component in range(components):
        for factor in range(factors):
            cells = cut[:, component] * bins + classes[:, factor]
            counts = np.bincount(cells, minlength=bins * bins)
            tables[component, factor] = counts.reshape(bins, bins)
    return tables


def _gaps(tables: npt.NDArray[np.int64]) -> tuple[FloatArray, IntArray, FloatArray]:
    total = tables[0, 0].sum()
    of_factors = entropy(tables[0].sum(1) / total)
    of_codes = entropy(tables[:, 0].sum(2) / total)
    joint = entropy((tables / total).reshape(*tables.shape[:2], -1))
    information = np.maximum(of_codes[:, None] + of_factors - joint, 0) / of_factors
    order = np.argsort(information, 0)
    columns = np.arange(information.shape[1])
    gaps = information[order[-1], columns] - information[order[-2], columns]
    return gaps, order[-1], information


def entropy(probabilities: FloatArray, axis: int = -1) -> FloatArray:
    """Return the entropy along an axis, nats; 0 of probabilities that are all 0."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    return np.asarray(-(probabilities * logs).sum(axis), dtype=np.float64)
