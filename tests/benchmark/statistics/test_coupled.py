"""The split of the divergence under a distribution that couples factors, against brute force."""

from __future__ import annotations

import argparse
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.coupled import (
    Block,
    decompose_under,
    statistic,
)
from shapeshd.benchmark.statistics.decomposition import decompose
from shapeshd.distribution import Distribution, FactorGroup
from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, NAMES, NUM_BINS
from tests.experiments.truth.known_distributions import (
    DISTRIBUTIONS,
    NULL_DISTRIBUTIONS,
    RESULTS,
    exact_terms,
    faults,
    measure,
    with_fault,
)
from tests.support.coupled_pairs import block_of, distribution_of_pair, sampled


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Joint weights of two factors with four bins each, some 0."""
    rng = np.random.default_rng(draw(st.integers(0, 9_999)))
    table = rng.gamma(draw(st.sampled_from([0.2, 1.0, 20.0])), size=(4, 4))
    table *= rng.random((4, 4)) < draw(st.sampled_from([0.6, 1.0]))
    table[[0, 1, 2], [0, 1, 1]] += 0.5
    return np.maximum(table / table.sum(), np.where(table > 0, 1e-6, 0))


@settings(max_examples=60)
@given(table=tables())
def test_the_kernels_of_a_pair_are_centred_semidefinite_and_add_up(table: np.ndarray) -> None:
    block = block_of(table)
    total = sum(component.kernel for component in block.components)
    np.testing.assert_allclose(total, np.diag(1 / block.q) - 1, atol=1e-7 / block.q.min())
    for component in block.components:
        for kernel in (component.kernel, component.test):
            scaled = np.sqrt(block.q)[:, None] * kernel * np.sqrt(block.q)  # of L2(q)
            np.testing.assert_allclose(scaled, scaled.T, atol=1e-9)
            np.testing.assert_allclose(scaled @ np.sqrt(block.q), 0, atol=1e-8)
            assert np.linalg.eigvalsh(scaled).min() > -1e-8


def test_halves_of_a_pair_by_hand() -> None:
    """Two factors of two values: all projections are known in closed form."""
    q = np.array([[0.4, 0.1], [0.1, 0.4]])
    p = np.array([[0.5, 0.2], [0.1, 0.2]])
    block = Block.of(FactorGroup((3, 4), q))
    a, b, both = (component.kernel for component in block.components)
    found = [float(p.ravel() @ kernel @ p.ravel()) for kernel in (a, b, both)]
    main = [(0.7**2 + 0.3**2) / 0.5 - 1, (0.6**2 + 0.4**2) / 0.5 - 1]
    # Orthogonal to all f(a) + g(b) in L2(q) is, up to a factor, s / q with s = + - - +.
    sign = np.array([[1, -1], [-1, 1]])
    left = (p * sign / q).sum() ** 2 / (sign**2 / q).sum()
    whole = (p**2 / q).sum() - 1
    assert found[2] == pytest.approx(left)
    assert found[0] == pytest.approx((main[0] + whole - left - main[1]) / 2)
    assert found[1] == pytest.approx((main[1] + whole - left - main[0]) / 2)
    assert sum(found) == pytest.approx(whole)


@settings(max_examples=25)
@given(table=tables(), seed=st.integers(0, 999))
def test_a_term_is_the_mean_over_pairs_of_samples(table: np.ndarray, seed: int) -> None:
    block, other = block_of(table), Block.of(FactorGroup((5,), np.array([1, 2, 3, 3, 2, 1]) / 12))
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 3, (len(block.q), 6))
    counts[0, 0] += 4
    rows = np.repeat(np.arange(counts.size), counts.ravel())
    i, j = np.array(list(itertools.permutations(rows, 2))).T
    for component in block.components:
        kernel = component.kernel
        h = kernel[i // 6, j // 6] * other.components[0].kernel[i % 6, j % 6]
        found = statistic(counts, kernel, other.components[0].kernel)
        assert found.value == pytest.approx(h.mean(), rel=1e-9, abs=1e-9 * np.abs(h).max())
        alone = statistic(counts.sum(axis=1), kernel)
        assert alone.value == pytest.approx(
            kernel[i // 6, j // 6].mean(), abs=1e-9 * np.abs(kernel).max()
        )


def test_a_pair_that_is_a_product_is_two_factors() -> None:
    scale, angle = [1.0, 2, 3, 4], [1.0, 1, 2, 2, 3, 3]
    pair = distribution_of_pair(np.outer(scale, angle))
    single = Distribution.from_json(
        {"scale": {"weights": scale}, "orientation": {"weights": angle}}
    )
    p = with_fault(single, faults(single)[3])
    counts = sampled(p, 20_000, 1)
    one, other = decompose_under(counts, pair), decompose_under(counts, single)
    assert other == decompose(counts, [single.marginal(name) for name in NAMES])
    assert one.total.value == pytest.approx(other.total.value)
    both = {part.name for part in one.parts} & {part.name for part in other.parts}
    assert len(both) == 6 + 15 + 8 + 1
    for part in other.parts:
        if part.name in both and part.factors:
            same = one.part(*part.factors)
            assert same.delta.value == pytest.approx(part.delta.value, abs=1e-12)
            if len(part.factors) < 3:
                assert same.p_value == pytest.approx(part.p_value, rel=1e-3, abs=1e-12)
    # What the pair and a third factor do beyond couples is a triple here and there; what the pair
    # and two others do at a time is one part here, a triple or of higher order there.
    triples = (part.delta.value for part in other.parts if part.name not in both)
    split = (part.delta.value for part in one.parts if part.name not in both)
    left = other.part("higher_order").delta.value + sum(triples)
    assert one.part("higher_order").delta.value + sum(split) == pytest.approx(left, abs=1e-12)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_parts_add_up_to_the_divergence(name: str) -> None:
    distribution = DISTRIBUTIONS[name]()
    counts = sampled(with_fault(distribution, faults(distribution)[1]), 10_000, 2)
    found = decompose_under(counts, distribution)
    assert found.total.value == pytest.approx(
        goodness_of_fit(counts, distribution.expected()).divergence.value, abs=1e-10
    )
    assert sum(part.delta.value for part in found.parts) == pytest.approx(found.total.value)
    names = [part.name for part in found.parts]
    assert (
        len(names) == len(set(names)) == {"weighted": 42, "coupled": 36, "twice-coupled": 35}[name]
    )
    for a, b in itertools.combinations(NAMES, 2):
        assert found.part(a, b).factors == (a, b)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_exact_terms_are_those_of_an_independent_projection(name: str) -> None:
    """With counts that are the probabilities times a large number, noise is small."""
    distribution = DISTRIBUTIONS[name]()
    n = 2_000_000_000
    for fault in faults(distribution)[3:]:
        p = with_fault(distribution, fault)
        counts = np.rint(n * p).astype(np.int64)
        terms = exact_terms(p, distribution)
        found = decompose_under(counts, distribution)
        assert {part.name for part in found.parts} == set(terms)
        for part in found.parts:
            assert part.delta.value == pytest.approx(terms[part.name][0], abs=2e-4)
            assert part.delta.value > -2e-4


def test_divergences_of_margins_are_the_sums_of_their_terms() -> None:
    distribution = DISTRIBUTIONS["coupled"]()
    found = decompose_under(
        sampled(with_fault(distribution, faults(distribution)[2]), 30_000, 3), distribution
    )

    def terms(*names: str) -> float:
        inside = [part for part in found.parts if part.factors and set(part.factors) <= set(names)]
        return sum(part.delta.value for part in inside)

    for names in (("wall_hue", "object_hue"), ("scale", "wall_hue", "object_hue"), ("shape",)):
        part = found.part(*names)
        assert part.divergence is not None
        assert part.divergence.value == pytest.approx(terms(*names), abs=1e-10)


def test_a_factor_with_one_bin_has_no_part() -> None:
    for distribution in (
        Distribution.from_json({"shape": {"weights": [0, 0, 1, 0]}}),
        Distribution.from_json({
            "shape": {"weights": [0, 0, 1, 0]},
            "pair": [{"factors": ["scale", "wall_hue"], "weights": np.ones((4, 12)).tolist()}],
        }),
        distribution_of_pair(1 + np.eye(4), "scale", "shape"),
    ):  # fmt: skip
        found = decompose_under(sampled(distribution.expected(), 6_000, 10), distribution)
        named = {name for part in found.parts for name in part.factors}
        assert named == {*NAMES} - ({"shape"} if not distribution.pairs else set())


def test_one_block_is_all_of_the_divergence() -> None:
    one = {n: {"weights": [1] + [0] * (b - 1)} for n, b in zip(NAMES, BIN_SHAPE, strict=True)}
    distribution = Distribution.from_json({**one, "scale": {"weights": [1, 1, 2, 4]}})
    tilted = distribution.expected().reshape(BIN_SHAPE) * np.array([2, 1, 1, 1]).reshape(
        1, 1, 1, 4, 1, 1
    )
    found = decompose_under(sampled((tilted / tilted.sum()).ravel(), 5_000, 1), distribution)
    assert [part.name for part in found.significant] == ["scale"]
    assert found.part("scale").delta.value == pytest.approx(found.total.value)
    assert found.part("higher_order").delta.value == 0


def test_what_it_refuses() -> None:
    distribution = Distribution.from_json({"shape": {"weights": [1, 1, 0, 1]}})
    pair = distribution_of_pair(np.triu(np.ones((4, 4))), "scale", "shape")
    ones = np.ones(NUM_BINS, np.int64)
    one_bin = {
        name: {"weights": [1] + [0] * (bins - 1)}
        for name, bins in zip(NAMES, BIN_SHAPE, strict=True)
    }
    with pytest.raises(UsageError, match=r"probability .*is 0"):
        decompose_under(ones, distribution)
    with pytest.raises(UsageError, match=r"62208 samples .*probability"):
        decompose_under(ones, pair)
    with pytest.raises(UsageError, match=r"5 bins, .* 165888"):
        decompose_under([1, 2, 3, 4, 5], pair)
    with pytest.raises(UsageError, match=r"500 samples .* 103,680"):
        decompose_under(sampled(pair.expected(), 500, 0), pair)
    with pytest.raises(UsageError, match=r"everything into one bin"):
        decompose_under(ones, Distribution.from_json(one_bin))
    assert decompose_under(ones, None) == decompose(ones)
    assert decompose_under(ones, Distribution.from_text("")) == decompose(ones)


def test_the_recovery_under_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    distribution = DISTRIBUTIONS["coupled"]()
    options = argparse.Namespace(samples=20_000, sources=6, named=2)
    row = measure("coupled", distribution, faults(distribution)[3], options)
    assert row["divergence"] == pytest.approx(row["mean"], abs=5 * row["standard_error"])
    assert (row["held"] >= 4, row["named"], row["faultless_accused"]) == (True, 2, 0)
    assert row["significant"] == ["wall_hue x orientation"]
    # Under a uniform factor the density's own mean square is the divergence.
    tilt = np.linspace(0.5, 1.5, 6)
    weights = np.array([1, 2, 3, 3, 2, 1]) / 12
    tilted = with_fault(distribution, faults(distribution)[1])
    exact = exact_terms(tilted, distribution)["orientation"][0]
    assert exact == pytest.approx(weights @ tilt**2 / (weights @ tilt) ** 2 - 1)


def test_the_recorded_recovery_is_whole() -> None:
    """``tests.experiments.truth.known_distributions`` wrote it: all faults, all distributions."""
    recorded = json.loads(RESULTS.read_text())
    rows, sources = recorded["rows"], recorded["sources"]
    assert sources == 200
    assert recorded["distributions"] == {
        name: make().text for name, make in NULL_DISTRIBUTIONS.items()
    }
    wanted = [
        (name, fault.name) for name, make in DISTRIBUTIONS.items() for fault in faults(make())
    ]
    assert [(row["distribution"], row["fault"]) for row in rows] == wanted
    for what in ("held", "prediction_held"):
        held = [row[what] for row in rows]
        assert sum(held) >= 0.94 * sources * len(rows)
        assert min(held) >= 0.9 * sources
    assert all(row["named"] == recorded["named_of"] for row in rows)
    assert sum(row["faultless_accused"] for row in rows) <= 0.1 * recorded["named_of"] * len(rows)
    for row in recorded["ideal"]:
        assert row["interval_above_0"] <= 0.05 * sources  # nominally 2.5%
        assert row["p_below_5_percent"] <= 0.1 * sources
        assert abs(row["reduced_chi_square"] - 1) < 4 * row["reduced_chi_square_error"]
