"""The terms of the divergence under independent factors, as U-statistics.

There is a term of each factor, of each pair, of each three factors, and one of the higher-order
interactions, four factors and more.
Arrays here keep all axes of the table of counts: one that does not depend on a factor has the
length 1 on its axis. The kernel of a set T of factors is the product over j in T of

    K_j(x, y) = 1[x_j = y_j] / q_j(x_j) - 1,

and that of the higher-order interactions is 1[x = y] / q(x) - 1 less the kernels of all sets of
one, two and three.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray, IntArray

from .histogram import check_distribution
from .intervals import UStatistic, u_statistic

_TOLERANCE = 1e-6  # relative, of a cell from the product of its margins

ORDER = 3
"""Sets of up to so many factors have a term of their own."""

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
            counts,
            self._row_sums(axes),
            self._diagonal(axes),
            self._squares(axes, math.prod),
            self._dimensions(axes),
        )

    def higher_order(self) -> UStatistic:
        """Return the sum of Delta_T over all sets of more than `ORDER` factors."""
        if len(self._axes) <= ORDER:
            return UStatistic(int(self._table.sum()), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        row_sums = math.prod(self._weights) * self._table - self._table.sum()
        diagonal: Any = math.prod(self._weights) - 1
        dimensions = self._table.size - 1.0
        for axes in _small(self._axes):
            row_sums = row_sums - self._row_sums(axes)
            diagonal = diagonal - self._diagonal(axes)
            dimensions -= self._dimensions(axes)
        squares = self._squares(self._axes, _higher_order_kernel)
        return _u_statistic(self._table, row_sums, diagonal, squares, dimensions)

    def _dimensions(self, axes: tuple[int, ...]) -> float:
        return math.prod(self._table.shape[axis] - 1.0 for axis in axes)

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


def _higher_order_kernel(kernels: list[Any]) -> Any:
    """Return prod (1 + K_j) - 1 less the products of all K_j of up to `ORDER` factors."""
    symmetric: list[Any] = [1.0] + [0.0] * ORDER  # elementary symmetric polynomials
    for kernel in kernels:
        for degree in range(ORDER, 0, -1):
            symmetric[degree] = symmetric[degree] + kernel * symmetric[degree - 1]
    return math.prod(1 + kernel for kernel in kernels) - sum(symmetric)


def _u_statistic(
    counts: IntArray, sums: FloatArray, diagonal: Any, squares: float, dimensions: float
) -> UStatistic:
    full = np.broadcast_to(diagonal, counts.shape)
    return u_statistic(counts.ravel(), sums.ravel(), full.ravel(), squares, dimensions=dimensions)


def _on_axis(values: FloatArray, axis: int, ndim: int) -> FloatArray:
    return values.reshape([-1 if other == axis else 1 for other in range(ndim)])


def _small(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield all sets of one to `ORDER` factors."""
    return itertools.chain.from_iterable(
        itertools.combinations(axes, size) for size in range(1, ORDER + 1)
    )


def _subsets(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.chain.from_iterable(
        itertools.combinations(axes, size) for size in range(len(axes) + 1)
    )


@dataclass(frozen=True, eq=False)
class ProductDistribution:
    """A distribution under which the factors are independent, q(x) = product of q_j(x_j).

    Attributes:
        marginals: for each factor its probabilities, float64 of shape (k_j,), >= 0, total 1.
    """

    marginals: tuple[FloatArray, ...]

    @property
    def weights(self) -> tuple[FloatArray, ...]:
        """1 / q_j for each factor, of shape (k_j,), and exactly k_j where it is uniform."""
        return tuple(
            np.full(len(q), float(len(q))) if np.ptp(q) == 0 else 1 / q for q in self.marginals
        )

    def restricted(
        self, table: IntArray, names: Sequence[str]
    ) -> tuple[ProductDistribution, IntArray]:
        """Drop the values of probability 0 from the distribution and from a table of counts.

        Raises:
            UsageError: if such a value holds samples, or only one value of a factor is left.
        """
        kept = []
        for axis, (q, name) in enumerate(zip(self.marginals, names, strict=True)):
            others = tuple(other for other in range(table.ndim) if other != axis)
            held = np.where(q > 0, 0, table.sum(axis=others))
            if held.any():
                value = int(np.argmax(held > 0))
                raise UsageError(
                    f"bin {value} of {name} holds {held[value]} samples, "
                    "but its probability under the distribution is 0"
                )
            kept.append(np.flatnonzero(q))
            if len(kept[-1]) < 2:
                raise UsageError(
                    f"the distribution puts {name} into one bin: nothing can be tested"
                )
        distribution = ProductDistribution(
            tuple(q[rows] for q, rows in zip(self.marginals, kept, strict=True))
        )
        return distribution, table[np.ix_(*kept)]


def read_product_distribution(
    distribution: npt.ArrayLike | Sequence[npt.ArrayLike] | None, shape: tuple[int, ...]
) -> ProductDistribution:
    """Check a distribution on a table of so many bins for each factor.

    Args:
        distribution: a list or tuple of one array of probabilities for each factor; an array of the
            joint probabilities, of shape (k,) or `shape`; or None for the uniform distribution.
        shape: bins of each factor.

    Raises:
        UsageError: if it is no such distribution, or if the factors depend on each other under it.
    """
    if distribution is None:
        return ProductDistribution(tuple(np.full(bins, 1 / bins) for bins in shape))
    if isinstance(distribution, (list, tuple)) and all(np.ndim(part) == 1 for part in distribution):
        marginals = tuple(check_distribution(part) for part in distribution)
        if tuple(map(len, marginals)) != shape:
            raise UsageError(
                f"the distribution has {', '.join(str(len(q)) for q in marginals)} bins for its "
                "factors, "
                f"but the histogram has {', '.join(map(str, shape))}"
            )
        return ProductDistribution(marginals)
    joint = check_distribution(distribution)  # type: ignore[arg-type]  # what is no array of numbers, it refuses
    if joint.size != math.prod(shape):
        raise UsageError(
            f"the distribution has {joint.size} bins, but the factors have {math.prod(shape)}"
        )
    joint = joint.reshape(shape)
    axes = range(len(shape))
    marginals = tuple(joint.sum(axis=tuple(b for b in axes if b != axis)) for axis in axes)
    product = functools.reduce(np.multiply.outer, marginals)
    if not np.allclose(joint, product, rtol=_TOLERANCE, atol=0):
        raise UsageError(
            "the divergence splits over factors only under a distribution that makes them "
            "independent, "
            "and this one does not"
        )
    return ProductDistribution(marginals)
