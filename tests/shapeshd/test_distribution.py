"""Known distributions of the factors: their files, probabilities and samples."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shapeshd.distribution import LEAST_SHARE, Distribution
from shapeshd.errors import UsageError
from shapeshd.factors import (
    BIN_SHAPE,
    FACTORS,
    MAX_IMAGE,
    NAMES,
    NUM_BINS,
    bin_indices,
    joint_bins,
    uniform_factors,
    uniform_factors_at,
)
from tests.support.known_distributions import TEXT, paired, weighted

Run = Callable[..., tuple[int, str, str]]
FLAT = [[1] * 12] * 12


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "distribution.toml"
    path.write_text(TEXT)
    return path


def weights_of(bins: int) -> st.SearchStrategy[list[float]]:
    number = st.one_of(st.just(0.0), st.integers(1, 1000).map(float), st.floats(0.01, 10.0))
    return st.lists(number, min_size=bins, max_size=bins).filter(any)


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    """Up to two pairs, weights for some of the other factors."""
    order = draw(st.permutations(NAMES))
    values: dict[str, Any] = {"pair": []}
    for _ in range(draw(st.integers(0, 2))):
        names, order = order[:2], order[2:]
        high, wide = (FACTORS[NAMES.index(name)].bins for name in names)
        rng = np.random.default_rng(draw(st.integers(0, 999)))
        table = rng.random((high, wide)) * (rng.random((high, wide)) < 0.8)
        table[range(2), range(2)] = 1.0
        values["pair"].append({"factors": names, "weights": table.tolist()})
    for name in order[: draw(st.integers(0, len(order)))]:
        values[name] = {"weights": draw(weights_of(FACTORS[NAMES.index(name)].bins))}
    return Distribution.from_json(values)


def test_a_file_states_its_distribution_exactly(file: Path) -> None:
    distribution = Distribution.read(file)
    hues = 1 + 2 * np.eye(12)
    hues[0, 2], hues[11, 11] = 0, 5
    one, even = np.array([1, 1, 2, 4]) / 8, np.full(12, 1 / 12)
    expected = np.einsum(
        "a,bc,d,e,f->abcdef", even, hues.T / hues.sum(), one, np.array([1, 1, 0, 1]) / 3,
        np.full(6, 1 / 6),
    )  # fmt: skip
    np.testing.assert_allclose(distribution.expected(), expected.ravel(), rtol=1e-13, atol=0)
    assert distribution.expected().shape == (NUM_BINS,)
    assert math.fsum(distribution.expected()) == pytest.approx(1, abs=1e-12)
    assert distribution.bins == 12 * 143 * 4 * 3 * 6 == int((distribution.expected() > 0).sum())
    np.testing.assert_allclose(distribution.marginal("object_hue", "wall_hue"), hues / hues.sum())
    np.testing.assert_allclose(
        distribution.marginal("shape", "scale"), np.outer([1, 1, 0, 1], one) / 3
    )
    assert str(distribution).startswith("scale, shape weighted; wall_hue coupled with object_hue (")


@settings(max_examples=40)
@given(distribution=distributions())
def test_a_distribution_survives_json_and_text_to_the_last_bit(distribution: Distribution) -> None:
    for other in (
        Distribution.from_json(json.loads(json.dumps(distribution.to_json()))),
        Distribution.from_text(distribution.text),
    ):
        assert other == distribution
        assert (other.digest, hash(other), other.text) == (
            distribution.digest,
            hash(distribution),
            distribution.text,
        )
        np.testing.assert_array_equal(other.expected(), distribution.expected())
        np.testing.assert_array_equal(other.factors(3, 0, 50), distribution.factors(3, 0, 50))
        assert distribution.difference(other) is None


def test_equal_distributions_are_equal_however_they_are_written() -> None:
    assert weighted(scale=[1, 1, 2, 4]) == weighted(scale=[0.1, 0.1, 0.2, 0.4])
    assert weighted(scale=[1, 1, 2, 4]) == weighted(scale=[3, 3, 6, 12], shape=[2, 2, 2, 2])
    assert weighted(scale=[1, 1, 2, 4]) != weighted(scale=[1, 1, 2, 4.001])
    assert weighted(scale=[1, 1, 2, 4]) != "scale"
    table = np.arange(48.0).reshape(4, 12) + 1
    assert paired("scale", "floor_hue", table) == paired("floor_hue", "scale", table.T)
    assert (
        paired("wall_hue", "object_hue", FLAT)
        == weighted(shape=[3, 3, 3, 3])
        == Distribution.from_text("")
    )
    assert Distribution.from_text("").uniform
    assert (Distribution.from_text("").text, str(Distribution.from_text(""))) == ("", "uniform")


def test_the_uniform_distribution_gives_the_uniform_factors_bit_for_bit() -> None:
    distribution = weighted(scale=[5, 5, 5, 5])
    for seed, start in ((0, 0), (7, 12_345), (2**63 - 1, 10**9)):
        np.testing.assert_array_equal(
            distribution.factors(seed, start, start + 500),
            uniform_factors(seed, start, start + 500),
        )
    np.testing.assert_array_equal(
        distribution.factors_at(3, [9, MAX_IMAGE - 1]), uniform_factors_at(3, [9, MAX_IMAGE - 1])
    )


@settings(max_examples=40)
@given(distribution=distributions(), seed=st.integers(0, 2**63 - 1), start=st.integers(0, 10**12))
def test_a_sample_depends_on_seed_and_index_alone(
    distribution: Distribution, seed: int, start: int
) -> None:
    whole = distribution.factors(seed, start, start + 40)
    cut = [distribution.factors(seed, start + a, start + b) for a, b in ((0, 1), (1, 17), (17, 40))]
    np.testing.assert_array_equal(np.concatenate(cut), whole)
    rows = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(distribution.factors_at(seed, start + rows), whole[rows])
    same = distribution.factors(seed, start, start + 40)[
        :, [u.axes[0] for u in distribution.groups if u.uniform]
    ]
    free = uniform_factors(seed, start, start + 40)[
        :, [u.axes[0] for u in distribution.groups if u.uniform]
    ]
    np.testing.assert_array_equal(same, free)  # what has no weights does not move


@settings(max_examples=40)
@given(distribution=distributions())
def test_no_sample_lies_where_the_distribution_has_none(distribution: Distribution) -> None:
    factors = distribution.factors(1, 0, 2_000)
    assert (distribution.expected()[joint_bins(factors)] > 0).all()
    for column, factor in enumerate(FACTORS):
        assert factor.low <= factors[:, column].min() <= factors[:, column].max() <= factor.high


def test_ends_of_the_unit_interval_stay_inside_of_possible_bins() -> None:
    distribution = weighted(
        scale=[0, 1, 3, 0], shape=[0, 1, 0, 0], floor_hue=[0, 7] + [0] * 9 + [3],
        orientation=[0, 0, 1 / 3, 1 / 3, 1 / 3, 0],
    )  # fmt: skip
    ends = [0.0, 2.0**-53, 0.25, np.nextafter(0.25, 0), 0.7, 1 / 3, 2 / 3, 1 - 2.0**-53]
    unit = np.stack(np.meshgrid(*[ends] * 6), axis=-1).reshape(-1, 6)[::7]
    assert (distribution.expected()[joint_bins(distribution._from_unit(unit))] > 0).all()


def test_an_independent_inversion_gives_the_same_values() -> None:
    distribution = weighted(scale=[1, 0, 2, 5])
    unit = (uniform_factors(5, 0, 300)[:, 3] - 1).tolist()
    expected = np.interp(unit, [0, 0.125, 0.375, 1], [1, 1.25, 1.75, 2])
    jump = (np.array(unit) >= 0.125) & (np.array(unit) < 0.375)
    expected[jump] = 1.5 + (np.array(unit)[jump] - 0.125)
    np.testing.assert_allclose(distribution.factors(5, 0, 300)[:, 3], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("names", [("scale",), ("shape",), ("wall_hue", "object_hue"), NAMES[:4]])
def test_samples_follow_the_distribution(file: Path, names: tuple[str, ...]) -> None:
    distribution = Distribution.read(file)
    n = 400_000 if len(names) == 4 else 50_000
    axes = [NAMES.index(name) for name in names]
    q = distribution.marginal(*names).ravel()
    found = bin_indices(distribution.factors(11, 0, n))[:, axes]
    counts = np.bincount(
        np.ravel_multi_index(tuple(found.T), [BIN_SHAPE[axis] for axis in axes]), minlength=q.size
    )
    assert counts[q == 0].sum() == 0
    assert stats.chisquare(counts[q > 0], n * q[q > 0] / q.sum()).pvalue > 1e-3


def test_within_a_bin_the_factors_are_uniform(file: Path) -> None:
    factors = Distribution.read(file).factors(2, 0, 40_000)
    for column, factor in enumerate(FACTORS):
        if factor.topology != "discrete":
            place = (factors[:, column] - factor.low) / factor.period * factor.bins
            assert stats.kstest(np.mod(place, 1), "uniform").pvalue > 1e-4


def test_the_difference_is_named() -> None:
    one, other = weighted(scale=[1, 1, 2, 4]), weighted(shape=[1, 1, 0, 1])
    assert one.difference(other) == "scale [0.125, 0.125, 0.25, 0.5], not uniform"
    assert other.difference(one) == "scale uniform, not [0.125, 0.125, 0.25, 0.5]"
    pair = paired("wall_hue", "scale", np.arange(48.0).reshape(12, 4) + 1)
    assert "wall_hue and scale uniform, not coupled by the table" in str(one.difference(pair))


def _pair(weights: str, factors: str = '["scale", "shape"]') -> str:
    return f"[[pair]]\nfactors = {factors}\nweights = {weights}"


TABLE = "[[1,2,1,1],[1,1,1,1],[1,1,1,1],[1,1,1,1]]"
BAD = [
    ("scale.weights = [1, 1, 1", "TOML"),
    ("scale.weights = [1, 1, 1]", "scale.weights"),
    ("scale.weights = [1, 1, 1, 1, 1]", "scale.weights"),
    ("scale.weights = []", "scale.weights"),
    ("scale.weights = 3", "scale.weights"),
    ("scale = [1, 1, 1, 1]", "scale.weights"),
    ("scale.wieghts = [1, 1, 1, 1]", "'wieghts'"),
    ("[scale]", "scale: lacks weights"),
    ("size.weights = [1, 1, 1, 1]", "'size'"),
    ("scale.weights = [1, 1, nan, 1]", "nan"),
    ("scale.weights = [1, 1, inf, 1]", "inf"),
    ("scale.weights = [1, 1, -0.5, 1]", "-0.5"),
    ("scale.weights = [1, 1, -2, 1]", "-2"),
    (f"scale.weights = [1, 1, 1, {10**400}]", "scale.weights"),
    ("scale.weights = [0, 0, 0.0, 0]", "scale.weights are all 0"),
    ("scale.weights = [1, 1, true, 1]", "scale.weights"),
    ('scale.weights = [1, 1, "2", 1]', "scale.weights"),
    ("scale.weights = [1, 1, 1, 1e-12]", "1e-09"),
    ("scale.weights = [1,1,1,2]\nscale.weights = [1,1,1,3]", "TOML"),
    (f"scale.weights = [1, 1, 1, 2]\n{_pair(TABLE)}", "scale is given twice"),
    (f"{_pair(TABLE)}\n{_pair(TABLE)}", "scale is given twice"),
    ("pair = 3", "[[pair]]"),
    (_pair(TABLE).replace("[[pair]]", "[pair]"), "[[pair]]"),
    ("[[pair]]\nfactors = ['scale', 'shape']", "pair 1: lacks weights"),
    (_pair(TABLE, '["scale"]'), "pair 1: factors"),
    (_pair(TABLE, '["scale", "size"]'), "pair 1: unknown factor 'size'"),
    (_pair(TABLE, '["scale", 4]'), "pair 1: unknown factor 4"),
    (_pair(TABLE, '["scale", "scale"]'), "pair 1: scale"),
    (_pair("[1, 2, 3, 4]"), "pair 1: row 1"),
    (_pair("[[1, 2, 3, 4]]"), "must have 4 rows"),
    (_pair(TABLE.replace("[1,2,1,1]", "[1,2,1]")), "pair 1: row 1"),
    (_pair(TABLE, '["scale", "wall_hue"]'), "weights must hold 12"),
    (_pair("[[0,0,0,0],[0,0,0,0],[0,0,0,0],[0,0,0,0]]"), "pair 1: weights are all 0"),
    (_pair("[[1,0,0,0],[1,0,0,0],[1,0,0,0],[1,0,0,0]]"), "one bin of shape"),
    (_pair(TABLE) + "\nstrength = 3", "pair 1: unknown key 'strength'"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_bad_file_is_one_line(run: Run, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    status, out, err = run("render", tmp_path / "out", "--distribution", path, "--engine", "torch")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"shapeshd: error: {path}: ")
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_missing_or_strange_file_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    for name, message in (
        ("none.toml", "no such file"), (".", "cannot be read"), ("bytes.toml", "cannot be read"),
    ):  # fmt: skip
        for command in (["render", tmp_path / "out"], ["score", "render:0:6000,size=64"]):
            status, _, err = run(*command, "--distribution", tmp_path / name)
            assert (status, err.count("\n")) == (2, 1)
            assert message in err


def test_a_text_that_is_no_distribution_is_refused() -> None:
    for text in ("{", "[1]", '"scale"', '{"scale":{"weights":[1,2]}}', "[" * 100_000):
        with pytest.raises(UsageError):
            Distribution.from_text(text)


def test_the_least_share_is_allowed() -> None:
    assert weighted(scale=[1, 1, 1, 4 * LEAST_SHARE]).bins == NUM_BINS
    assert weighted(scale=[1e300, 1e308, 1e308, 1.7e308]).bins == NUM_BINS
    assert weighted(scale=[5e-324, 5e-324, 1e-323, 0]).bins == NUM_BINS * 3 // 4
