"""The rows that a result is compared with, against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from shapeshd.benchmark.statistics.chi_square import divergence_statistic, rarity
from shapeshd.benchmark.statistics.references import detection_limit, ideal_sampler, memorizer


def test_reference_rows_are_the_papers() -> None:
    assert memorizer(500_000).reduced_chi_square == pytest.approx(7.64, abs=0.005)
    assert memorizer(500_000).divergence == pytest.approx(165_887 / 500_000)
    assert ideal_sampler().reduced_chi_square == 1
    assert ideal_sampler().deviation == pytest.approx(math.sqrt(2 / 165_887), rel=1e-4)


def test_memorizer_by_simulation() -> None:
    rng = np.random.default_rng(21)
    k, images = 300, 900
    found = []
    for _ in range(3_000):
        p = rng.multinomial(images, np.full(k, 1 / k)) / images
        found.append(stats.chisquare(rng.multinomial(20 * k, p)).statistic / (k - 1))
    row = memorizer(images, k)
    assert np.mean(found) == pytest.approx(row.reduced_chi_square, rel=0.01)
    assert np.std(found) == pytest.approx(row.deviation, rel=0.1)


def test_references_under_a_skewed_distribution_by_simulation() -> None:
    """Rare bins carry most of the scatter, of the ideal sampler as of the memorizer."""
    rng = np.random.default_rng(23)
    q = np.multiply.outer([0.9, 0.04, 0.03, 0.03], np.full(16, 1 / 16)).ravel()
    k, images, runs = q.size, 400, 40_000
    rare = rarity(1 / q)
    assert rare == pytest.approx(float((1 / q).sum()) - k**2)

    def reduced(p: np.ndarray) -> np.ndarray:
        counts = rng.multinomial(20 * k, p)
        return stats.chisquare(counts, 20 * k * q, axis=1).statistic / (k - 1)

    found = reduced(np.tile(q, (runs, 1)))
    assert np.std(found) == pytest.approx(ideal_sampler(k, rare).deviation, rel=0.015)
    assert ideal_sampler(k, rare).deviation > 1.05 * ideal_sampler(k).deviation
    found = reduced(rng.multinomial(images, q, runs) / images)
    row = memorizer(images, k, rare)
    assert np.mean(found) == pytest.approx(row.reduced_chi_square, rel=0.01)
    assert np.std(found) == pytest.approx(row.deviation, rel=0.03)
    assert row.deviation > 1.3 * memorizer(images, k).deviation


def test_detection_limit_has_its_power() -> None:
    """Half of the bins a little fuller: seen in 80% of the runs at the limit."""
    rng = np.random.default_rng(22)
    k, n = 1_000, 5_000
    limit = detection_limit(n, k)
    density = 1 + math.sqrt(limit.divergence) * np.where(np.arange(k) % 2, 1, -1)
    seen = [stats.chisquare(rng.multinomial(n, density / k)).pvalue < 0.025 for _ in range(1_500)]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.04)
    assert limit.reduced_chi_square == pytest.approx(1 + 19_999 * limit.divergence / 999)
    assert detection_limit(4 * n, k).divergence == pytest.approx(limit.divergence / 4, rel=0.01)
    assert detection_limit(100_000).divergence == pytest.approx(0.0162, abs=2e-4)
    near, far = (detection_limit(n, margin=0.001).divergence for n in (3_317_760, 2**31))
    assert 0.001 < far < 0.00101 < near < 0.0016


def test_detection_limit_above_a_margin_has_its_power() -> None:
    rng = np.random.default_rng(24)
    k, n, margin = 1_000, 5_000, 0.05
    limit = detection_limit(n, k, margin=margin)
    for divergence, share in ((limit.divergence, 0.8), (margin, 0.025)):
        density = 1 + math.sqrt(divergence) * np.where(np.arange(k) % 2, 1, -1)
        found = [
            divergence_statistic(rng.multinomial(n, density / k), np.full(k, float(k))).estimate()
            for _ in range(800)
        ]
        failed = np.mean([one.low > margin for one in found])
        assert failed == pytest.approx(share, abs=0.05 * share + 0.015)
