"""Splits the divergence from a known distribution in which two factors may be coupled.

A `Distribution` is a product over *units*: single factors, and coupled pairs. For units everything
of `decomposition` holds: the density ratio r = p / q splits orthogonally over sets of units, into
the kernels K_U(x, y) = 1[x_U = y_U] / q_U(x_U) - 1 and their products.

**Inside a coupled pair (a, b)** the functions of a alone and of b alone are not orthogonal. Let
P_a, P_b and P_ab+ be the projections, in L2(q), onto the functions f(a), g(b) and f(a) + g(b).
Then K_U = phi_a + phi_b + phi_axb, with

    phi_a   = [(P_a - 1) + (P_ab+ - P_b)] / 2    what a says alone, and what it adds to b, halved
    phi_axb = 1 - P_ab+                          what no sum f(a) + g(b) can say.

The first is Shapley's division of the additive part (Owen 2014): each is positive semidefinite
and centred under q, so its mean is >= 0 and its estimate a U-statistic with a valid interval.
Where q makes a and b independent, phi_a is the kernel of the factor a: nothing changes. Terms of
several units are products: phi_a K_c is a with c, phi_axb K_c all three. Three units have one term,
K_U K_V K_W, named by all their factors. All parts add up to D.
The divergence D_S of a marginal histogram is the sum of the terms inside S if S holds both
factors of a pair or neither; D_a of one of them is not, since p tells of b through a.

**What is significant.** If the distribution couples a and b, a fault of a alone moves the histogram
of b too. So a is tested by P_ab+ - P_b, what it adds to b (by P_a - 1 if q leaves nothing to add, a
and b then being known from each other), also where a meets other units. For the pair itself two
tests must reject: that of its term, and Pearson's test of p_ab = q_ab s(a) t(b), the distribution's
own dependence with other margins (fitted by iterated scaling; the test of independence, if q_ab is
a product). Where a pair meets a factor c of another unit, c can depend on a alone, and moves the
term of all three if b is biased, too: so a third test must reject, that of no three-way interaction
of (a, b, c). Iterated scaling takes up any q_ab; cells of probability 0 make it conservative. Where
two pairs meet, each is tested so against the cells of the other.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from shapeshd.distribution import Distribution, FactorGroup
from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, NAMES, FloatArray, IntArray

from .chi_square import divergence_statistic
from .decomposition import (
    PARTS_LEVEL,
    Decomposition,
    Part,
    decompose,
    finish,
    higher_order_part,
    p_value_of_term,
)
from .histogram import check_counts, require_samples
from .independence import DIGITS, ENOUGH, independence_p_value, pearson, pooled, three_way_p_value
from .interactions import ORDER, Interactions
from .intervals import UStatistic, u_statistic

_NO_EIGENVALUE = 1e-9
_SCALINGS, _FITTED = 2000, 1e-9


@dataclass(frozen=True, eq=False)
class Component:
    """A part of a unit's kernel.

    Attributes:
        names: one factor, or both of a pair.
        kernel: (m, m) on the unit's cells; positive semidefinite, centred.
        test: the kernel by which it is tested, (m, m).
        value: which value of its factors a cell has, int64 (m,).
        q: probabilities of these values.
    """

    names: tuple[str, ...]
    kernel: FloatArray
    test: FloatArray
    value: IntArray
    q: FloatArray


@dataclass(frozen=True, eq=False)
class Block:
    """A unit without the cells of probability 0.

    Attributes:
        unit: of the distribution.
        cells: its cells of positive probability, as places in the flat table, int64 (m,).
        q: their probabilities.
        components: one for a factor, three for a pair; their kernels add up to the unit's.
    """

    unit: FactorGroup
    cells: IntArray
    q: FloatArray
    components: tuple[Component, ...]

    @classmethod
    def of(cls, unit: FactorGroup) -> Block:
        """Return the block of a unit."""
        flat = unit.table.ravel()
        cells = np.flatnonzero(flat)
        q = flat[cells]
        whole = np.diag(1 / q) - 1
        if len(unit.axes) == 1:
            only = Component(unit.names, whole, whole, np.arange(len(q)), q)
            return cls(unit, cells, q, (only,))
        places = np.unravel_index(cells, unit.table.shape)
        values = [np.unique(place, return_inverse=True)[1].ravel() for place in places]
        projections = [_projection(q, [value]) for value in values]
        both = _projection(q, values)
        components = []
        for mine, other, name, value in zip(
            projections, projections[::-1], unit.names, values, strict=True
        ):
            added = both - other
            lone = np.abs(added).max() < _NO_EIGENVALUE * np.abs(both).max()
            margin = np.bincount(value, weights=q).astype(np.float64)
            kernel = (mine - 1 + added) / 2
            components.append(
                Component((name,), kernel, mine - 1 if lone else added, value, margin)
            )
        left = np.diag(1 / q) - both
        components.append(Component(unit.names, left, left, np.arange(len(q)), q))
        return cls(unit, cells, q, tuple(components))


def _projection(q: FloatArray, values: list[IntArray]) -> FloatArray:
    """Return the kernel of the projection, in L2(q), onto sums of functions of these values."""
    columns = [np.equal.outer(value, np.arange(value.max() + 1)) for value in values]
    design = np.sqrt(q)[:, None] * np.concatenate(columns, axis=1)
    vectors, sizes, _ = np.linalg.svd(design / np.linalg.norm(design, axis=0), full_matrices=False)
    basis = vectors[:, sizes > _NO_EIGENVALUE * sizes[0]] / np.sqrt(q)[:, None]
    return np.asarray(basis @ basis.T)


def decompose_under(counts: npt.ArrayLike, distribution: Distribution | None) -> Decomposition:
    """Split the divergence from a distribution over factors, pairs and higher-order interactions.

    Args:
        counts: integers of shape (k,) or `BIN_SHAPE`.
        distribution: None for the uniform distribution. Factors of which it allows one bin alone
            have no part.

    Raises:
        UsageError: if the counts are no such table, too few (see `min_samples_under`), or where the
            distribution has none; or if the distribution allows a single bin.
    """
    if distribution is None or distribution.uniform:
        return decompose(counts)
    blocks = [block for block in map(Block.of, distribution.groups) if len(block.q) > 1]
    if not distribution.pairs and len(blocks) == len(NAMES):
        return decompose(counts, [distribution.marginal(name) for name in NAMES])
    if not blocks:
        raise UsageError("the distribution puts everything into one bin: nothing can be tested")
    table = _table(check_counts(counts), distribution, blocks)
    joint = functools.reduce(np.multiply.outer, [block.q for block in blocks])
    require_samples(int(table.sum()), table.size, joint)
    weights = tuple(1 / block.q for block in blocks)
    total = _divergence(table, weights).estimate()
    terms = Interactions(table, weights)

    parts: list[Part] = []
    effects: dict[tuple[str, ...], float] = {}
    for axis, block in enumerate(blocks):
        parts += _inside(block, _margin(table, axis), effects)
    for a, b in itertools.combinations(range(len(blocks)), 2):
        parts += _between(blocks[a], blocks[b], _margin(table, a, b), effects)
    values: dict[tuple[int, ...], float] = {}
    for size in range(1, ORDER + 1):
        for axes in itertools.combinations(range(len(blocks)), size):
            term = terms.term(axes)
            values[axes] = term.value
            if size > 2:
                chosen = [blocks[axis] for axis in axes]
                parts.append(_beyond(chosen, term, axes, values, _margin(table, *axes)))
    parts.append(higher_order_part(terms.higher_order(), values))
    return Decomposition(total, finish(parts, total))


def _beyond(
    blocks: list[Block],
    term: UStatistic,
    axes: tuple[int, ...],
    values: dict[tuple[int, ...], float],
    counts: IntArray,
) -> Part:
    """Return the part of what three blocks do together."""
    names = _ordered(*(block.unit.names for block in blocks))
    divergence = _divergence(counts, tuple(1 / block.q for block in blocks)).estimate()
    explained, p_value = p_value_of_term(term, axes, values, counts)
    return Part(names, term.estimate(), divergence, None, explained, p_value, p_value)


def _table(counts: IntArray, distribution: Distribution, blocks: list[Block]) -> IntArray:
    """Return the counts with an axis for each block, of its possible cells."""
    if counts.size != distribution.expected().size:
        raise UsageError(
            f"the histogram has {counts.size} bins, but the distribution has "
            f"{distribution.expected().size}"
        )
    if held := int(counts[distribution.expected() == 0].sum()):
        raise UsageError(
            f"{held} samples lie in bins whose probability under the distribution is 0"
        )
    axes = [axis for block in blocks for axis in block.unit.axes]
    others = tuple(axis for axis in range(len(NAMES)) if axis not in axes)
    kept = counts.reshape(BIN_SHAPE).sum(axis=others)
    flat = kept.transpose(np.argsort(np.argsort(axes))).reshape(
        [block.unit.table.size for block in blocks]
    )
    table: IntArray = flat[np.ix_(*(block.cells for block in blocks))]
    return table


def _margin(table: IntArray, *axes: int) -> IntArray:
    others = tuple(axis for axis in range(table.ndim) if axis not in axes)
    margin: IntArray = table.sum(axis=others)
    return margin


def _divergence(counts: IntArray, weights: tuple[FloatArray, ...]) -> UStatistic:
    joint = functools.reduce(np.multiply.outer, weights)
    return divergence_statistic(counts.ravel(), joint.ravel())


def statistic(counts: IntArray, *kernels: FloatArray) -> UStatistic:
    """Return the U-statistic of a product of kernels.

    Args:
        counts: int64 of shape (m,), or (m, l) for two.
        kernels: (m, m) and, if there are two, (l, l).
    """
    diagonal: Any = functools.reduce(np.multiply.outer, map(np.diag, kernels))
    sums, squares = counts.astype(np.float64), counts.astype(np.float64)
    for axis, kernel in enumerate(kernels):
        sums = np.moveaxis(np.tensordot(kernel, sums, (1, axis)), 0, axis)
        squares = np.moveaxis(np.tensordot(kernel**2, squares, (1, axis)), 0, axis)
    different = float((counts * squares).sum() - (counts * diagonal**2).sum())
    return u_statistic(counts.ravel(), sums.ravel(), diagonal.ravel(), different)


def _inside(block: Block, counts: IntArray, effects: dict[tuple[str, ...], float]) -> list[Part]:
    """Return the parts of one block, and note their terms in `effects`."""
    parts = []
    for component in block.components:
        term, tested = statistic(counts, component.kernel), statistic(counts, component.test)
        effects[component.names] = term.value
        found = np.bincount(component.value, weights=counts).astype(np.int64)
        divergence = _divergence(found, (1 / component.q,)).estimate()
        p_value, explained = tested.p_value(), 0.0
        if len(component.names) > 1:
            fitted = fit_margins(counts, block)
            explained = float(fitted @ component.kernel @ fitted) / float(fitted.sum()) ** 2
            p_value = max(p_value, dependence_p_value(counts, fitted, block))
        parts.append(
            Part(component.names, term.estimate(), divergence, None, explained, p_value, p_value)
        )
    return parts


def _between(
    one: Block, other: Block, counts: IntArray, effects: dict[tuple[str, ...], float]
) -> list[Part]:
    """Return the parts of what two blocks do together, and note their terms in `effects`."""
    parts = []
    for first, second in itertools.product(one.components, other.components):
        term = statistic(counts, first.kernel, second.kernel)
        found = np.zeros((len(first.q), len(second.q)), np.int64)
        np.add.at(found, np.ix_(first.value, second.value), counts)
        divergence = _divergence(found, (1 / first.q, 1 / second.q)).estimate()
        tested = statistic(counts, first.test, second.test)
        p_value = max(tested.p_value(), independence_p_value(found))
        explained = effects[first.names] * effects[second.names]
        for block, pair, third, table in (
            (one, first, second, found),
            (other, second, first, found.T),
        ):
            if len(pair.names) > 1:
                explained = max(explained, _explained(pair, third, effects))
                if p_value < PARTS_LEVEL:
                    p_value = max(p_value, three_way_p_value(_with_both_axes(table, block)))
        names = _ordered(first.names, second.names)
        effects[names] = term.value
        parts.append(Part(names, term.estimate(), divergence, None, explained, p_value, p_value))
    return parts


def _ordered(*names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(itertools.chain(*names), key=NAMES.index))


def _explained(pair: Component, third: Component, effects: dict[tuple[str, ...], float]) -> float:
    """Return the most that independent blocks of (a, b, third) make of the term of all three."""
    a, b = ((name,) for name in pair.names)
    alone = {names: max(effects[names], 0.0) for names in (a, b, third.names)}
    together = [
        max(effects[_ordered(one, third.names)], 0.0) * alone[other]
        for one, other in ((a, b), (b, a))
    ]
    return max(math.prod(alone.values()), *together)


def _with_both_axes(table: IntArray, block: Block) -> IntArray:
    """Return counts (m, l) on the cells of a pair and on another axis with an axis for each."""
    values = [component.value for component in block.components[:2]]
    full = np.zeros([*(value.max() + 1 for value in values), table.shape[1]], np.int64)
    full[tuple(values)] = table
    return full


def fit_margins(counts: IntArray, block: Block) -> FloatArray:
    """Return q_ab s(a) t(b) scaled to both margins of the counts of a pair, float64 (m,).

    Iterated proportional scaling (Deming and Stephan 1940), which is the most likely such table.
    """
    values = [component.value for component in block.components[:2]]
    fitted = block.q * counts.sum()
    for _ in range(_SCALINGS):
        before = fitted
        for value in values:
            wanted, now = (np.bincount(value, weights=table) for table in (counts, fitted))
            fitted = fitted * (wanted / np.where(now > 0, now, 1.0))[value]
        if np.abs(fitted - before).max() <= _FITTED * counts.sum():
            break
    return fitted


def dependence_p_value(counts: IntArray, fitted: FloatArray, block: Block) -> float:
    """Return the p-value of Pearson's test of the counts of a pair against `fit_margins`.

    Rare values are put together (see `independence`). Values without a sample do not count; 1 where
    no freedom is left, or counts are too small even with two values of each factor.
    """
    values = [component.value for component in block.components[:2]]
    tables = []
    for cells in (counts, fitted):
        table = np.zeros([value.max() + 1 for value in values], dtype=cells.dtype)
        table[tuple(values)] = np.where(fitted > _FITTED, cells, 0)
        tables.append(table)
    kept = np.ix_(tables[1].any(axis=1), tables[1].any(axis=0))
    found, expected = (table[kept] for table in tables)
    if min(found.shape) < 2:
        return 1.0
    found, expected = pooled(found, expected, ENOUGH)
    possible = np.argwhere(expected > 0)
    if expected[expected > 0].min().round(DIGITS) < ENOUGH:
        return 1.0
    columns = [np.equal.outer(place, np.arange(place.max() + 1)) for place in possible.T]
    design = np.concatenate(columns, axis=1).astype(np.float64)
    freedom = len(possible) - int(np.linalg.matrix_rank(design))
    return float(scipy.stats.chi2.sf(pearson(found, expected), freedom)) if freedom else 1.0
