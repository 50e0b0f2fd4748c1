"""The controller of the augmentation's probability."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.models.augment.adaptive_probability import AdaptiveProbability


def test_p_climbs_from_0_to_1_in_as_many_images_as_it_says() -> None:
    controller = AdaptiveProbability(target=0.6, interval=4, kimg=1.0)
    values = []
    for _ in range(36):
        controller.observe(32.0, 32)  # all rightly told: r_t = 1
        values.append(controller.p)
    assert values[:3] == [0, 0, 0]
    np.testing.assert_allclose(values[3::4][:7], 0.128 * np.arange(1, 8))
    assert values[31:] == [1.0] * 5
    assert controller.measured == 1.0


@pytest.mark.parametrize(("sums", "moved"), [((32, 32, 32), 1), ((8, 8, 8), -1), ((-9, 0, 9), -1)])
def test_p_moves_by_the_sign_of_the_mean(sums: tuple[float, ...], moved: int) -> None:
    controller = AdaptiveProbability(target=0.5, interval=3, kimg=10.0, p=0.5)
    for value in sums:
        logits = torch.tensor(value, requires_grad=True, dtype=torch.float32)
        controller.observe(logits, 32)
        assert not torch.as_tensor(controller.total).requires_grad  # it holds no graph
    assert controller.measured == pytest.approx(sum(sums) / 96)
    assert controller.p == pytest.approx(0.5 + moved * 96 / 10_000)
    assert controller.total == 0 and controller.count == 0


def test_p_stays_at_the_target_and_in_its_range() -> None:
    controller = AdaptiveProbability(target=0.5, interval=1, kimg=1.0, p=0.4)
    controller.observe(16, 32)
    assert controller.p == 0.4
    controller = AdaptiveProbability(interval=1, kimg=0.001)
    controller.observe(-32, 32)
    assert controller.p == 0
    controller.observe(32, 32)
    assert controller.p == 1


def test_a_controller_goes_on_where_it_was_saved() -> None:
    rng = np.random.default_rng(0)
    controllers = [AdaptiveProbability(target=0.1, kimg=2.0, p=0.3)] * 2
    controllers = [dataclasses.replace(controller) for controller in controllers]
    for step in range(19):
        total = torch.tensor(float(rng.integers(-16, 33)))
        for controller in controllers:
            controller.observe(total, 32)
        if step % 5 == 1:  # also between two moves
            text = json.dumps(controllers[1].to_json())
            controllers[1] = AdaptiveProbability.from_json(json.loads(text))
    assert controllers[0].to_json() == controllers[1].to_json()
    assert controllers[0].p != 0.3


def test_a_state_that_does_not_fit_is_refused() -> None:
    state = AdaptiveProbability().to_json()
    with pytest.raises(UsageError, match="lacks the field 'p'"):
        AdaptiveProbability.from_json({k: v for k, v in state.items() if k != "p"})
    with pytest.raises(UsageError, match="has no field 'value'"):
        AdaptiveProbability.from_json({**state, "value": 0.5})
    with pytest.raises(UsageError, match=r"p .*between 0 and 1"):
        AdaptiveProbability.from_json({**state, "p": 1.5})
    with pytest.raises(UsageError, match="interval"):
        AdaptiveProbability(interval=0)


def test_a_diverged_discriminator_is_said_and_p_stays() -> None:
    controller = AdaptiveProbability(interval=1, p=0.25)
    with pytest.raises(ShapesHDError, match="diverged"):
        controller.observe(torch.tensor(math.nan), 32)
    assert controller.p == 0.25
