"""DCI: the scores of an importance matrix by their definition, forests on known codes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shapeshd.benchmark.disentanglement.dci import dci, importance_scores
from shapeshd.errors import UsageError
from shapeshd.factors import uniform_factors

from .codes import noise, unit_factors

PERIODS = {0: 1.0, 1: 1.0, 2: 1.0}


def by_definition(r: np.ndarray) -> tuple[float, list[float]]:
    """Section 3 of Eastwood & Williams, with loops."""
    components, factors = r.shape
    disentanglement, completeness = 0.0, []
    for i in range(components):
        whole = sum(r[i])
        if whole:
            parts = [r[i, j] / whole for j in range(factors)]
            entropy = -sum(p * math.log(p, factors) for p in parts if p)
            disentanglement += (1 - entropy) * whole / r.sum()
    for j in range(factors):
        parts = [r[i, j] / sum(r[:, j]) for i in range(components)]
        completeness.append(1 + sum(p * math.log(p, components) for p in parts if p))
    return disentanglement, completeness


matrices = arrays(
    np.float64,
    st.tuples(st.integers(2, 7), st.integers(2, 6)),
    elements=st.floats(0, 1).map(lambda x: round(x, 3)),
).filter(lambda r: (r.sum(0) > 0).all())


@given(matrices, st.randoms())
def test_scores_of_importances(r: np.ndarray, random: object) -> None:
    found, each = importance_scores(r)
    wanted, wanted_each = by_definition(r)
    assert found == pytest.approx(wanted, abs=1e-9)
    assert each == pytest.approx(wanted_each, abs=1e-9)
    assert -1e-9 <= found <= 1 + 1e-9
    assert importance_scores(r[::-1])[0] == pytest.approx(found, abs=1e-9)


def test_extremes_of_importances() -> None:
    assert importance_scores(np.eye(4))[0] == pytest.approx(1)
    found, each = importance_scores(np.ones((5, 3)))
    assert found == pytest.approx(0, abs=1e-12)
    assert each == pytest.approx(np.zeros(3), abs=1e-12)


@pytest.mark.parametrize("r", [np.ones(3), np.ones((1, 3)), -np.eye(3), np.eye(3) * [1, 1, 0]])
def test_impossible_importances_are_refused(r: np.ndarray) -> None:
    with pytest.raises(UsageError, match="importances"):
        importance_scores(r)


def test_a_component_for_each_factor() -> None:
    factors = uniform_factors(0, 0, 2000)
    codes = np.concatenate((unit_factors(2000), noise(2000, 2)), 1)
    found = dci(codes, factors, (4,), PERIODS)
    assert found.disentanglement > 0.95
    assert found.completeness > 0.95
    assert found.informativenesses.min() > 0.97
    assert found.informativenesses[4] == 1
    assert found.importance.argmax(0).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_hue_as_a_point_on_a_circle_is_disentangled_but_not_complete() -> None:
    """What MIG calls entangled: two components, both of them for one hue alone."""
    factors = uniform_factors(0, 0, 2000)[:, :2]
    angles = 2 * np.pi * factors
    codes = np.concatenate((np.cos(angles), np.sin(angles)), 1)
    found = dci(codes, factors, (), {0: 1.0, 1: 1.0})
    assert found.disentanglement > 0.95
    assert found.completeness == pytest.approx(0.5, abs=0.05)  # two of four: 1 - ln 2 / ln 4


def test_noise_informs_of_nothing() -> None:
    found = dci(noise(2000, 4), uniform_factors(0, 0, 2000), (4,), PERIODS)
    assert found.informativenesses[[0, 1, 2, 3, 5]].max() < 0.05
    assert found.informativenesses[4] == pytest.approx(0.25, abs=0.1)
    assert found.disentanglement < 0.1
