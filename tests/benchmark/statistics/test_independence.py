"""Tests of independence: SciPy's where counts are large, their level where values are rare."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from shapeshd.benchmark.statistics.independence import (
    ENOUGH,
    independence_p_value,
    pooled,
    three_way_p_value,
)


@pytest.mark.parametrize("shape", [(2, 3), (4, 4), (12, 6)])
def test_independence_is_scipys(shape: tuple[int, int]) -> None:
    table = np.random.default_rng(2).integers(20, 90, shape)
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert independence_p_value(table) == pytest.approx(expected, rel=1e-6)
    with_empty = np.insert(np.insert(table, 1, 0, axis=0), 0, 0, axis=1)
    assert independence_p_value(with_empty) == pytest.approx(expected, rel=1e-6)
    assert independence_p_value(table[:1]) == 1
    assert independence_p_value(np.array([[3, 1], [1, 4]])) == pytest.approx(
        stats.fisher_exact([[3, 1], [1, 4]]).pvalue
    )


def collapsed(bins: int, share: float) -> np.ndarray:
    """Return probabilities with `share` in one bin, the others equal."""
    return np.array([share, *[(1 - share) / (bins - 1)] * (bins - 1)])


@pytest.mark.parametrize(
    ("shares", "n"), [((0.98, 0.98), 5_761), ((0.995, 0.995), 100_000), ((0.9, 0.999), 20_000)]
)
def test_independent_factors_that_collapse_are_seldom_called_dependent(
    shares: tuple[float, float], n: int
) -> None:
    """Pearson's test on all cells rejects in 20% of these runs and more at the level 0.1%."""
    p = np.outer(collapsed(12, shares[0]), collapsed(12, shares[1]))
    rng = np.random.default_rng(3)
    values = np.array([
        independence_p_value(rng.multinomial(n, p.ravel()).reshape(12, 12)) for _ in range(500)
    ])  # fmt: skip
    assert (values < 0.05).mean() <= 0.07
    assert (values < 0.001).mean() <= 0.01


def test_dependence_of_collapsed_factors_is_found() -> None:
    """The rare values of two factors come together: a second mode of 0.3%."""
    table = np.diag([19_940, 30, 30])
    assert independence_p_value(table) < 1e-9


def test_pooling_keeps_sums_and_gives_enough() -> None:
    rng = np.random.default_rng(4)
    counts = rng.multinomial(3_000, np.outer(collapsed(12, 0.8), np.full(6, 1 / 6)).ravel())
    counts = counts.reshape(12, 6)
    expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    found, wanted = pooled(counts, expected, ENOUGH)
    assert found.sum() == counts.sum()
    assert wanted.sum() == pytest.approx(counts.sum())
    assert wanted.min() >= ENOUGH
    np.testing.assert_allclose(found.sum(0), wanted.sum(0))
    np.testing.assert_allclose(found.sum(1), wanted.sum(1))
    assert found.shape[1] == 6  # only the hues are rare


@pytest.mark.parametrize("shape", [(12, 12, 12), (4, 4, 6)])
@pytest.mark.parametrize("share", [None, 0.6, 0.9])
def test_three_way_test_has_its_level(shape: tuple[int, ...], share: float | None) -> None:
    """Two pairs depend on each other, the three do not beyond that."""
    rng = np.random.default_rng(5)
    margins = [np.full(bins, 1 / bins) if share is None else collapsed(bins, share)
               for bins in shape]  # fmt: skip
    p = np.einsum("a,b,c->abc", *margins)
    p = p * (1 + 0.3 * rng.uniform(-1, 1, (shape[0], shape[1], 1)))
    p = p * (1 + 0.3 * rng.uniform(-1, 1, (1, *shape[1:])))
    p = (p / p.sum()).ravel()
    runs = 120
    small = [three_way_p_value(rng.multinomial(5_761, p).reshape(shape)) < 0.05
             for _ in range(runs)]  # fmt: skip
    assert sum(small) <= 0.11 * runs


def test_three_way_test_finds_what_no_pair_shows() -> None:
    halves = [np.repeat([1, -1], bins // 2) for bins in (12, 4, 6)]
    p = 1 + 0.3 * np.einsum("a,b,c->abc", *halves)
    table = np.random.default_rng(6).multinomial(6_000, (p / p.sum()).ravel()).reshape(12, 4, 6)
    assert three_way_p_value(table) < 1e-9
    assert three_way_p_value(table[:1]) == 1
    assert three_way_p_value(np.ones((2, 2, 2), dtype=np.int64) - 1 + np.eye(2, dtype=int)) == 1
