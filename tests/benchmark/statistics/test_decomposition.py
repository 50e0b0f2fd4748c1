"""The decomposition against its definition, brute-force kernels, all outcomes, known guilt."""

from __future__ import annotations

import functools
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.decomposition import (
    HIGHER_ORDER,
    Decomposition,
    decompose,
    explained_higher_order,
    explained_term,
    holm,
)
from shapeshd.benchmark.statistics.interactions import Interactions, read_product_distribution
from shapeshd.benchmark.statistics.intervals import u_statistic
from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, NAMES, NUM_BINS
from tests.support.histograms import variance_of

from .test_chi_square import distributions, outcomes

Floats = np.ndarray


def on_axis(values: object, axis: int, ndim: int = 6) -> Floats:
    return np.asarray(values).reshape([-1 if other == axis else 1 for other in range(ndim)])


def sample(density: Floats, n: int, seed: int) -> Floats:
    """Draw n samples of a density relative to the uniform distribution."""
    p = np.broadcast_to(density, BIN_SHAPE).ravel()
    return np.random.default_rng(seed).multinomial(n, p / p.sum())


def divergence(p: Floats, distribution: tuple[Floats, ...], axes: tuple[int, ...]) -> float:
    """D_S by its definition."""
    others = tuple(axis for axis in range(p.ndim) if axis not in axes)
    q = functools.reduce(np.multiply.outer, [distribution[axis] for axis in axes])
    return float((p.sum(axis=others) ** 2 / q).sum() - 1)


def truth(p: Floats, distribution: tuple[Floats, ...]) -> dict[tuple[int, ...], float]:
    """Delta of all parts; the key () is that of four factors and more."""
    axes = tuple(range(p.ndim))
    parts = {(axis,): divergence(p, distribution, (axis,)) for axis in axes}
    for a, b in itertools.combinations(axes, 2):
        parts[a, b] = divergence(p, distribution, (a, b)) - parts[a,] - parts[b,]
    for a, b, c in itertools.combinations(axes, 3):
        lower = sum(parts[one] for one in [(a,), (b,), (c,), (a, b), (a, c), (b, c)])
        parts[a, b, c] = divergence(p, distribution, (a, b, c)) - lower
    parts[()] = divergence(p, distribution, axes) - sum(parts.values())
    return parts


def deltas(found: Decomposition) -> dict[str, float]:
    return {part.name: part.delta.value for part in found.parts}


# Exact references.


@settings(max_examples=4)
@given(p=distributions(8), a=distributions(2), b=distributions(2), c=distributions(2))
def test_terms_and_variances_are_unbiased_over_all_outcomes(
    p: Floats, a: Floats, b: Floats, c: Floats
) -> None:
    weights = (1 / a, 1 / b, 1 / c)
    names = [(0,), (2,), (0, 1), (1, 2), (0, 1, 2), ()]
    sums = {name: np.zeros(3) for name in names}
    for counts, mass in outcomes(4, p):
        terms = Interactions(counts.reshape(2, 2, 2), weights)
        for name in names:
            found = terms.term(name) if name else terms.higher_order()
            sums[name] += mass * np.array([found.value, found.value**2, variance_of(found)])
    expected = truth(p.reshape(2, 2, 2), (a, b, c))
    for name, (mean, second, scatter) in sums.items():
        assert mean == pytest.approx(expected[name], abs=1e-9)
        assert scatter == pytest.approx(second - mean**2, rel=1e-7, abs=1e-9)
        assert expected[name] >= -1e-12


