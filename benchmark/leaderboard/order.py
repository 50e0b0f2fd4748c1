"""Several results in order: ranks, and who is not significantly different from whom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shapeshd.benchmark.statistics.measurement_error import distribution_words

from .ranking import ranks, told_apart
from .row import is_infinite


@dataclass(frozen=True)
class Place:
    """Where a result stands.

    Attributes:
        rank: 1 for the best of its distribution: one more than the results that are surely better.
        shared: whether another one has the same rank.
        not_told_from: positions of the results of its distribution that are not significantly
            different from it.
    """

    rank: int
    shared: bool
    not_told_from: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.rank}=" if self.shared else str(self.rank)


def ranking_value(result: Mapping[str, Any]) -> float:
    """Return D as estimated, or infinity where samples lie outside of the distribution."""
    return math.inf if is_infinite(result) else float(result["fit"]["divergence"]["value"])


def places(results: Sequence[Mapping[str, Any]]) -> list[Place]:
    """Return the place of each result; results of different distributions are ranked apart.

    See `ranking` for what a rank means.
    """
    found: dict[int, Place] = {}
    groups: dict[str, list[int]] = {}
    for position, result in enumerate(results):
        groups.setdefault(distribution_words(result), []).append(position)
    for group in groups.values():
        values = [ranking_value(results[position]) for position in group]
        errors = [results[position]["fit"]["divergence"]["standard_error"] for position in group]
        apart = told_apart(values, errors)
        listed = ranks(values, apart)
        for row, position in enumerate(group):
            others = tuple(
                group[column]
                for column in range(len(group))
                if column != row and not apart[row, column]
            )
            found[position] = Place(listed[row], listed.count(listed[row]) > 1, others)
    return [found[position] for position in range(len(results))]
