"""The terms of the divergence as U-statistics: of one factor, of a pair, and of the rest.

Arrays here keep all axes of the table of counts: one that does not depend on a factor has the
length 1 on its axis. The kernel of a set T of factors is the product over j in T of

    K_j(x, y) = 1[x_j = y_j] / q_j(x_j) - 1,

and that of the rest is 1[x = y] / q(x) - 1 less the kernels of all sets of one and two.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from shapeshd.factors import FloatArray, IntArray

from .u_statistic import UStatistic, u_statistic

Kernel = Callable[[list[Any]], Any]
"""The kernel of a set of factors, as a function of the K_j of its factors."""


class Interactions:
    """The terms of one table of counts.

    Args:
        table: int64 counts, one axis for each factor.
        weights: 1 / q_j for each factor, float64 of shape (k_j,).
    """

    def __init__(self, table: IntArray, weights: tuple[FloatArray, ...]) -> None:
        self._table = table
        self._axes = tuple(range(table.ndim))
        self._weights = [_on_axis(weight, axis, table.ndim) for axis, weight in enumerate(weights)]
        # A factor's equal weights as one: then most arrays below have one element.
        self._short = [
            weight.ravel()[:1].reshape((1,) * table.ndim) if np.ptp(weight) == 0 else weight
            for weight in self._weights
        ]
        self._marginals: dict[tuple[int, ...], IntArray] = {}

    def marginal(self, axes: tuple[int, ...]) -> IntArray:
        """Return the counts of the values of some factors (ascending), all axes kept."""
        if axes not in self._marginals:
            self._marginals[axes] = self._sum_to(axes)
        return self._marginals[axes]

    def _sum_to(self, axes: tuple[int, ...]) -> IntArray:
        missing = [axis for axis in self._axes if axis not in axes]
        if not missing:
            return self._table
        larger = tuple(sorted({*axes, missing[-1]}))
        summed: IntArray = self.marginal(larger).sum(axis=missing[-1], keepdims=True)
        return summed

    def term(self, axes: tuple[int, ...]) -> UStatistic:
        """Return Delta_T of the factors `axes` (ascending)."""
        counts = self.marginal(axes)
        return _u_statistic(
            counts, self._row_sums(axes), self._diagonal(axes), self._squares(axes, math.prod)
        )

    def rest(self) -> UStatistic:
        """Return the sum of Delta_T over all sets of three factors and more."""
        row_sums = math.prod(self._weights) * self._table - self._table.sum()
        diagonal: Any = math.prod(self._weights) - 1
        for axes in _small(self._axes):
            row_sums = row_sums - self._row_sums(axes)
            diagonal = diagonal - self._diagonal(axes)
        squares = self._squares(self._axes, _rest_kernel)
        return _u_statistic(self._table, row_sums, diagonal, squares)

    def _row_sums(self, axes: tuple[int, ...]) -> FloatArray:
        """Sum the kernel of `axes` over all samples, for every bin of their marginal table."""
        sums: FloatArray = self.marginal(axes).astype(np.float64)
        for axis in axes:
            sums = self._weights[axis] * sums - sums.sum(axis=axis, keepdims=True)
        return sums

    def _diagonal(self, axes: tuple[int, ...]) -> FloatArray:
        return np.asarray(math.prod(self._weights[axis] - 1 for axis in axes))

    def _squares(self, axes: tuple[int, ...], kernel: Kernel) -> float:
        """Sum the squared kernel over all ordered pairs of different samples.

        A pair of samples that agrees exactly on the factors A has K_j = 1/q_j - 1 for j in A
        and -1 for the others. Collisions of a marginal histogram count the pairs that agree
        on R at least; inclusion and exclusion turn the one into the other.
        """
        total = 0.0
        for agreeing in _subsets(axes):
            counts = self.marginal(agreeing)
            weight: Any = 0.0
            for exactly in _subsets(agreeing):
                kernels = [self._short[j] - 1 if j in exactly else -1.0 for j in axes]
                weight = weight + (-1) ** (len(agreeing) - len(exactly)) * kernel(kernels) ** 2
            total += float((counts * (counts - 1.0) * weight).sum())
        return total


def _rest_kernel(kernels: list[Any]) -> Any:
    """Return prod (1 + K_j) - 1 less all K_j and all K_i K_j."""
    linear = sum(kernels)
    pairs = (linear**2 - sum(kernel**2 for kernel in kernels)) / 2
    return math.prod(1 + kernel for kernel in kernels) - 1 - linear - pairs


def _u_statistic(counts: IntArray, sums: FloatArray, diagonal: Any, squares: float) -> UStatistic:
    full = np.broadcast_to(diagonal, counts.shape)
    return u_statistic(counts.ravel(), sums.ravel(), full.ravel(), squares)


def _on_axis(values: FloatArray, axis: int, ndim: int) -> FloatArray:
    return values.reshape([-1 if other == axis else 1 for other in range(ndim)])


def _small(axes: tuple[int, ...]) -> Iterable[tuple[int, ...]]:
    """Return all sets of one and of two factors."""
    return [*itertools.combinations(axes, 1), *itertools.combinations(axes, 2)]


def _subsets(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.chain.from_iterable(
        itertools.combinations(axes, size) for size in range(len(axes) + 1)
    )
