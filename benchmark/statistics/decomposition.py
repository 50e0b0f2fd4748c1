"""Splits the divergence over factors, pairs and triples of factors, and higher-order interactions.

Under a distribution of independent factors, q = q_0 q_1 ... q_5, the density ratio p / q splits
orthogonally into terms of every set T of factors (the analysis of variance of Hoeffding 1948
and Efron and Stein 1981); the mean square of the term of T is its share of the divergence,

    Delta_T = E prod_{j in T} (1[x_j = y_j] / q_j(x_j) - 1) >= 0

for two independent samples x, y. For a set S of factors the divergence of the marginal
histogram is D_S = sum of Delta_T over non-empty T in S; so a factor's Delta is its D, and
Delta_ab = D_ab - D_a - D_b. D is the sum of 6 main effects, 15 pairs, 20 triples and the
higher-order interactions (four factors and more at a time). All are U-statistics, estimated without
bias, with the interval of `UStatistic`; raw values add up to that of D to rounding.

**What is significant.** An ideal source fails in 5% of all runs at most (`LEVEL`): D itself is
tested at 2.5%, the tail of its 95% interval, and all parts together at the other 2.5%
(`PARTS_LEVEL`), their p-values being corrected for their number by Holm (1979). A main effect is
tested against 0. A higher term is not significant where lower ones alone make it: two biased
factors that are independent of each other have Delta_ab = D_a D_b. So two tests must reject for a
pair, that of its term against 0 and the test of independence on its marginal table; for three
factors, that of their term against the most that independent blocks make of lower terms (D_a D_b
D_c, or Delta_ab D_c) and, if it rejects, that of no three-way interaction (`independence`). The
p-value is then the larger one (that of the union of both hypotheses). The higher-order interactions
are tested against the most that independent blocks of up to three factors, with their own
divergences, would give: the higher-order term of prod (1 + D_block).

A distribution under which factors depend on each other is refused: the terms are then not
orthogonal, and the D_S no longer split into parts that are never negative. `coupled` has terms for
the distributions that couple pairs of factors.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, NAMES, FloatArray, IntArray

from .chi_square import divergence_statistic
from .histogram import check_counts, require_samples
from .independence import independence_p_value, three_way_p_value
from .interactions import ORDER, Interactions, read_product_distribution
from .intervals import CONFIDENCE, Estimate, UStatistic

HIGHER_ORDER = "higher_order"
"""Name of the part of four factors and more."""
LEVEL = 0.05
"""Probability, at most, that a source without any fault fails: by D or by a part."""
PARTS_LEVEL = LEVEL - (1 - CONFIDENCE) / 2
"""What the test of D leaves of it to all parts together."""
_LARGE, _NEARLY_NONE = 0.1, 0.005  # shares of D


@dataclass(frozen=True)
class Part:
    """One part of the divergence.

    Attributes:
        factors: one, two or three names of factors, and up to six where the distribution couples
            pairs of them (`coupled`); empty for higher-order interactions.
        delta: its term Delta_T; all parts add up to D.
        divergence: D_S of the marginal histogram of these factors; None where there are none.
        share: of D, in [0, 1] in the population; None where the interval of D contains 0.
        explained: what lower terms make of this one, if nothing else is at work: 0 for a main
            effect, D_a D_b for a pair; for others see the module.
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
        """Whether the part differs from 0 at `PARTS_LEVEL` for all parts together."""
        return self.p_holm < PARTS_LEVEL

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


class _Term(Protocol):
    """A part of the divergence: a `Part`, or what is kept of it in a file."""

    @property
    def share(self) -> float | None: ...
    @property
    def significant(self) -> bool: ...
    @property
    def delta(self) -> Any: ...
    @property
    def explained(self) -> float: ...


_Some = TypeVar("_Some", bound=_Term)


def made_together(parts: Iterable[_Some]) -> tuple[_Some, ...]:
    """Return the parts that others make, lie surely above 0, and are a tenth of D or more.

    They are not significant: two biased factors have a term of their pair, D_a D_b, though they are
    independent of each other. But most of D can lie there. Others make a part if what they explain
    is half of it at least; else it is noise.

    Args:
        parts: in any order, which is kept.
    """
    return tuple(
        part
        for part in parts
        if not part.significant
        and (part.share or 0) >= _LARGE
        and part.delta.low > 0
        and part.explained >= part.delta.value / 2
    )


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

    @property
    def together(self) -> tuple[Part, ...]:
        """The large parts that significant ones make together; see `made_together`."""
        return made_together(self.parts) if self.significant else ()

    def part(self, *factors: str) -> Part:
        """Return the part of some factors in any order, or of `HIGHER_ORDER`.

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
                "No factor, pair of factors or larger set of them differs significantly "
                "from the distribution."
            )
        words = [f"{_words(part)} ({_amount(part)})" for part in self.significant]
        listed = ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
        together = ", ".join(f"{_words(part)} ({_amount(part)})" for part in self.together)
        made = f" Together they make {together}." if together else ""
        return f"Differs significantly from the distribution: {listed}.{made}"

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
    """Split the divergence of a histogram from its distribution over factors and sets of them.

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
    values: dict[tuple[int, ...], float] = {}
    parts = []
    for size in range(1, ORDER + 1):
        for chosen in itertools.combinations(axes, size):
            term, counts = terms.term(chosen), terms.marginal(chosen)
            values[chosen] = term.value
            delta = divergence = term.estimate()
            if size > 1:
                weights = tuple(product.weights[axis] for axis in chosen)
                divergence = _divergence(counts, weights).estimate()
            explained, p_value = p_value_of_term(term, chosen, values, counts.squeeze())
            factors = tuple(names[axis] for axis in chosen)
            parts.append(Part(factors, delta, divergence, None, explained, p_value, p_value))
    parts.append(higher_order_part(terms.higher_order(), values))
    return Decomposition(total, finish(parts, total))


