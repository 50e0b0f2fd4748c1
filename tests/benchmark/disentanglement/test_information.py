"""The mutual information gap, against scikit-learn's mutual information and known codes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from shapeshd.benchmark.disentanglement.information import (
    classes_of,
    mutual_information_gap,
)
from shapeshd.errors import UsageError
from shapeshd.factors import uniform_factors

from .codes import noise, unit_factors


def by_definition(codes: np.ndarray, factors: np.ndarray, bins: int = 20) -> np.ndarray:
    """As disentanglement_lib and the paper say it, of one pair at a time."""
    gaps = []
    for factor in factors.T:
        if len(set(factor)) > bins:
            factor = np.digitize(factor, np.histogram(factor, bins)[1][:-1])
        entropy = mutual_info_score(factor, factor)
        known = sorted(
            mutual_info_score(np.digitize(code, np.histogram(code, bins)[1][:-1]), factor)
            for code in codes.T
        )
        gaps.append((known[-1] - known[-2]) / entropy)
    return np.array(gaps)


def test_against_the_definition() -> None:
    factors = uniform_factors(3, 0, 2000)
    mixed = unit_factors(2000, 3) @ noise(6, 5, 4) + 0.3 * noise(2000, 5)
    found = mutual_information_gap(mixed, factors)
    np.testing.assert_allclose(found.gaps, by_definition(mixed, factors), rtol=1e-12, atol=1e-14)
    assert found.mean == pytest.approx(found.gaps.mean())


def test_a_component_for_each_factor_has_a_gap_of_nearly_one() -> None:
    factors = unit_factors(10_000)
    order = np.array([3, 0, 5, 1, 2, 4])
    codes = np.concatenate((factors[:, order] * -2.5, noise(10_000, 3)), 1)
    found = mutual_information_gap(codes, factors)
    assert found.gaps.min() > 0.97
    assert (order[found.best] == np.arange(6)).all()


def test_two_components_that_know_the_same_leave_no_gap() -> None:
    factors = unit_factors(5000)
    found = mutual_information_gap(np.concatenate((factors, factors), 1), factors)
    assert found.gaps == pytest.approx(np.zeros(6), abs=1e-12)
    angle = 2 * np.pi * uniform_factors(0, 0, 5000)[:, :1]
    circle = np.concatenate((np.cos(angle), np.sin(angle)), 1)
    assert mutual_information_gap(circle, factors[:, :1]).mean < 0.02


def test_noise_knows_no_more_than_its_counts_let_it_seem() -> None:
    n, bins = 20_000, 20
    found = mutual_information_gap(noise(n, 8), uniform_factors(0, 0, n))
    hues = found.information[:, :3] * np.log(bins)
    assert hues.max() < 2 * (bins - 1) ** 2 / (2 * n)
    assert found.mean < 0.002


def test_the_standard_error_is_that_of_new_images() -> None:
    mix = noise(6, 4, 9)
    runs = []
    for seed in range(60):
        factors = uniform_factors(seed, 0, 1500)
        codes = unit_factors(1500, seed) @ mix + 0.2 * noise(1500, 4, seed)
        runs.append(mutual_information_gap(codes, factors))
    spread = np.std([run.mean for run in runs], ddof=1)
    told = np.median([run.standard_error for run in runs])
    assert 0.6 * spread < told < 1.7 * spread


def test_few_values_are_classes_of_their_own() -> None:
    assert classes_of(np.array([0.75, 1.25, 1.0, 0.75]), 20).tolist() == [0, 2, 1, 0]
    assert classes_of(np.array([0.0, 0.4, 0.6, 1.0]), 2).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("codes", "factors", "told"),
    [
        (np.zeros((30, 1)), uniform_factors(0, 0, 30), "2 components, not 1"),
        (np.zeros((30, 2)), uniform_factors(0, 0, 29), "must be"),
        (np.zeros((10, 2)), uniform_factors(0, 0, 10), "10 images"),
        (np.full((30, 2), np.nan), uniform_factors(0, 0, 30), "component 0 of code 0"),
        (noise(30, 2), np.ones((30, 6)), "factor 0"),
    ],
)
def test_refused(codes: np.ndarray, factors: np.ndarray, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        mutual_information_gap(codes, factors)
