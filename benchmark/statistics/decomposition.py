"""Splits the divergence over factors, pairs of factors and higher-order interactions.

Under a distribution of independent factors, q = q_0 q_1 ... q_5, the density ratio p / q splits
orthogonally into terms of every set T of factors (the analysis of variance of Hoeffding 1948
and Efron and Stein 1981); the mean square of the term of T is its share of the divergence,

    Delta_T = E prod_{j in T} (1[x_j = y_j] / q_j(x_j) - 1) >= 0

for two independent samples x, y. For a set S of factors the divergence of the marginal
histogram is D_S = sum of Delta_T over non-empty T in S; so a factor's Delta is its D, and
Delta_ab = D_ab - D_a - D_b. D is the sum of 6 main effects, 15 pairs and the higher-order
interactions (three factors and more at a time). All are U-statistics, estimated without bias, with
the interval of `UStatistic`; raw values add up to that of D to rounding.

**What is significant.** Each part is tested, and the p-values are corrected for their number by
Holm (1979). A main effect is tested against 0. A higher term is not significant where lower ones
alone make it: two biased factors that are independent of each other have Delta_ab = D_a D_b. So
two tests must reject for a pair, that of its term against 0 and Pearson's chi-square test of
independence on its marginal table; its p-value is the larger one (that of the union of both
hypotheses). The higher-order interactions are tested against the most that independent blocks of
one and two factors, with their own divergences, would give: the higher-order term of
prod (1 + D_block).

A distribution under which factors depend on each other is refused: the terms are then not
orthogonal, and the D_S no longer split into parts that are never negative. `coupled` has terms for
the distributions that couple pairs of factors.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, NAMES, FloatArray, IntArray

from .chi_square import divergence_statistic
from .histogram import check_counts, require_samples
from .interactions import Interactions, read_product_distribution
from .intervals import Estimate, UStatistic

HIGHER_ORDER = "higher_order"
"""Name of the part of three factors and more."""
LEVEL = 0.05
"""Probability that a part of a source without any fault is called significant."""


@dataclass(frozen=True)
class Part:
    """One part of the divergence.

    Attributes:
        factors: one or two names of factors; empty for higher-order interactions.
        delta: its term Delta_T; all parts add up to D.
        divergence: D_S of the marginal histogram of these factors; None where there are none.
        share: of D, in [0, 1] in the population; None where the interval of D contains 0.
        explained: what lower terms make of this one, if nothing else is at work: 0 for a main
            effect, D_a D_b for a pair; for higher-order interactions see the module.
        p_value: probability of such a term, or a larger one, without a fault of its own.
        p_holm: `p_value` corrected for the number of parts, in [0, 1].
    """

    factors: tuple[str, ...]
    delta: Estimate
    divergence: Estimate | None
    share: float | None
    explained: float
    p_value: float
    p_holm: float

    @property
    def name(self) -> str:
        """Such as "scale", "floor_hue x shape" or "higher_order"."""
        return " x ".join(self.factors) or HIGHER_ORDER

    @property
    def significant(self) -> bool:
        """Whether the part differs from 0 at the level of 5% for all parts together."""
        return self.p_holm < LEVEL

    def to_json(self) -> dict[str, Any]:
        """Return the fields, `name` and `significant`, ready for JSON."""
        return {
            "name": self.name,
            "factors": list(self.factors),
            "delta": self.delta.to_json(),
            "divergence": self.divergence.to_json() if self.divergence else None,
            "share": self.share,
            "explained": self.explained,
            "p_value": self.p_value,
            "p_holm": self.p_holm,
            "significant": self.significant,
        }


@dataclass(frozen=True)
class Decomposition:
    """The divergence and its parts.

    Attributes:
        total: D.
        parts: all parts, the largest term first.
    """

    total: Estimate
    parts: tuple[Part, ...]

    @property
    def significant(self) -> tuple[Part, ...]:
        """The parts that differ from 0, the largest term first."""
        return tuple(part for part in self.parts if part.significant)

    def part(self, *factors: str) -> Part:
        """Return the part of one or two factors in any order, or of `HIGHER_ORDER`.

        Raises:
            UsageError: if there is no such part.
        """
        wanted = () if factors == (HIGHER_ORDER,) else factors
        for part in self.parts:
            if factors and sorted(part.factors) == sorted(wanted):
                return part
        raise UsageError(f"the decomposition has no part {' x '.join(factors)!r}")

    def summary(self) -> str:
        """Say in one sentence which parts are significant."""
        if not self.significant:
            return (
                "No factor, pair of factors or higher-order interaction differs significantly from "
                "the distribution."
            )
        words = [f"{_words(part)} ({_amount(part)})" for part in self.significant]
        listed = ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
        return f"Differs significantly from the distribution: {listed}."

    def to_json(self) -> dict[str, Any]:
        """Return the fields and `summary`, ready for JSON."""
        return {
            "total": self.total.to_json(),
            "parts": [part.to_json() for part in self.parts],
            "summary": self.summary(),
        }


def decompose(
    counts: npt.ArrayLike,
    distribution: npt.ArrayLike | Sequence[npt.ArrayLike] | None = None,
    *,
    shape: tuple[int, ...] = BIN_SHAPE,
    names: tuple[str, ...] = NAMES,
) -> Decomposition:
    """Split the divergence of a histogram from its distribution over factors and pairs of factors.

    Args:
        counts: integers of shape (k,) or `shape`, in C order.
        distribution: k probabilities of shape (k,) or `shape`, under which the factors are
            independent; or one array of probabilities for each factor; None for uniform.
        shape: number of bins of each factor.
        names: name of each factor.

    Raises:
        UsageError: if the counts are no such table, or too few (see `min_samples_under`), or if
            the distribution is not a product.
    """
    if len(names) != len(shape) or len(shape) < 2 or min(shape) < 2:
        raise UsageError(f"{len(names)} names and a table of shape {shape} do not go together")
    flat = check_counts(counts)
    if flat.size != math.prod(shape):
        raise UsageError(
            f"the histogram has {flat.size} bins, but the factors have {math.prod(shape)}"
        )
    product, table = read_product_distribution(distribution, shape).restricted(
        flat.reshape(shape), names
    )
    joint = functools.reduce(np.multiply.outer, product.marginals)
    require_samples(int(table.sum()), table.size, joint)
    terms = Interactions(table, product.weights)
    total = _divergence(table, product.weights).estimate()

    axes = range(table.ndim)
    mains = [terms.term((axis,)) for axis in axes]
    effects = [main.value for main in mains]
    parts = [_part((names[axis],), mains[axis]) for axis in axes]
    pairs: dict[tuple[int, ...], float] = {}
    for a, b in itertools.combinations(axes, 2):
        counts = terms.marginal((a, b)).reshape(table.shape[a], table.shape[b])
        pair = terms.term((a, b))
        pairs[a, b] = pair.value
        divergence = _divergence(counts, (product.weights[a], product.weights[b])).estimate()
        part = _part((names[a], names[b]), pair, divergence, effects[a] * effects[b])
        p_value = max(part.p_value, independence_p_value(counts))
        parts.append(replace(part, p_value=p_value))
    higher, explained = terms.higher_order(), explained_higher_order(effects, pairs)
    part = _part((), higher, explained=explained)
    parts.append(replace(part, divergence=None, p_value=higher.p_value(explained)))
    return Decomposition(total, finish(parts, total))


def _divergence(counts: IntArray, weights: tuple[FloatArray, ...]) -> UStatistic:
    joint = functools.reduce(np.multiply.outer, weights)
    return divergence_statistic(counts.ravel(), joint.ravel())


def _part(
    factors: tuple[str, ...],
    statistic: UStatistic,
    divergence: Estimate | None = None,
    explained: float = 0.0,
) -> Part:
    delta, p_value = statistic.estimate(), statistic.p_value()
    return Part(factors, delta, divergence or delta, None, explained, p_value, p_value)


def explained_higher_order(mains: Sequence[float], pairs: Mapping[tuple[int, ...], float]) -> float:
    """Return the most higher-order interactions that independent blocks would have.

    Blocks are of one and two factors.

    Args:
        mains: D_a of every factor.
        pairs: Delta_ab of every pair a < b.
    """
    largest = 0.0
    for blocks in _matchings(tuple(range(len(mains)))):
        effects = [sum(mains[a] for a in block) + pairs.get(block, 0.0) for block in blocks]
        lower = sum(mains) + sum(pairs[block] for block in blocks if len(block) == 2)
        for first, second in itertools.combinations(blocks, 2):
            lower += sum(mains[a] * mains[b] for a in first for b in second)
        largest = max(largest, math.prod(1 + effect for effect in effects) - 1 - lower)
    return largest


def _matchings(axes: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """Yield every way to cut `axes` into blocks of one and two."""
    if not axes:
        yield []
        return
    first, others = axes[0], axes[1:]
    for blocks in _matchings(others):
        yield [(first,), *blocks]
    for index, second in enumerate(others):
        for blocks in _matchings(others[:index] + others[index + 1 :]):
            yield [(first, second), *blocks]


def finish(parts: list[Part], total: Estimate) -> tuple[Part, ...]:
    """Add shares and corrected p-values, and put the largest term first."""
    corrected = holm([part.p_value for part in parts])
    finished = [
        replace(part, share=part.delta.value / total.value if total.low > 0 else None, p_holm=p)
        for part, p in zip(parts, corrected, strict=True)
    ]
    return tuple(sorted(finished, key=lambda part: -part.delta.value))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979).

    At most a fraction alpha of faultless sources has any corrected value below alpha, however
    the tests depend on each other.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def independence_p_value(table: IntArray) -> float:
    """Return the p-value of Pearson's test of independence of the two axes of a table.

    Rows and columns without a sample do not count; 1 where only one is left.
    """
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    n = table.sum()
    expected = np.multiply.outer(table.sum(axis=1), table.sum(axis=0) / n)
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    x2 = float(((table - expected) ** 2 / expected).sum())
    return float(scipy.stats.chi2.sf(x2, freedom)) if freedom else 1.0


def _words(part: Part) -> str:
    if not part.factors:
        return "higher-order interactions of three factors and more"
    return part.factors[0] if len(part.factors) == 1 else " with ".join(part.factors)


def _amount(part: Part) -> str:
    share = "" if part.share is None else f", {part.share:.0%} of the total"
    return f"{part.delta.value:.3g}{share}"
