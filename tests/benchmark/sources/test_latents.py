"""Latents and seeds of samples: what they depend on, and how they are distributed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from shapeshd.benchmark.sources.latents import Seeds, normal_latents, sample_seeds
from shapeshd.errors import UsageError
from shapeshd.factors import uniform_factors


def test_latents_depend_on_seed_and_index_alone() -> None:
    whole = normal_latents(11, 0, 40, 6)
    assert whole.dtype == torch.float32
    assert torch.equal(normal_latents(11, 13, 29, 6), whole[13:29])
    assert torch.equal(normal_latents(11, 2**40, 2**40 + 2, 6)[1:], normal_latents(
        11, 2**40 + 1, 2**40 + 2, 6))  # fmt: skip
    assert not torch.equal(normal_latents(12, 0, 40, 6), whole)
    assert normal_latents(0, 5, 5, 6).shape == (0, 6)


def test_latents_are_standard_normal() -> None:
    sample = normal_latents(0, 0, 40_000, 9).double().numpy()
    assert stats.kstest(sample.ravel(), "norm").pvalue > 0.001
    assert all(stats.kstest(column, "norm").pvalue > 1e-4 for column in sample.T)
    correlation = np.corrcoef(sample.T) - np.eye(9)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(sample))
    series = sample.ravel()
    for lag in (1, 2, 3, 4, 8, 9):
        assert abs(np.mean(series[lag:] * series[:-lag])) < 5 / np.sqrt(len(series))
        assert abs(np.mean(series[lag:] ** 2 * series[:-lag] ** 2) - 1) < 20 / np.sqrt(len(series))
    assert stats.kurtosis(series) == pytest.approx(0, abs=0.04)
    assert (np.abs(series) > 4).mean() == pytest.approx(2 * stats.norm.sf(4), abs=3e-5)


def test_latents_share_nothing_with_the_factors() -> None:
    factors = uniform_factors(0, 0, 1000)[:, 0]
    latents = stats.norm.cdf(normal_latents(0, 0, 1000, 4).double().numpy())
    assert np.abs(latents - factors[:, None]).min(axis=0).max() > 1e-9
    assert abs(np.corrcoef(latents[:, 0], factors)[0, 1]) < 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, 1, 4), "seed must be"),
        ((0, 0, 1, 0), "latent dimension must be"),
        ((0, 3, 1, 4), "0 <= start <= stop"),
        ((0, -1, 1, 4), "0 <= start <= stop"),
    ],
)
def test_impossible_latents(arguments: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        normal_latents(*arguments)


def test_sample_seeds_are_all_different_and_look_random() -> None:
    seeds = sample_seeds(0, 0, 300_000)
    assert seeds.dtype == np.int64
    assert len(np.unique(seeds)) == len(seeds)
    assert seeds.min() >= 0 and seeds.max() < 2**32
    assert stats.kstest(seeds / 2**32, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(seeds[1:], seeds[:-1])[0, 1]) < 0.01
    assert stats.chisquare(np.bincount(seeds % 256, minlength=256)).pvalue > 0.001
    assert np.array_equal(sample_seeds(0, 1000, 1010), seeds[1000:1010])
    assert not np.intersect1d(sample_seeds(1, 0, 1000), seeds[:1000]).size
    with pytest.raises(UsageError, match="4,294,967,296"):
        sample_seeds(0, 0, 2**32 + 1)


def test_seeds_are_given_as_an_array_of_python_ints() -> None:
    seeds = Seeds.of(sample_seeds(3, 5, 9))
    plain = sample_seeds(3, 5, 9).tolist()
    assert [type(seeds[0]), type(seeds[-1]), *map(type, seeds)] == [int] * 6
    assert list(seeds) == plain
    assert seeds[1:].shape == (3,)
    assert (seeds % 2).tolist() == [seed % 2 for seed in plain]
    assert torch.from_numpy(seeds).tolist() == plain
    torch.Generator().manual_seed(seeds[0])
    np.random.default_rng(seeds[0])
    np.random.default_rng(seeds)
