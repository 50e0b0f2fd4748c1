"""The FactorVAE score, against groups of images in which a factor is fixed exactly."""

from __future__ import annotations

import numpy as np
import pytest

from shapeshd.benchmark.disentanglement.factor_vae import factor_vae_score
from shapeshd.errors import UsageError
from shapeshd.factors import FACTORS, uniform_factors

from .codes import noise, unit_factors

HUES = (0, 1, 2)


def with_fixed_factors(encode: object, group: int, train: int, test: int) -> float:
    """Do as Kim & Mnih do: draw new factors for each group, one of them the same in all."""
    rng = np.random.default_rng(5)
    spread = encode(uniform_factors(7, 0, 10_000)).std(0)  # type: ignore[operator]
    votes = np.zeros((len(spread), len(FACTORS)), dtype=int)
    right = 0
    for number in range(train + test):
        factors = uniform_factors(100, number * group, (number + 1) * group)
        fixed = rng.integers(len(FACTORS))
        factors[:, fixed] = factors[0, fixed]
        codes = encode(factors) / spread  # type: ignore[operator]
        vote = codes.var(0).argmin()
        if number < train:
            votes[vote, fixed] += 1
        else:
            right += votes[vote].argmax() == fixed
    return right / test


def test_against_factors_that_are_fixed_exactly() -> None:
    mix = np.eye(6) + 0.35 * noise(6, 6, 2)
    scale = np.array([0.29, 0.29, 0.29, 0.29, 1.12, 17.3])

    def encode(factors: np.ndarray) -> np.ndarray:
        return (factors / scale) @ mix

    exact = with_fixed_factors(encode, 64, 1500, 1500)
    factors = uniform_factors(0, 0, 10_000)
    found = factor_vae_score(encode(factors), factors, HUES, train=1500, test=1500)
    assert 0.3 < exact < 0.99  # else nothing is compared
    assert found.accuracy == pytest.approx(exact, abs=5 * found.standard_error)


def test_a_component_for_each_factor_is_always_told() -> None:
    factors = unit_factors(10_000)
    found = factor_vae_score(np.concatenate((factors, noise(10_000, 2)), 1), factors, HUES)
    assert found.accuracy > 0.99  # a group that straddles red has both ends of this code
    assert found.votes.argmax(0).tolist() == [0, 1, 2, 3, 4, 5]
    assert found.votes.sum() == 10_000


def test_noise_is_told_no_better_than_by_guessing() -> None:
    found = factor_vae_score(noise(10_000, 6), unit_factors(10_000), HUES, seed=2)
    assert found.accuracy == pytest.approx(1 / 6, abs=5 * found.standard_error)


def test_components_that_hardly_vary_do_not_vote() -> None:
    factors = unit_factors(5000)
    codes = np.concatenate((factors, 0.01 * noise(5000, 1)), 1)
    found = factor_vae_score(codes, factors, HUES, train=500, test=500)
    assert found.used.tolist() == [True] * 6 + [False]
    assert found.votes[6].sum() == 0
    with pytest.raises(UsageError, match="smallest_variance"):
        factor_vae_score(0.01 * codes, factors)
    with pytest.raises(UsageError, match="all codes are the same"):
        factor_vae_score(0 * codes, factors)
    small = factor_vae_score(0.01 * codes, factors, HUES, train=500, test=500, smallest_variance=0)
    assert small.used.all()


def test_the_ends_of_a_hue_meet() -> None:
    """A group that straddles red is as narrow as any other, of a circular factor."""
    factors = uniform_factors(0, 0, 4000)
    factors[:, 0] = np.where(np.arange(4000) % 2, 0.001, 0.999) * (1 + 1e-6 * factors[:, 1])
    codes = np.stack((np.cos(2 * np.pi * factors[:, 0]), noise(4000, 1)[:, 0]), 1)
    codes /= codes.std(0)
    assert factor_vae_score(codes, factors, (0,), train=300, test=300).votes.sum() == 300


@pytest.mark.parametrize("wrong", [{"group": 1}, {"group": 31}, {"train": 0}, {"test": 0}], ids=str)
def test_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        factor_vae_score(noise(30, 2), uniform_factors(0, 0, 30), **{"group": 8, **wrong})