@settings(max_examples=20)
@given(
    counts=st.lists(st.integers(0, 5), min_size=24, max_size=24),
    marginals=st.tuples(distributions(2), distributions(3), distributions(2), distributions(2)),
    uniform=st.booleans(),
)
def test_terms_are_those_of_their_kernels(
    counts: list[int], marginals: tuple[Floats, ...], uniform: bool
) -> None:
    """The whole matrix h(x, y) of 24 x 24 bins, written down."""
    shape = (2, 3, 2, 2)
    if uniform:
        marginals = read_product_distribution(None, shape).marginals
    table = np.array(counts).reshape(shape) + 1
    terms = Interactions(table, tuple(1 / q for q in marginals))
    bins = list(np.ndindex(*shape))

    def matrix(axes: tuple[int, ...]) -> Floats:
        return np.array([
            [math.prod((x[j] == y[j]) / marginals[j][x[j]] - 1 for j in axes) for y in bins]
            for x in bins
        ])  # fmt: skip

    subsets = [axes for size in range(1, 5) for axes in itertools.combinations(range(4), size)]
    kernels = {axes: matrix(axes) for axes in subsets if len(axes) < 4}
    kernels[()] = sum(matrix(axes) for axes in subsets if len(axes) > 3)
    flat = table.ravel()
    for axes, h in kernels.items():
        diagonal = np.diag(h).copy()
        squares = flat @ (h**2 @ flat) - flat @ diagonal**2
        expected = u_statistic(flat, h @ flat, diagonal, squares)
        found = terms.term(axes) if axes else terms.higher_order()
        assert found.value == pytest.approx(expected.value, abs=1e-9)
        assert found.zeta1 == pytest.approx(expected.zeta1, rel=1e-6, abs=1e-9)
        assert found.tau == pytest.approx(expected.tau, rel=1e-6, abs=1e-9)
        assert found.trace == pytest.approx(expected.trace, rel=1e-6, abs=1e-9)
        assert np.linalg.eigvalsh(np.sqrt(np.outer(flat, flat)) * h).min() > -1e-6


@settings(max_examples=30)
@given(
    counts=st.lists(st.integers(0, 400), min_size=12, max_size=12),
    marginals=st.tuples(distributions(2), distributions(3), distributions(2)),
)
def test_parts_add_up(counts: list[int], marginals: tuple[Floats, ...]) -> None:
    table = np.array(counts).reshape(2, 3, 2) + 10
    found = decompose(table, list(marginals), shape=(2, 3, 2), names=("a", "b", "c"))
    joint = functools.reduce(np.multiply.outer, marginals)
    assert found.total == goodness_of_fit(table, joint).divergence or np.isclose(
        found.total.value, goodness_of_fit(table, joint).divergence.value
    )
    assert len(found.parts) == 8
    assert found.part(HIGHER_ORDER).delta.value == 0
    assert sum(deltas(found).values()) == pytest.approx(found.total.value, rel=1e-9, abs=1e-12)
    for a, b in itertools.combinations("abc", 2):
        pair = found.part(b, a)
        assert pair.divergence is not None
        assert pair.divergence.value == pytest.approx(
            pair.delta.value + found.part(a).delta.value + found.part(b).delta.value, abs=1e-9
        )
        assert pair.explained == found.part(a).delta.value * found.part(b).delta.value
    if found.total.low > 0:
        assert sum(part.share or 0.0 for part in found.parts) == pytest.approx(1)
    else:
        assert all(part.share is None for part in found.parts)


def test_marginal_divergence_is_that_of_the_marginal_histogram() -> None:
    counts = sample(np.ones(1), 50_000, 1).reshape(BIN_SHAPE)
    found = decompose(counts)
    for axes in [(0,), (4,), (0, 2), (3, 5)]:
        others = tuple(axis for axis in range(6) if axis not in axes)
        marginal = counts.sum(axis=others)
        expected = goodness_of_fit(marginal, bins=marginal.size).divergence
        part = found.part(*(NAMES[axis] for axis in axes))
        assert part.divergence is not None
        assert part.divergence.value == pytest.approx(expected.value, rel=1e-9, abs=1e-12)
        assert part.divergence.high == pytest.approx(expected.high, rel=1e-6)


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03, 0.8]) == pytest.approx([0.09, 0.04, 0.09, 0.8])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=22))
def test_holm_lies_between_the_raw_and_bonferronis(values: list[float]) -> None:
    for raw, corrected in zip(values, holm(values), strict=True):
        assert raw <= corrected <= min(1, len(values) * raw)


# Known guilt.


