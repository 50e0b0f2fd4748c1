"""Ranks of models of which each has a divergence with a standard error.

Two models are significantly different if their divergences differ by a two-sided z test,

    z = (D_a - D_b) / sqrt(s_a^2 + s_b^2),

all pairs of a table together at the level 5% (Holm 1979), so that a table of equally good models
splits them in one of twenty cases, however many they are. A model's rank is one more than the
number of models that are better than it and significantly different from it. Since a pair is
significantly different exactly if its |z| exceeds one common bound, "better and significantly
different" is transitive: models of equal rank are never significantly different; models of
different rank may not be, and `significantly_different` says so.

The samples of two models are taken to be independent. Two results of one generator with one seed
are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from shapeshd.benchmark.report.tables import distribution_name
from shapeshd.benchmark.result.schema import ScoreRecord
from shapeshd.factors import FloatArray

LEVEL = 0.05


def z_scores(values: Sequence[float], errors: Sequence[float]) -> FloatArray:
    """Return z of each pair, (m, m): above 0 where the row's value is the larger one.

    Args:
        values: estimates of D; infinite where D is.
        errors: their standard errors, >= 0.
    """
    value, error = np.asarray(values, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = value[:, None] - value[None, :]  # inf - inf is NaN: equally bad
        z = difference / np.hypot(error[:, None], error[None, :])
    return np.where(np.isnan(z), 0.0, z)


def significantly_different(
    values: Sequence[float], errors: Sequence[float], level: float = LEVEL
) -> NDArray[np.bool_]:
    """Return which pairs are significantly different, bool (m, m), symmetric; see the module.

    Args:
        values: estimates of D; infinite where D is.
        errors: their standard errors, >= 0.
        level: of all pairs together.
    """
    z = np.abs(z_scores(values, errors))
    first, second = np.triu_indices(len(z), 1)
    distances = z[first, second]
    order = np.argsort(-distances, kind="stable")
    different = np.zeros(z.shape, dtype=bool)
    for done, pair in enumerate(order):
        if 2 * scipy.special.ndtr(-distances[pair]) > level / (len(order) - done):
            break
        different[first[pair], second[pair]] = different[second[pair], first[pair]] = True
    return different


def ranks(values: Sequence[float], different: NDArray[np.bool_]) -> list[int]:
    """Return each model's rank, 1 for the best: one more than those surely better than it.

    Args:
        values: estimates of D, as `significantly_different` was given.
        different: what it returned.
    """
    value = np.asarray(values, dtype=np.float64)
    better = (value[None, :] < value[:, None]) & different
    return [1 + int(count) for count in better.sum(axis=1)]


@dataclass(frozen=True)
class Place:
    """Where a result stands.

    Attributes:
        rank: 1 for the best of its distribution: one more than the results that are surely better.
        shared: whether another one has the same rank.
        not_different_from: positions of the results of its distribution from which it is not
            significantly different.
    """

    rank: int
    shared: bool
    not_different_from: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.rank}=" if self.shared else str(self.rank)


def places(results: Sequence[ScoreRecord]) -> list[Place]:
    """Return the place of each result; results of different distributions are ranked apart."""
    found: dict[int, Place] = {}
    groups: dict[str, list[int]] = {}
    for position, result in enumerate(results):
        groups.setdefault(distribution_name(result), []).append(position)
    for group in groups.values():
        values = [results[position].divergence_value for position in group]
        errors = [results[position].fit.divergence.standard_error for position in group]
        different = significantly_different(values, errors)
        listed = ranks(values, different)
        for row, position in enumerate(group):
            others = tuple(
                other
                for column, other in enumerate(group)
                if column != row and not different[row, column]
            )
            found[position] = Place(listed[row], listed.count(listed[row]) > 1, others)
    return [found[position] for position in range(len(results))]
