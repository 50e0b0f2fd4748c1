"""Laws under which the factors are independent: one list of probabilities for each factor."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray, IntArray

from .histogram import check_distribution

_TOLERANCE = 1e-6  # relative, of a cell from the product of its margins


@dataclass(frozen=True, eq=False)
class ProductDistribution:
    """q(x) = product of q_j(x_j).

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
