"""A score leaves the random numbers, networks and modes of the caller's program alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shapeshd.benchmark import score
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.factors import uniform_factors
from shapeshd.raytracer.tracer import trace_images
from tests.support.known_generators import FEW, Telling, random_states, scored

pytestmark = pytest.mark.usefixtures("no_page")


def test_nothing_of_the_callers_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    network = Telling()
    network.norm.eval()  # frozen in training, as fine-tuning does it
    network.tilt.grad = torch.tensor(2.0)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [part.training for part in network.modules()]
    before = random_states()
    scored(network)
    assert random_states() == before
    assert [part.training for part in network.modules()] == modes == [True, True, False]
    assert network.seen == len(network.seen) * [(False, False, False)]
    assert torch.is_grad_enabled()
    assert network.tilt.requires_grad
    assert network.tilt.grad == 2.0
    for key, value in network.state_dict().items():
        assert torch.equal(value, weights[key])
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_recognizer_is_loaded_without_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its network is first made at random: that must not show."""
    before = random_states()
    with pytest.raises(UsageError, match="too few to read"):
        score(lambda n: torch.zeros(n, 3, 40, 40, dtype=torch.uint8), FEW, recognizer="hd")
    assert random_states() == before


def test_failures_leave_no_trace_either() -> None:
    network = Telling()
    before = random_states()
    for error, caught in (
        (ValueError("no"), ShapesHDError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):
        network.register_forward_pre_hook(_raiser(error))
        with pytest.raises(caught):
            scored(network.sample)
        network._forward_pre_hooks.clear()
        assert network.training
        assert network.drop.training
        assert random_states() == before


def _raiser(error: BaseException) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        torch.rand(5)
        raise error

    return hook


def test_what_a_network_stores_away_can_be_trained_on() -> None:
    class Caching(Telling):
        kept: Tensor | None = None

        def forward(self, latents: Tensor) -> Tensor:
            if self.kept is None:
                self.kept = torch.ones(3)
            latents *= 1.0  # in place: it is theirs
            return super().forward(latents)

    network = Caching()
    scored(network)
    assert network.kept is not None
    (network.tilt * network.kept).square().sum().backward()
    assert network.tilt.grad is not None


def test_a_network_that_changes_with_its_mode_is_asked_to_change_back() -> None:
    class Merging(Telling):
        merged = False

        def train(self, mode: bool = True) -> Merging:
            self.merged = not mode
            return super().train(mode)

    network = Merging()
    scored(network)
    assert network.training
    assert not network.merged


def test_the_recognizer_reads_as_well_inside_of_autocast() -> None:
    lite = load_recognizer("lite")
    images = trace_images(uniform_factors(3, 0, 16), 64)
    plain = lite(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        np.testing.assert_array_equal(lite(images), plain)
