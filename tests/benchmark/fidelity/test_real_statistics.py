"""FID against shipped mean and covariance: the score's own, closed forms, and what is refused."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from shapeshd.benchmark import DistributionScore, frechet_distance_to_real, open_source
from shapeshd.benchmark.fidelity import frechet, real_statistics
from shapeshd.benchmark.fidelity.frechet import Moments
from shapeshd.benchmark.fidelity.measure import REAL_SEED, FidelitySettings, open_fidelity
from shapeshd.benchmark.fidelity.real_statistics import (
    DIMENSION,
    FOLDER,
    KIND,
    SHIPPED,
    load_real_statistics,
)
from shapeshd.benchmark.recognizer.reader import Reader
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.factors import uniform_factors
from shapeshd.raytracer.tracer import trace_images
from shapeshd.scene.version import SCENE_VERSION
from shapeshd.support.checkpoint import load_checkpoint, save_checkpoint
from shapeshd.support.distributed import Ranks
from tests.experiments.real_statistics import IMAGES, write_real_statistics
from tests.support.fake_scores import ReadsWritten

FEW = 100


@pytest.fixture(scope="module")
def lite() -> Recognizer:
    return load_recognizer("lite")


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Images whose hues are all warm."""
    factors = uniform_factors(8, 0, FEW)
    factors[:, :3] *= 0.4
    return trace_images(factors, 64)


@pytest.fixture(scope="module", autouse=True)
def _few_groups() -> Iterator[None]:
    """No interval is looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frechet, "GROUPS", 3)
        yield


@pytest.fixture(scope="module")
def small(lite: Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the shipped one, with the statistics of as few real images."""
    folder = tmp_path_factory.mktemp("statistics")
    write_real_statistics(folder / "lite-64.safetensors", lite, 64, FEW, "0" * 40)
    return folder


