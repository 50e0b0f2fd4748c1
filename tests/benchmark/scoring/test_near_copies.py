"""Images that nearly equal another one, told by the factors that a noisy recognizer reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shapeshd.benchmark.result.schema import VerdictRecord
from shapeshd.benchmark.result.source_checks import NearCopiesRecord
from shapeshd.benchmark.result.verdict import with_repeats
from shapeshd.benchmark.scoring import seen_factors
from shapeshd.benchmark.scoring.near_copies import WIDTHS, describe_near_copies, near_pairs
from shapeshd.benchmark.scoring.score import score_in_memory, score_source
from shapeshd.benchmark.scoring.seen_factors import SeenFactors
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.errors import ShapesHDError
from shapeshd.factors import BIN_SHAPE, FACTORS, FloatArray, uniform_factors
from tests.support.fake_scores import ReadsWritten, Written

NOISE = np.array([0.0012, 0.0012, 0.0024, 0.006, 0, 0.15])
"""Errors of `lite` on real images, standard deviations."""


def read(factors: FloatArray, seed: int = 0, times: float = 1.0) -> FloatArray:
    """Return factors as they are read, with errors so many times those on real images."""
    found = factors + np.random.default_rng(seed).normal(size=factors.shape) * NOISE * times
    found[:, :3] %= 1
    found[:, 3] = found[:, 3].clip(1, 2)
    found[:, 5] = found[:, 5].clip(-30, 30)
    return found


def described(factors: FloatArray) -> NearCopiesRecord:
    seen = SeenFactors()
    seen.add(0, factors)
    found = describe_near_copies(seen)
    assert found is not None
    return found


def test_true_images_have_none() -> None:
    for seed in range(12):
        found = described(read(uniform_factors(seed, 0, 2_000), seed))
        assert (found.copies, found.share, found.example) == (0, 0.0, None)
        assert "none" in found.text


@pytest.mark.parametrize("times", [1, 2, 4])
def test_images_that_were_saved_twice_are_found(times: float) -> None:
    factors = uniform_factors(2, 0, 1_500)
    found = described(np.concatenate([read(factors), read(factors, 1, times)]))
    assert found.share > (0.85 if times < 4 else 0.3)
    assert found.example is not None
    assert found.example[1] - found.example[0] == 1_500
    assert found.pairs is not None and found.expected is not None
    assert found.pairs > 50 * found.expected


@pytest.mark.parametrize(("images", "samples"), [(500, 3_000), (20_000, 6_000)])
def test_a_memorizer_with_noise_is_found_with_its_size(images: int, samples: int) -> None:
    rng = np.random.default_rng(5)
    found = described(read(uniform_factors(3, 0, images)[rng.integers(0, images, samples)], 6))
    assert found.set_size == pytest.approx(images, rel=0.15)
    assert found.share == pytest.approx(1 - np.exp(-samples / images), abs=0.08)


def test_a_part_of_many_images_tells_the_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seen_factors, "MOST", 8_000)
    rng = np.random.default_rng(5)
    found = described(read(uniform_factors(3, 0, 6_000)[rng.integers(0, 6_000, 40_000)], 6))
    assert found.compared < 8_000
    assert found.set_size == pytest.approx(6_000, rel=0.15)
    twice = uniform_factors(2, 0, 20_000)
    found = described(np.concatenate([read(twice), read(twice, 1)]))
    assert found.text.startswith(
        f"{found.copies:,} of {found.compared:,} images that were compared"
    )


def test_biased_sources_that_repeat_nothing_have_none() -> None:
    coupled = uniform_factors(4, 0, 6_000)
    coupled[:, 1] = coupled[:, 2]  # one colour for wall and object
    collapsed = uniform_factors(5, 0, 6_000)
    collapsed[:, 3], collapsed[:, 4], collapsed[:, 5] = 1.5, 2, 0
    rng = np.random.default_rng(7)
    grid = np.stack([rng.integers(0, 10, 6_000) / 10] * 6, axis=1)
    for column, (low, steps, width) in enumerate(
        [(0, 10, 0.1), (0, 10, 0.1), (0, 10, 0.1), (1, 8, 1 / 7), (0, 4, 1), (-30, 15, 60 / 14)]
    ):
        grid[:, column] = low + rng.integers(0, steps, 6_000) * width
    for factors in (coupled, collapsed, grid):
        assert described(read(factors)).copies == 0


def test_equal_images_are_named_elsewhere() -> None:
    factors = read(uniform_factors(6, 0, 1_500))
    assert described(np.concatenate([factors, factors])).copies == 0
    assert described(np.repeat(factors[:1], 500, axis=0)).copies == 0


def test_pairs_are_those_of_brute_force() -> None:
    factors = read(uniform_factors(8, 0, 300))
    factors[:, :3] = (factors[:, :3] * 0.2 - 0.1) % 1  # across the hues' seam
    factors[:, 3:] = np.stack([1.4 + 0.05 * factors[:, 3], np.ones(300), factors[:, 5] / 6], 1)
    apart = np.abs(factors[:, None] - factors[None])
    for column, factor in enumerate(FACTORS):
        if factor.topology == "circle":
            apart[..., column] = np.minimum(apart[..., column], 1 - apart[..., column])
        apart[..., column] *= BIN_SHAPE[column] / factor.period
    within = np.triu(apart.max(axis=2), 1)[np.triu_indices(300, 1)]
    assert [one.near for one in near_pairs(factors)] == [int((within <= w).sum()) for w in WIDTHS]
    assert near_pairs(factors)[-1].near > 0


def test_memory_is_bounded_and_the_order_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_factors, "MOST", 1_000)
    factors = read(uniform_factors(9, 0, 8_192))
    whole, parts = SeenFactors(), [SeenFactors() for _ in range(4)]
    whole.add(0, factors)
    whole.settle()
    for start in range(0, 8_192, 512):
        parts[start // 512 % 4].add(start, factors[start : start + 512])
    joined = SeenFactors.from_arrays(parts[3].arrays())
    for part in parts[:3]:
        joined.merge(part)
    assert 0 < len(whole.numbers) <= 1_000
    assert whole.zeros == joined.zeros
    assert np.array_equal(whole.numbers, joined.numbers)
    assert np.array_equal(whole.factors, joined.factors)
    assert np.array_equal(whole.factors, factors[whole.numbers].astype(np.float32))


def test_a_verdict_begins_with_them() -> None:
    factors = uniform_factors(2, 0, 1_500)
    near = described(np.concatenate([read(factors), read(factors, 1)]))
    said = VerdictRecord(passed=True, text="All is well.")
    assert with_repeats(said, None, near).text.startswith("Nearly equal images: ")
    none = near.model_copy(update={"copies": 0})
    assert with_repeats(said, None, none) == said


class ReadsPlaces(ReadsWritten):
    """Reads the bins that are written, and a place in the bin that follows from all six."""

    def __call__(self, images):  # type: ignore[no-untyped-def]
        found = super().__call__(images)
        found[:, :3] += 0.03 * np.sin(1e4 * found.sum(axis=1, keepdims=True))
        return found


def test_a_run_that_was_stopped_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shapeshd.benchmark.scoring.score.write_report", lambda *_: None)
    settings, out = ScoreSettings(samples=6_000, check_images=False), tmp_path / "out"
    whole, _ = score_in_memory(Written(), ReadsPlaces(), settings, progress=False)
    assert whole.near_copies is not None
    assert whole.near_copies.compared == 6_000
    with pytest.raises(ShapesHDError):
        score_source(Written(fail_at=5_000), ReadsPlaces(), out, settings)
    resumed = score_source(Written(), ReadsPlaces(), out, settings)
    assert resumed is not None
    assert resumed.near_copies == whole.near_copies
