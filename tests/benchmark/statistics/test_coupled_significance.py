"""Which parts are named under a distribution that couples factors, and which are not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shapeshd.benchmark.statistics.coupled import (
    Block,
    decompose_under,
    dependence_p_value,
    fit_margins,
)
from shapeshd.benchmark.statistics.independence import ENOUGH, independence_p_value
from shapeshd.distribution import Distribution, FactorGroup
from shapeshd.factors import BIN_SHAPE
from tests.experiments.truth.known_distributions import (
    DISTRIBUTIONS,
    faults,
    on_axes,
    with_fault,
)
from tests.support.coupled_pairs import block_of, distribution_of_pair, sampled


def test_the_moved_margin_of_a_partner_is_not_accused() -> None:
    distribution = DISTRIBUTIONS["coupled"]()
    p = with_fault(
        distribution, faults(distribution)[2]
    )  # of the wall alone; the object's histogram follows
    found = decompose_under(sampled(p, 100_000, 4), distribution)
    wall, partner = found.part("wall_hue"), found.part("object_hue")
    assert wall.significant
    assert not partner.significant
    assert partner.divergence is not None
    assert partner.divergence.low > 0  # its own histogram is off
    assert [part.name for part in found.significant] == ["wall_hue"]


def test_factors_known_from_each_other_share_the_blame() -> None:
    distribution = distribution_of_pair(np.eye(4), "scale", "shape")
    found = decompose_under(
        sampled(with_fault(distribution, faults(distribution)[0]), 20_000, 5), distribution
    )
    assert not found.significant
    tilted = distribution.expected().reshape(BIN_SHAPE) * np.array([1, 1, 1, 2.0]).reshape(
        1, 1, 1, 4, 1, 1
    )
    found = decompose_under(sampled((tilted / tilted.sum()).ravel(), 20_000, 5), distribution)
    assert {part.name for part in found.significant} == {"scale", "shape"}
    assert found.part("scale").delta.value == pytest.approx(found.part("shape").delta.value)
    assert found.part("scale", "shape").delta.value == pytest.approx(0, abs=1e-9)


def test_two_margins_alone_are_no_fault_of_the_pair() -> None:
    """p = q s(a) t(b) has a term beyond sums, which the fitted table explains."""
    distribution = distribution_of_pair(1 + 3 * np.eye(12), "wall_hue", "object_hue")
    wave = 1 + 0.8 * np.cos(2 * np.pi * np.arange(12) / 12)
    table = distribution.expected().reshape(BIN_SHAPE) * wave.reshape(1, 12, 1, 1, 1, 1)
    table = table * wave.reshape(1, 1, 12, 1, 1, 1)
    p = (table / table.sum()).ravel()
    found = decompose_under(sampled(p, 100_000, 6), distribution)
    assert {part.name for part in found.significant} == {"wall_hue", "object_hue"}
    pair = found.part("wall_hue", "object_hue")
    assert pair.delta.low > 0.01
    assert pair.delta.low < pair.explained < pair.delta.high


SIZES = {"factors": ["scale", "shape"], "weights": (1 + 3 * np.eye(4)).tolist()}
HUES = {"factors": ["floor_hue", "wall_hue"], "weights": (1 + 2 * np.eye(12)).tolist()}
WAVE = np.cos(2 * np.pi * np.arange(12) / 12)


def tilted(distribution: Distribution, *densities: np.ndarray) -> np.ndarray:
    table = distribution.expected().reshape(BIN_SHAPE) * math.prod(densities)
    return (table / table.sum()).ravel()


@pytest.mark.parametrize(
    ("pairs", "fault", "innocent"),
    [
        (
            [SIZES],
            [on_axes(np.linspace(1.6, 0.4, 4), "shape"),
             on_axes(1 + 0.6 * np.outer([1, 0.3, -0.3, -1], np.linspace(1, -1, 6)),
                     "scale", "orientation")],
            [("scale", "shape", "orientation")],
        ),
        (
            [SIZES, HUES],
            [on_axes(np.linspace(1.6, 0.4, 4), "shape"), on_axes(1 + 0.6 * WAVE, "wall_hue"),
             on_axes(1 + 0.6 * np.outer(WAVE, [1, 0.3, -0.3, -1]), "floor_hue", "scale")],
            [("floor_hue", "scale", "shape"), ("floor_hue", "wall_hue", "scale"),
             ("floor_hue", "wall_hue", "scale", "shape")],
        ),
    ],
)  # fmt: skip
def test_a_pair_is_not_named_with_what_depends_on_one_of_its_factors(
    pairs: list[Any], fault: list[np.ndarray], innocent: list[tuple[str, ...]]
) -> None:
    """p = q t(b) s(a, c): the term of a, b and c is there, but no interaction of three factors."""
    distribution = Distribution.from_json({"pair": pairs})
    p = tilted(distribution, *fault)
    for seed in range(8):
        found = decompose_under(sampled(p, 100_000, seed), distribution)
        for names in innocent:
            part = found.part(*names)
            assert part.delta.low > 0
            assert not part.significant
            assert part.explained > part.delta.value / 2


@pytest.mark.parametrize("weights", [1 + 3 * np.eye(4), np.triu(np.ones((4, 4)))])
def test_what_a_pair_does_with_a_third_factor_is_named(weights: np.ndarray) -> None:
    distribution = distribution_of_pair(weights, "scale", "shape")
    signs = [1, -1, 1, -1], [1, -1, -1, 1], [1, -1, 1, -1, 1, -1]
    density = on_axes(1 + 0.2 * np.einsum("a,b,c->abc", *signs), "scale", "shape", "orientation")
    found = decompose_under(sampled(tilted(distribution, density), 6_000, 1), distribution)
    assert found.part("scale", "shape", "orientation").significant


def test_the_fitted_table_keeps_margins_and_odds_ratios() -> None:
    rng = np.random.default_rng(7)
    table = rng.random((4, 4)) + 0.1
    block, counts = block_of(table), rng.integers(20, 90, 16)
    fitted = fit_margins(counts, block).reshape(4, 4)
    np.testing.assert_allclose(fitted.sum(0), counts.reshape(4, 4).sum(0), rtol=1e-6)
    np.testing.assert_allclose(fitted.sum(1), counts.reshape(4, 4).sum(1), rtol=1e-6)
    ratio = np.log(fitted / table)
    odds = ratio - ratio.mean(0) - ratio.mean(1)[:, None] + ratio.mean()
    np.testing.assert_allclose(odds, 0, atol=1e-6)


@settings(max_examples=30)
@given(seed=st.integers(0, 9_999))
def test_under_a_product_it_is_pearsons_test_of_independence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 30, (4, 4))
    counts[:, rng.integers(4)] *= rng.integers(0, 2)  # perhaps a value without a sample
    counts[0, :2] += 1
    counts[1, :2] += 1
    block = block_of(np.outer([1, 2, 3, 4], [4, 1, 1, 4]))
    fitted = fit_margins(counts.ravel(), block)
    found = dependence_p_value(counts.ravel(), fitted, block)
    kept = counts[counts.any(1)][:, counts.any(0)]
    table = stats.chi2_contingency(kept, correction=False)
    if table.expected_freq.min() >= ENOUGH:
        assert found == pytest.approx(table.pvalue, abs=1e-6)
    if kept.size > 4:
        assert found == pytest.approx(independence_p_value(counts), abs=1e-6)


def test_the_dependence_test_has_its_level_under_the_distribution() -> None:
    rng = np.random.default_rng(8)
    table = 1 + 6 * np.eye(12)
    block = Block.of(FactorGroup((1, 2), table / table.sum()))
    small = 0
    for counts in rng.multinomial(3_000, block.q, 400):
        small += dependence_p_value(counts, fit_margins(counts, block), block) < 0.05
    assert 8 <= small <= 34  # 20 expected


def test_a_faultless_source_is_seldom_accused() -> None:
    distribution = DISTRIBUTIONS["twice-coupled"]()
    rng = np.random.default_rng(9)
    accused = [
        bool(decompose_under(counts, distribution).significant)
        for counts in rng.multinomial(6_000, distribution.expected(), 20)
    ]
    assert sum(accused) <= 4
