"""The loss, the learning rate and the batches of a recognizer's training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from shapeshd.benchmark.recognizer.data import training_batches
from shapeshd.benchmark.recognizer.network import Reading
from shapeshd.benchmark.recognizer.recognizer import encode_factors
from shapeshd.benchmark.recognizer.train import (
    TrainingConfig,
    reading_loss,
    total_loss,
)
from shapeshd.factors import NAMES, uniform_factors
from tests.support.tiny_training import (
    tiny_training,
)


def test_the_learning_rate_rises_peaks_and_ends_at_zero() -> None:
    config = TrainingConfig(images=64_000, batch=64, learning_rate=0.01, warm_up=100)
    rates = np.array([config.rate_at(step) for step in range(1001)])
    assert config.steps == 1000
    assert rates[0] == pytest.approx(0.01 / 100)
    assert rates[49] == pytest.approx(0.5 * 0.01, rel=0.01)
    assert 0.0097 < rates.max() <= 0.01
    assert abs(int(rates.argmax()) - 99) <= 1
    assert (np.diff(rates[:99]) > 0).all()
    assert (np.diff(rates[100:]) < 0).all()
    assert rates[1000] == pytest.approx(0, abs=1e-12)
    assert rates[500] == pytest.approx(0.005)
    assert 0 < rates[999] < 1e-6
    assert TrainingConfig(images=64, warm_up=0).rate_at(0) == 2e-3


def a_reading(factors: np.ndarray) -> Reading:
    hues, scale, orientation, shape = encode_factors(factors)
    logits = 40.0 * torch.nn.functional.one_hot(shape, 4).float()
    return Reading(hues, scale, orientation, logits)


def test_the_loss_by_hand() -> None:
    truth = np.array([[0.0, 0.25, 0.5, 1.5, 2, 12.0], [0.1, 0.2, 0.3, 1.25, 0, -30.0]])
    reading = a_reading(truth)
    reading.hues[0, 0] = torch.tensor([0.0, 1.0])  # a right angle: the chord is sqrt(2)
    reading.hues[1, 2] *= 0.25  # too short by 3/4
    scale = reading.scale + torch.tensor([0.25, -0.125])  # one bin, and a half
    orientation = reading.orientation + torch.tensor([0.5, 0.0])  # 15 degrees: 1.5 bins
    shape = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(5), 0.0, 0.0, 0.0]])
    losses = reading_loss(Reading(reading.hues, scale, orientation, shape), torch.tensor(truth))
    per_bin = 12 / (2 * math.pi)
    expected = {
        "floor_hue": math.sqrt(2) * per_bin / 2,
        "wall_hue": 0.0,
        "object_hue": 0.75 * per_bin / 2,
        "scale": (1 + 0.5) / 2,
        "shape": (math.log(4) + math.log(8 / 5)) / 2,
        "orientation": 1.5 / 2,
    }
    assert list(losses) == list(NAMES)
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, abs=1e-6), name
    total = sum(expected.values()) + expected["scale"] + expected["orientation"]
    assert float(total_loss(losses)) == pytest.approx(total, abs=1e-5)


def test_a_hue_vector_s_length_can_weigh_less_than_its_direction() -> None:
    truth = np.array([[0.0, 0.25, 0.5, 1.5, 2, 12.0]])
    reading = a_reading(truth)
    reading.hues[0, 0] = torch.tensor([0.5, 0.3])  # half too short, and 0.3 off its direction
    losses = reading_loss(reading, torch.tensor(truth), length=0.2)
    expected = math.hypot(0.2 * 0.5, 0.3) * 12 / (2 * math.pi)
    assert float(losses["floor_hue"]) == pytest.approx(expected, abs=1e-6)


def test_a_perfect_reading_costs_nothing_and_its_gradient_is_finite() -> None:
    factors = uniform_factors(5, 0, 50)
    parts = [part.clone().requires_grad_() for part in a_reading(factors)]
    loss = total_loss(reading_loss(Reading(*parts), torch.from_numpy(factors)))
    assert float(loss.detach()) < 1e-5
    loss.backward()
    for part in parts:
        assert part.grad is not None
        assert part.grad.isfinite().all()
        assert part.grad.abs().max() < 1e-5  # nothing pulls away from it


def test_batches_are_shuffled_whole_epochs_and_depend_on_seed_and_step(tmp_path: Path) -> None:
    dataset = tiny_training(tmp_path / "run")._dataset
    factors = dataset.labels

    def rows(first: int, last: int, seed: int = 0, workers: int = 0) -> list[list[int]]:
        batches = training_batches(dataset, 40, 12, seed, first, last, workers)
        found = []
        for images, labels in batches:
            assert images.dtype == torch.uint8
            found.append([int((factors == row).all(1).argmax()) for row in labels.numpy()])
        return found

    whole = rows(0, 7)
    for epoch in (whole[:3], whole[3:6]):
        seen = [row for batch in epoch for row in batch]
        assert len(set(seen)) == 36
        assert max(seen) < 40
    assert whole[:3] != whole[3:6]
    assert rows(2, 5) == whole[2:5] == rows(2, 5, workers=1)
    assert rows(0, 2, seed=1) != whole[:2]
    assert rows(4, 4) == []