def _divergence(counts: IntArray, weights: tuple[FloatArray, ...]) -> UStatistic:
    joint = functools.reduce(np.multiply.outer, weights)
    return divergence_statistic(counts.ravel(), joint.ravel())


def p_value_of_term(
    term: UStatistic,
    axes: tuple[int, ...],
    values: Mapping[tuple[int, ...], float],
    table: IntArray | None,
) -> tuple[float, float]:
    """Return what lower terms make of a term, and its p-value.

    Args:
        term: of one, two or three factors (or blocks of factors).
        axes: which, ascending.
        values: terms of all smaller sets.
        table: marginal counts, an axis for each; None leaves the test on them out.
    """
    if len(axes) == 1:
        return 0.0, term.p_value()
    explained = explained_term(axes, values)
    if len(axes) == 2:
        p_value = term.p_value()
        return explained, p_value if table is None else max(p_value, independence_p_value(table))
    p_value = term.p_value(explained)
    if p_value < PARTS_LEVEL and table is not None:
        p_value = max(p_value, three_way_p_value(table))
    return explained, p_value


def explained_term(axes: tuple[int, ...], values: Mapping[tuple[int, ...], float]) -> float:
    """Return the most that independent blocks of a set would make of its term.

    Args:
        axes: two or three, ascending.
        values: terms of all smaller sets.
    """
    if len(axes) == 2:
        return values[axes[:1]] * values[axes[1:]]
    alone = [max(values[axis,], 0.0) for axis in axes]
    together = [
        max(values[tuple(other for other in axes if other != axis)], 0.0) * one
        for axis, one in zip(axes, alone, strict=True)
    ]
    return max(math.prod(alone), *together)


def higher_order_part(higher: UStatistic, values: Mapping[tuple[int, ...], float]) -> Part:
    """Return the part of more than `ORDER` factors.

    Args:
        higher: its term.
        values: terms of all sets of up to `ORDER` factors.
    """
    explained = explained_higher_order(values)
    p_value = higher.p_value(explained)
    return Part((), higher.estimate(), None, None, explained, p_value, p_value)


def explained_higher_order(values: Mapping[tuple[int, ...], float]) -> float:
    """Return the most higher-order interactions that independent blocks would have.

    Blocks are of up to `ORDER` factors. 1 + D of a block is, by the number of factors, a polynomial
    1 + sum_T Delta_T z^|T|; that of all is their product.

    Args:
        values: Delta_T of every set T of up to `ORDER` factors.
    """
    axes = sorted({axis for chosen in values for axis in chosen})
    of_block: dict[tuple[int, ...], FloatArray] = {}
    for block in values:
        of_block[block] = np.zeros(len(block) + 1)
        of_block[block][0] = 1.0
        for size in range(1, len(block) + 1):
            for chosen in itertools.combinations(block, size):
                of_block[block][size] += values[chosen]
    products = (
        functools.reduce(np.convolve, [of_block[block] for block in blocks])
        for blocks in _partitions(tuple(axes))
    )
    return max(0.0, *(float(one[ORDER + 1 :].sum()) for one in products))


def _partitions(axes: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """Yield every way to cut `axes` into blocks of up to `ORDER`."""
    if not axes:
        yield []
        return
    first, others = axes[0], axes[1:]
    for size in range(ORDER):
        for more in itertools.combinations(others, size):
            left = tuple(axis for axis in others if axis not in more)
            for blocks in _partitions(left):
                yield [(first, *more), *blocks]


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


def _words(part: Part) -> str:
    if not part.factors:
        return "higher-order interactions of four factors and more"
    return part.factors[0] if len(part.factors) == 1 else " with ".join(part.factors)


def _amount(part: Part) -> str:
    share = ""
    if part.share is not None:
        share = ", < 1%" if part.share < _NEARLY_NONE else f", {part.share:.0%}"
        share += " of the total"
    return f"{part.delta.value:.3g}{share}"