def test_it_is_the_fid_of_a_score(
    lite: Recognizer,
    images: Tensor,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    np.save(tmp_path / "images.npy", images.numpy())
    fidelity = open_fidelity(FidelitySettings(FEW), FEW, lite, 64)
    fidelity.open(tmp_path, Ranks())
    with open_source(str(tmp_path / "images.npy")) as source:
        found = fidelity.finish(source, Ranks())
    assert found is not None
    expected = found[0]["statistics"]["fid"]["value"]
    monkeypatch.setattr(real_statistics, "FOLDER", small)
    batches = (images[:50], images[50:])
    assert frechet_distance_to_real(batches) == pytest.approx(expected, rel=1e-5)
    metric = DistributionScore("unit", recognizer="lite", image_check=0, fid=True)
    for batch in batches:
        metric.update(batch / 255)
    with pytest.warns(UserWarning, match="too few"):  # for D
        said = metric.compute_all()
    assert float(said["fid"]) == pytest.approx(expected, rel=1e-5)
    card = load_real_statistics(lite, 64).card
    theoretical = found[0]["theoretical"]["fid"]["value"]
    assert card.fid_of_real_images.value == pytest.approx(theoretical, rel=1e-5)


@pytest.mark.parametrize(("name", "side", "count"), [("lite", 64, 200), ("hd", 256, 32)])
def test_the_shipped_files_are_of_the_real_images(name: str, side: int, count: int) -> None:
    recognizer = load_recognizer(name)
    statistics = load_real_statistics(recognizer, side)
    card = statistics.card
    assert (card.recognizer, card.recognizer_sha256) == (name, recognizer.digest)
    assert (card.size, card.images, card.seed) == (side, IMAGES, REAL_SEED)
    assert card.scene_version == SCENE_VERSION
    assert 0 < card.fid_of_real_images.low < card.fid_of_real_images.high
    real = statistics.moments(trace_images(uniform_factors(REAL_SEED, 0, count), side), recognizer)
    variance = np.diag(statistics.covariance)
    alive = variance > 0  # some features are the same for all images
    assert alive.mean() > 0.8
    z = real.first[alive] / np.sqrt(count * variance[alive])
    assert 0.7 < (z**2).mean() < 1.4  # features move together, hence not closer to 1
    seen = np.diag(real.second)[alive] / count / variance[alive]
    assert np.median(seen) == pytest.approx(1, abs=0.15)
    assert (FOLDER / f"{name}-{side}.safetensors").stat().st_size < 200_000


@pytest.mark.parametrize(("name", "side"), SHIPPED)
def test_known_distances(name: str, side: int) -> None:
    statistics = load_real_statistics(load_recognizer(name), side)
    covariance, shift = statistics.covariance, np.linspace(0, 0.3, DIMENSION)

    def moments(mean: np.ndarray, factor: float) -> Moments:
        second = (IMAGES - 1) * factor * covariance + IMAGES * np.outer(mean, mean)
        return Moments(IMAGES, IMAGES * mean, second)

    assert statistics.distance(moments(0 * shift, 1)) == pytest.approx(0, abs=1e-4)
    assert statistics.distance(moments(shift, 1)) == pytest.approx(shift @ shift, rel=1e-4)
    wider = statistics.distance(moments(0 * shift, 4))
    assert wider == pytest.approx(np.trace(covariance), rel=1e-4)


def test_bf16_readers_are_compared_in_fp32(lite: Recognizer, images: Tensor) -> None:
    coarse = copy.copy(lite)
    coarse.precision, coarse._net = "bf16", lite.network.in_bf16()
    statistics = load_real_statistics(lite, 64)
    part = images[:8]
    exact = statistics.moments(part, lite)
    assert not np.array_equal(coarse.features(part), lite.features(part))
    np.testing.assert_array_equal(statistics.moments(part, coarse).first, exact.first)


@pytest.mark.parametrize(
    ("reader", "side", "named"),
    [
        ("lite", 32, "lite at 32 pixels"),
        ("lite", 256, "lite at 256 pixels"),
        ("hd", 128, "hd at 128 pixels"),
        ("lite-robust", 64, "lite-robust at 64 pixels"),
        (ReadsWritten(), 64, "at 64 pixels"),
    ],
)
def test_others_are_refused_in_one_line(reader: str | Reader, side: int, named: str) -> None:
    with pytest.raises(UsageError, match=f"lite at 64 pixels and hd at 256.* {named}") as caught:
        load_real_statistics(load_recognizer(reader) if isinstance(reader, str) else reader, side)
    assert "\n" not in str(caught.value)


def test_another_scene_and_a_damaged_file_are_refused(
    lite: Recognizer, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = load_checkpoint(small / "lite-64.safetensors", KIND)
    monkeypatch.setattr(real_statistics, "FOLDER", tmp_path)
    path = tmp_path / "lite-64.safetensors"
    save_checkpoint(path, KIND, kept.tensors, {**kept.card, "scene_version": SCENE_VERSION + 1})
    with pytest.raises(UsageError, match="of the scene"):
        load_real_statistics(lite, 64)
    data = bytearray((small / path.name).read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShapesHDError, match=r"lite-64\.safetensors"):
        load_real_statistics(lite, 64)


def test_images_that_are_refused(images: Tensor, tmp_path: Path) -> None:
    for given, message in (
        (images[:99], "too few for FID: 99, and it takes 100"),
        ([], "too few for FID: 0"),
        (images / 255, "must be uint8"),
        (images[0], r"not uint8 \(3, 64, 64\)"),
        ([images[:2], images[:2, :, :32, :32]], "one size"),
        (images[:, :, :32, :32], "lite at 32 pixels"),
    ):
        with pytest.raises(UsageError, match=message):
            frechet_distance_to_real(given)
    metric = DistributionScore(recognizer="lite", fid=True)
    with pytest.raises(UsageError, match="lite at 32 pixels"):
        metric.update(images[:, :, :32, :32])
    assert metric.samples == 0
    file = tmp_path / "distribution.toml"
    file.write_text("shape.weights = [1, 1, 0, 1]\n")
    with pytest.raises(UsageError, match="fid"):
        DistributionScore(distribution=file, fid=True)


def test_the_metric_adds_up_and_begins_again(lite: Recognizer, images: Tensor) -> None:
    one, other = (DistributionScore(recognizer=lite, image_check=0, fid=True) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few for D
        one(images[:60])
        assert math.isnan(copy.deepcopy(one).compute_all()["fid"])
        with torch.inference_mode():
            other.update(images[60:])
        one.merge_state(other)
        expected = frechet_distance_to_real(images, lite)
        assert float(one.compute_all()["fid"]) == pytest.approx(expected, rel=1e-5)
        one.reset()
        assert math.isnan(one.compute_all()["fid"])