def test_a_tilted_factor_is_named() -> None:
    tilt = 1 + 0.3 * np.cos(2 * np.pi * np.arange(12) / 12)
    found = decompose(sample(on_axis(tilt, 1), 100_000, 3))
    assert [part.name for part in found.significant] == ["wall_hue"]
    part = found.part("wall_hue")
    assert part.delta.low < 0.3**2 / 2 < part.delta.high
    assert part is found.parts[0]
    assert part.share is not None
    assert 0.5 < part.share < 1.5
    assert "wall_hue (0.04" in found.summary()


def test_a_coupled_pair_is_named_and_its_factors_are_not() -> None:
    checks = 1 + 0.4 * (-1.0) ** (np.arange(4)[:, None] + np.arange(6))
    density = checks.reshape(1, 1, 1, 1, 4, 6)
    found = decompose(sample(density, 100_000, 4))
    assert [part.name for part in found.significant] == ["shape x orientation"]
    assert found.part("orientation", "shape").delta.low < 0.16
    assert found.part("orientation", "shape").delta.high > 0.16
    assert "shape with orientation" in found.summary()


def test_two_tilted_factors_are_no_fault_of_the_pair() -> None:
    """Delta_ab = D_a D_b is far above its noise here, and is not held against the pair."""
    shapes, scales = np.array([1.6, 1.2, 0.8, 0.4]), np.array([0.5, 0.5, 1.5, 1.5])
    density = on_axis(shapes, 4) * on_axis(scales, 3)
    found = decompose(sample(density, 300_000, 5))
    assert {part.name for part in found.significant} == {"shape", "scale"}
    pair = found.part("scale", "shape")
    assert pair.delta.low > 0
    assert pair.delta.value == pytest.approx(0.2 * 0.25, rel=0.05)
    assert pair.explained == pytest.approx(0.2 * 0.25, rel=0.05)


def test_many_tilted_factors_are_no_fault_of_the_rest() -> None:
    density = np.ones(BIN_SHAPE)
    for axis, bins in enumerate(BIN_SHAPE):
        density = density * on_axis(np.linspace(0.3, 1.7, bins), axis)
    found = decompose(sample(density, 300_000, 6))
    assert {part.name for part in found.significant} == set(NAMES)
    rest = found.part(HIGHER_ORDER)
    assert rest.delta.low > 0.002
    assert rest.explained == pytest.approx(rest.delta.value, rel=0.3)
    triple = found.part("floor_hue", "scale", "orientation")
    assert triple.delta.low > 0.005
    assert triple.explained == pytest.approx(triple.delta.value, rel=0.2)


@pytest.mark.parametrize("kind", ["noise", "memory", "four"])
def test_what_no_pair_shows_is_the_rests(kind: str) -> None:
    rng = np.random.default_rng(7)
    if kind == "noise":
        density = np.exp(0.5 * rng.normal(size=BIN_SHAPE))
    elif kind == "memory":
        density = rng.multinomial(400_000, np.full(NUM_BINS, 1 / NUM_BINS)).reshape(BIN_SHAPE)
    else:
        signs = [on_axis((-1.0) ** np.arange(bins), axis) for axis, bins in enumerate(BIN_SHAPE)]
        density = 1 + 0.5 * signs[0] * signs[3] * signs[4] * signs[5]
    found = decompose(sample(density, 100_000, 18))
    assert found.significant[0].name == HIGHER_ORDER
    if kind == "four":  # the margins of the others are off, too, if only a little
        assert len(found.significant) == 1
    assert "four factors and more" in found.summary()
    p = np.asarray(np.broadcast_to(density, BIN_SHAPE) / np.broadcast_to(density, BIN_SHAPE).sum())
    true = truth(p, read_product_distribution(None, BIN_SHAPE).marginals)[()]
    rest = found.part(HIGHER_ORDER)
    assert rest.delta.low < true < rest.delta.high


