"""Shares that the recognizer's errors leave: against closed forms and against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from shapeshd.benchmark.statistics.attenuation import (
    attenuation,
    attenuation_factor,
    least_attenuation_factor,
)
from shapeshd.benchmark.statistics.decomposition import decompose
from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, NAMES, NUM_BINS


def confusion(bins: int, p: float, seed: int = 0) -> np.ndarray:
    """A bin is read right with 1 - p, or as a neighbour, the last one rarely as the first."""
    table = np.eye(bins) * (1 - p)
    for row in range(bins):
        table[row, (row + 1) % bins] += p * 0.7
        table[row, (row - 1) % bins] += p * 0.3
    rows = np.random.default_rng(seed).uniform(0.5, 2, (bins, 1))  # of different numbers of images
    return table * rows * 1000


def seen_through(density: np.ndarray, confusions: list[np.ndarray]) -> np.ndarray:
    for axis, table in enumerate(confusions):
        rows = table / table.sum(axis=1, keepdims=True)
        density = np.moveaxis(np.tensordot(density, rows, axes=(axis, 0)), -1, axis)
    return density


def divergence(density: np.ndarray) -> float:
    return float(((density / density.mean() - 1) ** 2).mean())


def test_known_shares() -> None:
    assert attenuation_factor(np.eye(5) * 30) == pytest.approx(1)
    assert attenuation_factor(np.full((4, 4), 7)) == pytest.approx(0)
    assert attenuation_factor([[0, 5, 0], [0, 0, 9], [2, 0, 0]]) == pytest.approx(1)  # permuted
    for p in (0.01, 0.3):  # read at random with probability p
        noisy = (1 - p) * np.eye(6) + p / 6
        assert attenuation_factor(noisy) == pytest.approx((1 - p) ** 2)
        assert attenuation_factor(noisy) == pytest.approx(((noisy**2).sum() - 1) / 5)
    assert attenuation_factor([[9, 1], [1, 9]]) == pytest.approx(0.64)


def test_the_pattern_that_loses_most_alternates() -> None:
    """Read as the next bin with probability p: of signs + - + - a share (1 - 2 p)^2 is left."""
    for p in (0.01, 0.1):
        table = np.eye(12) * (1 - p) + np.roll(np.eye(12), 1, axis=1) * p
        assert least_attenuation_factor(table) == pytest.approx((1 - 2 * p) ** 2)
        signs = (-1.0) ** np.arange(12)
        left = ((signs @ table) ** 2).sum() / (signs**2).sum()
        assert left == pytest.approx((1 - 2 * p) ** 2)
        assert least_attenuation_factor(table) < attenuation_factor(table)
    assert least_attenuation_factor([[9, 1], [1, 9]]) == pytest.approx(0.64)
    assert least_attenuation_factor(np.eye(5)) == pytest.approx(1)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.4])
def test_share_of_one_factor_by_simulation(p: float) -> None:
    table = confusion(12, p)
    table[3] = table[3].sum() / 12  # columns that do not add up to 1: general
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(200_000, 12))
    noise -= noise.mean(axis=1, keepdims=True)
    rows = table / table.sum(axis=1, keepdims=True)
    seen = noise @ rows
    # A density of mean 0 stays one only in the directions of mean 0, which P selects.
    seen -= seen.mean(axis=1, keepdims=True)
    assert attenuation_factor(table) == pytest.approx((seen**2).sum() / (noise**2).sum(), rel=0.01)


@pytest.mark.parametrize("p", [0.004, 0.05])
def test_noise_over_all_joint_bins(p: float) -> None:
    """Densities 1 + noise, seen through independent errors: exact but for the noise drawn."""
    confusions = [confusion(bins, p * (1 + axis), axis) for axis, bins in enumerate(BIN_SHAPE)]
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, BIN_SHAPE)
    density = 1 + noise - noise.mean()
    share = divergence(seen_through(density, confusions)) / divergence(density)
    flat = decompose(np.random.default_rng(3).multinomial(20_000, [1 / NUM_BINS] * NUM_BINS))
    found = attenuation(dict(zip(NAMES, confusions, strict=True)), flat)
    assert found["joint"] == pytest.approx(share, rel=0.01)
    assert found["factors"]["scale"] == pytest.approx(attenuation_factor(confusions[3]))
    assert list(found["factors"]) == list(NAMES)
    assert "not divided" in found["meaning"]


def test_the_divergence_of_a_source_is_found_again() -> None:
    """A memorizer with tilted marginals is drawn, misread sample by sample, and corrected."""
    rng = np.random.default_rng(4)
    confusions = [confusion(bins, 0.04, axis) for axis, bins in enumerate(BIN_SHAPE)]
    floors = (1 + 0.5 * rng.normal(size=(12, 1, 1, 1, 1, 1))).clip(0.1)
    weight = rng.exponential(size=BIN_SHAPE) * floors
    truth = rng.choice(NUM_BINS, 300_000, p=(weight / weight.sum()).ravel())
    rows = np.stack(np.unravel_index(truth, BIN_SHAPE), axis=1)
    read = rows.copy()
    for axis, table in enumerate(confusions):
        total = np.cumsum(table / table.sum(axis=1, keepdims=True), axis=1)
        draw = rng.random(len(rows))[:, None]
        read[:, axis] = (draw > total[rows[:, axis]]).sum(axis=1)
    bins = np.ravel_multi_index(tuple(read.T), BIN_SHAPE)
    parts = decompose(np.bincount(bins, minlength=NUM_BINS))
    found = attenuation(dict(zip(NAMES, confusions, strict=True)), parts)
    share = found["of_this_source"]
    assert 0.5 < share < 0.8
    assert parts.total.reported / share == pytest.approx(divergence(weight), rel=0.06)
    assert parts.total.reported < 0.8 * divergence(weight)


def test_no_share_of_nothing() -> None:
    flat = decompose(np.random.default_rng(5).multinomial(20_000, [1 / NUM_BINS] * NUM_BINS))
    perfect = {name: np.eye(bins) for name, bins in zip(NAMES, BIN_SHAPE, strict=True)}
    found = attenuation(perfect, flat)
    assert found["of_this_source"] is None
    assert found["joint"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[1, 2, 3], [1, 2, 3]], "shape"),
        ([[1]], "shape"),
        ([1, 2], "shape"),
        ([[1, 0], [0, 0]], "in every row"),
        ([[1, -1], [0, 2]], "counts >= 0"),
        ([[1, np.nan], [0, 2]], "counts >= 0"),
    ],
)
def test_what_is_no_confusion(table: list[list[float]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        attenuation_factor(table)
