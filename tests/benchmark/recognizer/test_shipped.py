"""The shipped recognizers, on images of the real POV-Ray, and the truth that a score must find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shapeshd.benchmark.recognizer.degrade import KnownDegradation
from shapeshd.benchmark.recognizer.evaluate import accuracy
from shapeshd.benchmark.recognizer.find import SHIPPED, find_recognizer
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.recognizer.version import recognizer_version
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.sources import open_source
from shapeshd.distribution import Distribution
from shapeshd.engines.povray import render_images
from shapeshd.factors import BIN_SHAPE, NUM_BINS, joint_bins, uniform_factors
from shapeshd.raytracer.tracer import trace_images
from tests.experiments.truth.distributions import DISTRIBUTIONS

LARGEST = 8 * 2**20  # bytes
IMAGES = {"lite": 400, "lite-robust": 100, "lite-256": 40, "hd": 80}
MEASURED = {"lite": 10_000, "lite-robust": 10_000, "lite-256": 3_000, "hd": 10_000}


@pytest.mark.parametrize("name", SHIPPED)
def test_it_has_a_version(name: str) -> None:
    """Who trains one anew adds its digest to `_VERSIONS`, with the next number."""
    assert recognizer_version(load_recognizer(name).digest) is not None


def test_another_recognizer_has_no_version() -> None:
    assert recognizer_version("0" * 64) is None
    assert recognizer_version(None) is None


@pytest.mark.parametrize("name", SHIPPED)
def test_reads_povray_as_the_card_says(name: str) -> None:
    recognizer = load_recognizer(name)
    factors = uniform_factors(77_000, 0, IMAGES[name])
    rendered = np.stack(list(render_images(factors, recognizer.size)))
    found = accuracy(factors, recognizer(torch.from_numpy(rendered).permute(0, 3, 1, 2)))
    claimed = recognizer.card.accuracy
    assert claimed is not None
    assert found.gross_errors.count == 0
    share = claimed.joint_accuracy
    spread = 4 * np.sqrt(share * (1 - share) / len(factors))
    assert abs(found.joint_accuracy - share) <= spread
    for factor_name, factor in found.factors.items():
        error = claimed.factors[factor_name].mean_absolute_error
        if error is not None:
            assert factor.mean_absolute_error is not None
            assert factor.mean_absolute_error == pytest.approx(error, rel=0.6)


@pytest.mark.parametrize("name", SHIPPED)
def test_card(name: str) -> None:
    path = find_recognizer(name)
    assert path.stat().st_size <= LARGEST
    card = load_recognizer(name).card
    found, data, floor = card.accuracy, card.trained_on, card.noise_floor
    assert found is not None and found.data is not None
    assert data is not None
    assert floor is not None or name == "lite-256"  # whose noise floor is not measured
    assert found.images >= MEASURED[name]
    assert found.joint_accuracy >= 0.97
    assert found.gross_errors is not None and found.gross_errors.count == 0
    assert all(factor.accuracy >= 0.99 for factor in found.factors.values())
    limits = {"floor_hue": 0.2, "wall_hue": 0.2, "object_hue": 0.2, "scale": 0.003,
              "orientation": 0.12 if name == "lite-256" else 0.1}  # fmt: skip
    for factor, limit in limits.items():
        error = found.factors[factor].mean_absolute_error
        assert error is not None and error <= limit
    coarse = load_recognizer(name).card.measured("bf16").accuracy
    if coarse is not None:  # convolutions in bf16 hardly change what is read
        assert coarse.images >= 3_000
        assert abs(coarse.joint_accuracy - found.joint_accuracy) < 0.01
        assert coarse.gross_errors is not None and coarse.gross_errors.count == 0
    assert data.seed != found.data.seed
    if floor is not None:
        assert floor.divergence.low == 0  # real images do not differ significantly from ideal
        assert floor.seed != data.seed


def test_lite_robust_reads_degraded_images_better() -> None:
    factors = uniform_factors(77_001, 0, 80)
    images, generator = trace_images(factors, 64), torch.Generator().manual_seed(0)
    for text in ("brightness=0.9", "jpeg=75"):
        images = KnownDegradation.parse(text)(images, generator)
    lite, robust = (
        accuracy(factors, load_recognizer(name)(images)) for name in ("lite", "lite-robust")
    )
    assert robust.joint_accuracy > 0.8
    assert robust.joint_accuracy > lite.joint_accuracy + 0.1
    assert robust.factors is not None
    bias = robust.factors["orientation"].bias
    assert bias is not None and abs(bias) < 0.1  # degrees


@pytest.mark.usefixtures("no_page")
def test_a_known_fault_is_found(tmp_path: Path) -> None:
    """Of images whose floor and orientation lie in one bin, so that few show it as well."""
    distribution = DISTRIBUTIONS["demo"]()
    factors = distribution.draw(3, 0, 1_500)
    factors[:, 0] /= BIN_SHAPE[0]
    factors[:, 5] = (factors[:, 5] + 30) / BIN_SHAPE[5]  # from 0 to 10 degrees
    narrow = Distribution.from_json(
        {
            "floor_hue": {"weights": [1, *[0] * 11]},
            "orientation": {"weights": [0, 0, 0, 1, 0, 0]},
        }
    )
    np.save(tmp_path / "images.npy", trace_images(factors, 64).numpy())
    with open_source(str(tmp_path / "images.npy")) as source:
        settings = ScoreSettings(distribution=narrow, check_images=False)
        result = score_source(source, load_recognizer("lite"), tmp_path / "out", settings)
    assert result is not None
    divergence = result.fit.divergence
    assert divergence.low <= distribution.divergence <= divergence.high
    named = [part.name for part in result.decomposition.significant]
    assert set(named[:2]) == {"scale", "wall_hue x object_hue"}
    assert not result.verdict.passed
    counts = np.load(tmp_path / "out" / "histogram.npy")
    truth = np.bincount(joint_bins(factors), minlength=NUM_BINS)
    measurement_error = np.abs(counts - truth).sum() / 2
    assert measurement_error <= 0.04 * len(factors)