@pytest.mark.parametrize(("strength", "n"), [(0.6, 6_000), (0.22, 20_000), (0.1, 100_000)])
def test_three_factors_are_named_where_no_pair_shows_it(strength: float, n: int) -> None:
    """XOR of the halves of three factors: all pairs stay uniform, D = strength^2."""
    halves = {axis: np.repeat([1, -1], BIN_SHAPE[axis] // 2) for axis in (2, 3, 4)}
    density = 1 + strength * math.prod(on_axis(sign, axis) for axis, sign in halves.items())
    for seed in range(3):
        found = decompose(sample(density, n, seed))
        assert found.significant[0].factors == ("object_hue", "scale", "shape")
        assert found.significant[0].delta.value == pytest.approx(strength**2, rel=0.2)
        assert "object_hue with scale with shape" in found.summary()


def test_pairs_alone_are_no_fault_of_three_factors() -> None:
    """p = f(a, b) g(b, c): a and c depend on each other through b, the triple's term is not 0."""
    rng = np.random.default_rng(20)
    first, second = np.exp(rng.normal(size=(4, 4))), np.exp(rng.normal(size=(4, 6)))
    density = first.reshape(1, 1, 1, 4, 4, 1) * second.reshape(1, 1, 1, 1, 4, 6)
    found = decompose(sample(density, 200_000, 19))
    triple = found.part("scale", "shape", "orientation")
    assert triple.delta.low > 1.3 * triple.explained > 0
    assert not any(part.significant for part in found.parts if len(part.factors) == 3)


def test_an_ideal_sampler_is_not_accused() -> None:
    """At most 2.5% of them; 25 seeds, of which 3 may be."""
    accused = [decompose(sample(np.ones(1), 20_000, seed)).significant for seed in range(25)]
    assert sum(map(bool, accused)) <= 3
    clean = decompose(sample(np.ones(1), 20_000, 100))
    assert clean.summary().startswith("No factor")


def test_the_explained_higher_order_term_is_that_of_independent_blocks() -> None:
    rng = np.random.default_rng(9)
    blocks = [rng.dirichlet(np.full(6, 5.0)), rng.dirichlet(np.full(4, 5.0)), [0.3, 0.7]]
    p = functools.reduce(np.multiply.outer, [np.ravel(block) for block in blocks])
    parts = truth(
        p.reshape(2, 3, 2, 2, 2), read_product_distribution(None, (2, 3, 2, 2, 2)).marginals
    )
    higher = parts.pop(())
    assert explained_higher_order(parts) == pytest.approx(higher, rel=1e-9)
    assert explained_higher_order(dict.fromkeys(parts, 0.0)) == 0
    for axes in parts:
        if len(axes) == 3:  # each holds a whole block and a factor, or one factor of each block
            assert explained_term(axes, parts) == pytest.approx(parts[axes], rel=1e-9)


# Other distributions.


def test_a_product_distribution_in_all_its_forms() -> None:
    rng = np.random.default_rng(10)
    marginals = [rng.dirichlet(np.full(bins, 6.0)) for bins in BIN_SHAPE]
    joint = functools.reduce(np.multiply.outer, marginals)
    counts = rng.multinomial(100_000, joint.ravel())
    found = decompose(counts, marginals)
    assert not found.significant
    for distribution in (joint, joint.ravel()):
        other = decompose(counts.reshape(BIN_SHAPE), distribution)
        assert deltas(other) == pytest.approx(deltas(found), abs=1e-9)
    assert {part.name for part in decompose(counts).significant} == set(NAMES)


def test_interval_covers_under_a_product_distribution() -> None:
    rng = np.random.default_rng(11)
    shape, names = (4, 5, 3), ("a", "b", "c")
    marginals = [rng.dirichlet(np.full(bins, 6.0)) for bins in shape]
    q = functools.reduce(np.multiply.outer, marginals)
    hits = {"total": 0, "main": 0, "pair": 0, "triple": 0}
    for _ in range(150):
        p = q * np.exp(0.15 * rng.normal(size=shape))
        p /= p.sum()
        true = truth(p, tuple(marginals))
        found = decompose(rng.multinomial(3_000, p.ravel()), marginals, shape=shape, names=names)
        hits["total"] += found.total.low <= sum(true.values()) <= found.total.high
        for kind, axes in (("main", (1,)), ("pair", (0, 2)), ("triple", (0, 1, 2))):
            part = found.part(*(names[axis] for axis in axes))
            hits[kind] += part.delta.low <= true[axes] <= part.delta.high
    assert min(hits.values()) >= 0.9 * 150


def test_values_of_probability_zero_drop_out() -> None:
    counts = np.random.default_rng(12).integers(20, 90, (3, 2, 4))
    distribution = [[0.2, 0.3, 0.5], [0.5, 0.5], [0.25] * 4]
    names = ("a", "b", "c")
    wide = decompose(
        np.insert(counts, 1, 0, axis=0),
        [[0.2, 0, 0.3, 0.5], *distribution[1:]],
        shape=(4, 2, 4), names=names,
    )  # fmt: skip
    assert wide == decompose(counts, distribution, shape=(3, 2, 4), names=names)


def test_order_of_factors_and_of_their_values_does_not_matter() -> None:
    rng = np.random.default_rng(13)
    counts = rng.integers(5, 60, (3, 2, 4))
    found = decompose(counts, shape=(3, 2, 4), names=("a", "b", "c"))
    turned = decompose(counts.transpose(2, 0, 1), shape=(4, 3, 2), names=("c", "a", "b"))
    for part in found.parts:
        other = turned.part(*part.factors) if part.factors else turned.part(HIGHER_ORDER)
        assert part.delta.to_json() == pytest.approx(other.delta.to_json(), rel=1e-6, abs=1e-12)
        assert part.p_holm == pytest.approx(other.p_holm, rel=1e-6)
    mixed = decompose(counts[[2, 0, 1]][:, ::-1], shape=(3, 2, 4), names=("a", "b", "c"))
    assert deltas(mixed) == pytest.approx(deltas(found), abs=1e-12)


def test_collapse_to_one_bin() -> None:
    counts = np.zeros(NUM_BINS, dtype=np.int64)
    counts[5] = 100_000
    found = decompose(counts)
    assert found.part("scale").delta.value == pytest.approx(3)
    assert found.part("floor_hue", "shape").delta.value == pytest.approx(33)
    assert {part.name for part in found.significant} == set(NAMES)
    json.dumps(found.to_json(), allow_nan=False)


# Refusals.


@pytest.mark.parametrize(
    ("counts", "distribution", "message"),
    [
        (np.ones((3, 4), dtype=int), None, "12 bins, .*factors have 8"),
        (np.ones(8, dtype=int), None, "8 samples are too few"),
        (np.ones(8), None, "counts must be integers"),
        (np.full(8, 90), np.ones(9) / 9, "distribution has 9 bins"),
        (np.full(8, 90), [[0.5, 0.5], [0.5, 0.5]], "2, 2 bins for its factors"),
        (np.full(8, 90), [[0.5, 0.5], [0.5, 0.6], [0.5, 0.5]], "sum up to 1.1"),
        (np.full(8, 90), [[0.5, 0.5], [1, 0], [0.5, 0.5]], "bin 1 of b holds 360 samples"),
        (np.full(8, 90), np.array([2, 1, 1, 1, 1, 1, 1, 2]) / 10, "makes them independent"),
        (np.array([90, 90, 0, 0] * 2), [[0.5, 0.5], [1, 0], [0.5, 0.5]], "puts b into one bin"),
        (np.full(8, 90), "uniform", "probabilities must be numbers"),
    ],
)
def test_what_means_nothing_is_refused(counts: Floats, distribution: object, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        decompose(counts, distribution, shape=(2, 2, 2), names=("a", "b", "c"))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_shapes_and_parts_that_do_not_exist_are_refused() -> None:
    counts = np.full(8, 90)
    with pytest.raises(UsageError, match="do not go together"):
        decompose(counts, shape=(2, 2, 2), names=("a", "b"))
    found = decompose(counts, shape=(2, 2, 2), names=("a", "b", "c"))
    for wrong in (("d",), ("a", "b", "d"), (), ("a", HIGHER_ORDER), ("a", "a")):
        with pytest.raises(UsageError, match="has no part"):
            found.part(*wrong)


def test_result_is_json() -> None:
    found = decompose(sample(np.ones(1), 20_000, 14))
    result = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert len(result["parts"]) == 42
    names = {part["name"] for part in result["parts"]}
    assert names >= {HIGHER_ORDER, "scale", "floor_hue x wall_hue"}
    values = [part["delta"]["value"] for part in result["parts"]]
    assert values == sorted(values, reverse=True)
