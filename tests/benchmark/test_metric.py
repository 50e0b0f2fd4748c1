"""`DistributionScore` of torchmetrics against the histogram that its images say."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.aggregation import MeanMetric

import shapeshd.benchmark
from shapeshd.benchmark import DistributionScore
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.distribution import Distribution
from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError
from shapeshd.factors import NUM_BINS, joint_bins, uniform_factors
from shapeshd.raytracer.tracer import trace_images
from tests.support.fake_scores import ReadsWritten, Written
from tests.support.known_generators import random_states
from tests.support.metric_ranks import MORE, PARTS, bins, score_of
from tests.support.torchrun import torchrun

FEW = 5_761
ENDS = ("", "_low", "_high")


def metric(*arguments: Any, **options: Any) -> DistributionScore:
    return DistributionScore(*arguments, recognizer=ReadsWritten(), **options)


def images(start: int, stop: int, side: int = 64) -> Tensor:
    return Written(side, crowded=True).images(start, stop)


def filled(samples: int = 7_000, step: int = 1_000) -> DistributionScore:
    found = metric()
    for start in range(0, samples, step):
        found.update(images(start, min(start + step, samples)))
    return found


def truth(samples: int = 7_000) -> np.ndarray:
    return np.bincount(Written(crowded=True).bins(0, samples), minlength=NUM_BINS)


def value_of(counts: np.ndarray) -> float:
    """Return the reduced chi-square at 20 samples per bin, by counting pairs."""
    n, k = int(counts.sum()), len(counts)
    pairs = sum(count * (count - 1) for count in counts[counts > 1].tolist())
    divergence = k * pairs / (n * (n - 1)) - 1
    return max(1.0, 1 + (20 * k - 1) * divergence / (k - 1))


# Values


def test_the_value_is_that_of_the_histogram() -> None:
    found = filled()
    np.testing.assert_array_equal(found.histogram.numpy(), truth())
    assert found.samples == 7_000
    value = found.compute()
    assert value.shape == ()
    assert float(value) == pytest.approx(value_of(truth()), rel=1e-6)
    fit, said = goodness_of_fit(truth()), found.compute_all()
    assert said["reduced_chi_square"] == value
    for name, estimate in (
        ("reduced_chi_square", fit.prediction.reduced_chi_square), ("divergence", fit.divergence),
    ):  # fmt: skip
        numbers = [float(said[name + end]) for end in ENDS]
        assert numbers == pytest.approx([estimate.reported, estimate.low, estimate.high], rel=1e-6)
    assert float(said["p_value"]) == pytest.approx(fit.p_value, abs=1e-12)
    assert set(said) == {"reduced_chi_square", "reduced_chi_square_low", "reduced_chi_square_high",
                         "divergence", "divergence_low", "divergence_high", "p_value",
                         "unlike_dataset"}  # fmt: skip


@pytest.mark.parametrize(
    ("range_", "layout", "convert"),
    [
        ("uint8", "nchw", lambda x: x.float()),
        ("unit", "nchw", lambda x: x / 255),
        ("unit", "nchw", lambda x: (x / 255).double().requires_grad_()),
        ("symmetric", "nchw", lambda x: x / 127.5 - 1),
        ("unit", "nhwc", lambda x: (x / 255).permute(0, 2, 3, 1)),
    ],
)
def test_ranges_and_layouts(range_: Any, layout: Any, convert: Any) -> None:
    found = metric(range_, layout=layout)
    found.update(convert(images(0, 500)))
    np.testing.assert_array_equal(found.histogram.numpy(), truth(500))
    assert not found.histogram.requires_grad


def test_images_of_another_size_are_resized() -> None:
    found = metric()
    found.update(images(0, 100, 256))
    np.testing.assert_array_equal(found.histogram.numpy(), truth(100))


@pytest.mark.parametrize(
    ("make", "seen", "message"),
    [
        (lambda: metric("auto"), None, "symmetric, not 'auto'"),
        (lambda: metric("nonsense"), None, "range must be uint8"),
        (lambda: metric(layout="auto"), None, "nhwc, not 'auto'"),
        (lambda: DistributionScore(recognizer="nobody"), None, "nobody: no such recognizer"),
        (lambda: metric("unit"), images(0, 4), "leave out range"),
        (lambda: metric("unit"), images(0, 4) / 127.5 - 1, "the stated range [0, 1]"),
        (metric, images(0, 4) / 255, "the stated range 0 to 255"),
        (lambda: metric("unit"), torch.full((4, 3, 64, 64), torch.nan), "NaN values in 4 of 4"),
        (metric, images(0, 4).permute(0, 2, 3, 1), "shape (4, 64, 64, 3)"),
        (metric, images(0, 4)[0], "shape (3, 64, 64)"),
        (metric, images(0, 4, 16), "too few to read"),
        (metric, [1, 2], "shape (2,)"),
    ],
)
def test_one_clear_line(make: Any, seen: Any, message: str) -> None:
    with pytest.raises(ShapesHDError) as caught:
        make().update(seen)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert " --" not in str(caught.value)


def test_too_few_samples_are_no_number() -> None:
    found = metric()
    found.update(images(0, FEW - 1))
    with pytest.warns(UserWarning, match=r"NaN: 5,760 samples .*5,761"):
        assert math.isnan(found.compute())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        assert all(math.isnan(value) for value in found.compute_all().values())
        found.update(images(FEW - 1, FEW))
        assert float(found.compute()) == pytest.approx(value_of(truth(FEW)), rel=1e-6)


def test_another_distribution(tmp_path: Path) -> None:
    file = tmp_path / "distribution.toml"
    file.write_text("shape.weights = [1, 1, 0, 1]\nscale.weights = [1, 2, 3, 4]\n")
    distribution = Distribution.read(file)
    found = metric(distribution=file)
    found.update(Written().images(0, 8_000))  # a quarter of which are spheres
    counts = np.bincount(Written().bins(0, 8_000), minlength=NUM_BINS)
    probabilities = distribution.expected()
    inside = np.where(probabilities > 0, counts, 0)
    said, fit = found.compute_all(), goodness_of_fit(inside, probabilities)
    assert float(said["outside"]) == pytest.approx(1 - inside.sum() / 8_000)
    assert 0.2 < float(said["outside"]) < 0.3
    assert float(said["divergence"]) == pytest.approx(fit.divergence.reported, rel=1e-6)
    with pytest.raises(UsageError, match=r"missing\.toml"):
        metric(distribution=tmp_path / "missing.toml")


# As torchmetrics wants it


def test_forward_gives_the_batchs_value_and_adds_it() -> None:
    found = metric()
    with pytest.warns(UserWarning, match="too few"):
        assert math.isnan(found(images(0, 1_000)))
    batch = found(images(1_000, 7_000))
    alone = metric()
    alone.update(images(1_000, 7_000))
    assert batch == alone.compute()
    assert found.compute() == filled().compute()
    assert found.compute_all()["divergence"] == filled().compute_all()["divergence"]


def test_it_can_begin_again() -> None:
    found = filled()
    found.compute()
    found.reset()
    assert found.samples == 0
    with pytest.warns(UserWarning):
        assert math.isnan(found.compute_all()["divergence"])
    found.update(images(0, 7_000))
    assert found.compute() == filled().compute()


def test_in_a_collection() -> None:
    both = MetricCollection({"score": metric(), "mean": MeanMetric()}).clone(prefix="val_")
    both["score"].update(images(0, 7_000))
    both["mean"].update(3.0)
    said = both.compute()
    assert said == {"val_score": filled().compute(), "val_mean": torch.tensor(3.0)}


def test_copies_pickles_and_states() -> None:
    found = filled(6_000)
    found.compute()
    for other in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert other.compute() == found.compute()
        other.update(images(6_000, 7_000))
        assert other.compute() == filled().compute()
        assert found.samples == 6_000
    assert found.state_dict() == {}  # as all metrics, unless asked
    found.persistent(True)
    state = found.state_dict()
    assert list(state) == ["histogram"]
    taken = metric()
    taken.persistent(True)
    taken.load_state_dict(state)
    taken.update(images(6_000, 7_000))
    assert taken.compute() == filled().compute()
    assert list(found.parameters()) == []


def test_two_add_up() -> None:
    one, other = metric(), metric()
    one.update(images(0, 3_000))
    other.update(images(3_000, 7_000))
    one.merge_state(other)
    assert one.compute() == filled().compute()


def test_updates_inside_and_outside_of_inference_mode() -> None:
    found = metric()
    for start in range(0, 6_000, 2_000):
        with torch.inference_mode():
            found.reset() if start == 0 else None
            found.update(images(start, start + 1_000))
        found.update(images(start + 1_000, start + 2_000))
    np.testing.assert_array_equal(found.histogram.numpy(), truth(6_000))


def test_the_shipped_recognizer_reads_and_follows_the_metric() -> None:
    before = random_states()
    named, chosen = DistributionScore(recognizer="lite"), DistributionScore()
    factors = uniform_factors(11, 0, 48)
    traced = trace_images(factors, 64)
    lite = load_recognizer("lite", precision="auto")
    for found in (named, chosen, pickle.loads(pickle.dumps(named)).to("cpu")):
        found.update(traced)
        expected = np.bincount(joint_bins(lite(traced)), minlength=NUM_BINS)
        np.testing.assert_array_equal(found.histogram.numpy(), expected)
        true = np.bincount(joint_bins(factors), minlength=NUM_BINS)
        assert np.minimum(true, expected).sum() >= 44
    del found
    after = random_states()
    load_recognizer("lite")  # which draws: the comparison means something
    assert random_states() != after
    torch.set_rng_state(torch.tensor(before[0], dtype=torch.uint8))
    DistributionScore(recognizer="lite")
    assert random_states() == before


def test_without_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "shapeshd.benchmark.metric")
    monkeypatch.delitem(vars(shapeshd.benchmark), "DistributionScore", raising=False)
    names: dict[str, Any] = {}
    exec("from shapeshd.benchmark import *", names)
    assert "score" in names
    with pytest.raises(MissingPackageError) as caught:
        exec("from shapeshd.benchmark import DistributionScore", names)
    expected = MissingPackageError.of("torchmetrics", "metrics", "DistributionScore")
    assert str(caught.value) == str(expected)


def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    torchrun("tests.support.metric_ranks", tmp_path)
    one, longer = score_of(*PARTS), score_of(*PARTS, *MORE)
    expected = {name: float(value) for name, value in one.compute_all().items()}
    for rank, (start, stop) in enumerate(PARTS):
        said, own, together, more = json.loads((tmp_path / f"{rank}.json").read_text())
        assert said == pytest.approx(expected, rel=0, abs=0, nan_ok=True)  # none is looked at
        assert own == stop - start
        np.testing.assert_array_equal(together, np.bincount(bins(0, 7_000), minlength=NUM_BINS))
        assert more == float(longer.compute())


# The look at images


def looking(shown: Tensor, **options: Any) -> DistributionScore:
    """Return a metric that has seen some images, and counts enough of others."""
    found = DistributionScore(recognizer="lite", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found(shown)  # as a training loop does: what it keeps outlives the batch
    found.histogram = torch.from_numpy(truth())
    return found


def test_images_of_the_dataset_are_not_warned_of() -> None:
    found = looking(trace_images(uniform_factors(3, 0, 40), 64), image_check=32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = found.compute_all()
    assert found.looked_at is not None
    assert found.looked_at.images == 32
    assert found.looked_at.ok
    assert float(said["unlike_dataset"]) < 0.2
    found.reset()
    assert found.looked_at is None
    assert math.isnan(float(found._tensors()["unlike_dataset"]))


def test_images_that_are_none_of_the_dataset_are_warned_of_once() -> None:
    noise = torch.randint(0, 256, (32, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    found = looking(noise.byte())
    with pytest.warns(UserWarning, match="do not look like the dataset"):
        found.compute()
    assert found.looked_at is not None
    assert not found.looked_at.alike
    assert float(found.compute_all()["unlike_dataset"]) > 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.update(noise.byte())
        found.compute()


def test_the_look_can_be_left_out() -> None:
    found = filled()
    found.compute()
    assert found.looked_at is None  # this recognizer reads no real images
    found = looking(trace_images(uniform_factors(3, 0, 40), 64), image_check=0)
    found.compute()
    assert found.looked_at is None
    with pytest.raises(UsageError, match="image_check"):
        metric(image_check=20)
