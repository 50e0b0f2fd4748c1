"""Tests of independence on tables of counts, also where values are rare.

Pearson's X^2 = sum (n_i - m_i)^2 / m_i follows its chi-square distribution only where the expected
counts m_i are not small; where they are far below 1 it rejects far too often. So rare values of
a factor are put together, rarest first, until every expected count is large enough: `ENOUGH` for
two factors; `ENOUGH_OF_THREE` for three, whose tables have many cells of which none weighs much.
Put together after the fit, the counts still agree with the fit on the margins, so that X^2
is at most what the chi-square distribution with the degrees of freedom of the smaller table says.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from shapeshd.factors import FloatArray, IntArray

ENOUGH = 5.0
ENOUGH_OF_THREE = 1.0
DIGITS = 6  # of expected counts that decide; rounding errors lie far below
_FITS, _FITTED = 200, 1e-3  # rounds of scaling; counts that a margin may be off


def independence_p_value(table: IntArray) -> float:
    """Return the p-value of the independence of the two axes of a table.

    Pearson's test; Fisher's exact one if two values of each factor are left and a count smaller
    than `ENOUGH` is expected. Rows and columns without a sample do not count; 1 where only
    one is left.
    """
    counts = _without_empty(table)
    if min(counts.shape) < 2:
        return 1.0
    counts, expected = pooled(counts, _independent(counts), ENOUGH)
    if expected.min().round(DIGITS) < ENOUGH:
        return float(scipy.stats.fisher_exact(counts).pvalue)
    freedom = math.prod(size - 1 for size in counts.shape)
    return float(scipy.stats.chi2.sf(pearson(counts, expected), freedom))


def three_way_p_value(table: IntArray) -> float:
    """Return the p-value of no interaction of three factors beyond those of their pairs.

    The expected counts are those of the most likely table of the form f(a, b) g(a, c) h(b, c): of
    iterated proportional scaling to the three margins of pairs (Deming and Stephan 1940). 1 where
    counts are too small even with two values of each factor.

    Args:
        table: counts, int64 of shape (k_a, k_b, k_c).
    """
    counts = _without_empty(table)
    if min(counts.shape) < 2:
        return 1.0
    counts, expected = pooled(counts, _without_three_way(counts), ENOUGH_OF_THREE)
    if expected[expected > 0].min().round(DIGITS) < ENOUGH_OF_THREE:
        return 1.0
    freedom = math.prod(size - 1 for size in counts.shape)
    return float(scipy.stats.chi2.sf(pearson(counts, expected), freedom))


def pearson(counts: IntArray, expected: FloatArray) -> float:
    """Return Pearson's X^2 over the cells of which anything is expected."""
    possible = expected > 0
    return float(((counts - expected)[possible] ** 2 / expected[possible]).sum())


def pooled(counts: IntArray, expected: FloatArray, enough: float) -> tuple[IntArray, FloatArray]:
    """Put rare values together until `enough` is expected in every cell, or two values are left.

    The cell of the smallest expected count, not 0, joins its rarest line (of those along which
    more than two are left) with the next rarest one. Sums that are equal but for rounding count as
    equal, and the first one is taken: else the last bit of a sum would decide.

    Args:
        counts: int64, any number of axes of length 2 at least.
        expected: float64 of that shape, with the same sums along each axis.
        enough: smallest expected count.
    """
    while True:
        cell = np.unravel_index(
            int(np.argmin(np.where(expected > 0, expected, np.inf).round(DIGITS))), expected.shape
        )
        axes = [axis for axis in range(expected.ndim) if expected.shape[axis] > 2]
        if expected[cell].round(DIGITS) >= enough or not axes:
            return counts, expected
        sums = {axis: _line_sums(expected, axis).round(DIGITS) for axis in axes}
        axis = min(axes, key=lambda one: float(sums[one][cell[one]]))
        order = np.argsort(sums[axis], kind="stable")
        other = next(int(line) for line in order if line != cell[axis])
        line = int(cell[axis])
        counts, expected = (_joined(one, axis, line, other) for one in (counts, expected))


def _joined(table: np.ndarray, axis: int, line: int, other: int) -> np.ndarray:
    joined = np.moveaxis(table, axis, 0).copy()
    joined[other] += joined[line]
    return np.moveaxis(np.delete(joined, line, axis=0), 0, axis)


def _line_sums(table: np.ndarray, axis: int) -> np.ndarray:
    sums: np.ndarray = table.sum(axis=tuple(one for one in range(table.ndim) if one != axis))
    return sums


def _without_empty(table: IntArray) -> IntArray:
    kept = [np.flatnonzero(_line_sums(table, axis)) for axis in range(table.ndim)]
    return table[np.ix_(*kept)]


def _independent(counts: IntArray) -> FloatArray:
    rows, columns = (_line_sums(counts, axis) for axis in (0, 1))
    return np.multiply.outer(rows, columns / counts.sum())


def _without_three_way(counts: IntArray) -> FloatArray:
    margins = [counts.sum(axis=axis, keepdims=True) for axis in range(3)]
    fitted = np.full(counts.shape, counts.sum() / counts.size)
    for _ in range(_FITS):
        off = 0.0
        for axis, margin in enumerate(margins):
            now = fitted.sum(axis=axis, keepdims=True)
            off = max(off, float(np.abs(now - margin).max()))
            fitted = fitted * (margin / np.where(now > 0, now, 1.0))
        if off <= _FITTED:
            break
    return fitted
