"""Factors against an independent Philox, brute-force binning and the original grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shapeshd.errors import UsageError
from shapeshd.factors import (
    BIN_SHAPE,
    FACTORS,
    MAX_IMAGE,
    NAMES,
    NUM_BINS,
    bin_indices,
    check_factors,
    joint_bins,
    uniform_factors,
    uniform_factors_at,
)
from shapeshd.scene.sampling import GridSampling, TableSampling, UniformSampling

WORD = 2**64 - 1


def philox_block(key: int, counter: int) -> list[int]:
    """Philox4x64-10, transcribed from Salmon et al. 2011, table 2 and section 3.3."""
    x = [(counter >> (64 * i)) & WORD for i in range(4)]
    k = [(key >> (64 * i)) & WORD for i in range(2)]
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * x[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * x[2], 2**64)
        x = [high1 ^ x[1] ^ k[0], low1, high0 ^ x[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B97F4A7C15) & WORD, (k[1] + 0xBB67AE8584CAA73B) & WORD]
    return x


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (0, 1), (1, 0), (7, 499_999), (2**63 - 1, 3)])
def test_uniform_factors_follow_philox(seed: int, index: int) -> None:
    raw = philox_block(seed, 2 * index + 1) + philox_block(seed, 2 * index + 2)
    u = [(word >> 11) / 2**53 for word in raw[:6]]
    expected = [u[0], u[1], u[2], 1 + u[3], float(int(4 * u[4])), -30 + 60 * u[5]]
    assert uniform_factors(seed, index, index + 1)[0].tolist() == expected


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**63 - 1),
    indices=st.lists(st.integers(0, MAX_IMAGE - 1), max_size=12),
)
def test_factors_of_images_in_any_order(seed: int, indices: list[int]) -> None:
    found = uniform_factors_at(seed, indices)
    assert found.shape == (len(indices), 6)
    for row, index in zip(found, indices, strict=True):
        np.testing.assert_array_equal(row, uniform_factors(seed, index, index + 1)[0])


@pytest.mark.parametrize("index", [-1, MAX_IMAGE])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(UsageError, match="index of an image"):
        uniform_factors_at(0, [0, index])


def test_first_image_of_seed_0_is_frozen() -> None:
    """The published dataset starts with this image, for ever."""
    expected = [
        0.011546754286331562,
        0.24154919656271812,
        0.11142585551493822,
        1.5644146216071337,
        2.0,
        -13.343665386926787,
    ]
    assert uniform_factors(0, 0, 1)[0].tolist() == expected


@given(
    seed=st.integers(0, 2**63 - 1),
    start=st.integers(0, 10**9),
    cuts=st.lists(st.integers(0, 40), max_size=5),
)
def test_cutting_never_changes_factors(seed: int, start: int, cuts: list[int]) -> None:
    edges = [start, *(start + cut for cut in sorted(cuts)), start + 40]
    parts = [uniform_factors(seed, a, b) for a, b in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), uniform_factors(seed, start, start + 40))


def test_uniform_factors_are_uniform_and_independent() -> None:
    factors = uniform_factors(0, 0, 200_000)
    bins = bin_indices(factors)
    for column, factor in enumerate(FACTORS):
        assert stats.chisquare(np.bincount(bins[:, column], minlength=factor.bins)).pvalue > 1e-4
    for a, b in itertools.combinations(range(6), 2):
        table = np.histogram2d(bins[:, a], bins[:, b], bins=(BIN_SHAPE[a], BIN_SHAPE[b]))[0]
        assert stats.chisquare(table.ravel()).pvalue > 1e-4
    for column, factor in enumerate(FACTORS):
        if factor.topology != "discrete":
            scaled = (factors[:, column] - factor.low) / factor.period
            assert stats.kstest(scaled, "uniform").pvalue > 1e-4


def test_number_of_bins_is_the_papers() -> None:
    assert NUM_BINS == 165_888 == 12**3 * 4 * 4 * 6


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (0, 0.0, 0), (0, 1.0, 0), (0, 0.999, 11), (0, -0.01, 11), (0, 1.1, 1), (0, -1e-20, 11),
        (3, 1.0, 0), (3, 1.25, 1), (3, 2.0, 3), (3, 2.7, 3), (3, 0.2, 0),
        (4, 0.0, 0), (4, 3.0, 3), (4, 1.4, 1), (4, 9.0, 3),
        (5, -30.0, 0), (5, -20.0, 1), (5, 0.0, 3), (5, 30.0, 5), (5, 31.0, 5), (5, -45.0, 0),
    ],
)  # fmt: skip
def test_bins_at_the_borders(column: int, value: float, expected: int) -> None:
    row = [0.5, 0.5, 0.5, 1.5, 1.0, 0.0]
    row[column] = value
    assert bin_indices([row])[0, column] == expected


@given(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.floats(1, 2),
        st.integers(0, 3),
        st.floats(-30, 30),
    )
)
@settings(max_examples=300)
def test_bins_contain_their_values(row: tuple[float, ...]) -> None:
    """Every value lies between its bin's edges (to rounding), and the joint bin agrees."""
    index = bin_indices([row])[0]
    for factor, value, position in zip(FACTORS, row, index, strict=True):
        if factor.topology == "discrete":
            assert position == value
            continue
        width = factor.period / factor.bins
        low = factor.low + position * width
        assert low - 1e-12 <= value <= low + width + 1e-12
    expected = 0
    for position, bins in zip(index, BIN_SHAPE, strict=True):
        expected = expected * bins + position
    assert joint_bins([row])[0] == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bins_refuse_what_is_no_number(bad: float) -> None:
    with pytest.raises(UsageError, match="row 1: scale"):
        bin_indices([[0, 0, 0, 1, 0, 0], [0, 0, 0, bad, 0, 0]])


@pytest.mark.parametrize(
    ("column", "value"), [(0, -0.1), (1, 1.01), (3, 0.99), (4, 1.5), (4, 4), (5, 30.1), (5, np.nan)]
)
def test_check_factors_names_row_and_factor(column: int, value: float) -> None:
    rows = np.tile([0.5, 0.5, 0.5, 1.5, 1, 0], (3, 1))
    rows[2, column] = value
    with pytest.raises(UsageError, match=f"row 2: {NAMES[column]}"):
        check_factors(rows)


@pytest.mark.parametrize("bad", [[1, 2, 3], [[1, 2, 3]], "abc", [["a"] * 6]])
def test_check_factors_refuses_other_forms(bad: object) -> None:
    with pytest.raises(UsageError):
        check_factors(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True])
def test_seed_is_checked(seed: object) -> None:
    with pytest.raises(UsageError, match="seed"):
        UniformSampling(seed)  # type: ignore[arg-type]


def test_grid_is_that_of_3dshapes() -> None:
    """The original counts through its values with the orientation fastest."""
    values = [np.arange(10) / 10] * 3 + [
        np.linspace(1, 2, 8),
        np.arange(4.0),
        np.linspace(-30, 30, 15),
    ]
    grid = GridSampling()
    assert grid.length == 480_000
    for index in (0, 1, 15, 59, 60, 123_456, 479_999):
        rest, expected = index, []
        for axis in reversed(values):
            rest, position = divmod(rest, len(axis))
            expected.append(axis[position])
        np.testing.assert_allclose(
            grid.factors(index, index + 1)[0], expected[::-1], rtol=0, atol=1e-15
        )
    check_factors(grid.factors(0, 480_000))


def test_table_gives_its_rows() -> None:
    rows = uniform_factors(3, 0, 10)
    np.testing.assert_array_equal(TableSampling(rows).factors(4, 9), rows[4:9])
