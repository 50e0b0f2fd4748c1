"""The recognizer as on a GPU that is not there: on the device `meta`, and its waits counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from shapeshd.benchmark.recognizer.network import RecognitionNetwork
from shapeshd.benchmark.recognizer.recognizer import Recognizer, decode_reading
from tests.support.rehearsal import Seen, rehearsed
from tests.support.tiny_training import TINY, tiny_training


@pytest.mark.parametrize("stem", [16, 0])
@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_reading_stays_on_its_device_and_never_waits(
    monkeypatch: pytest.MonkeyPatch, size: int, stem: int, precision: str
) -> None:
    """A tensor left on the CPU raises; MPS has no float64."""
    network = RecognitionNetwork(replace(TINY, size=size, stem=stem)).eval()
    network = network.in_bf16() if precision == "bf16" else network
    network = network.to("meta")
    images = torch.empty(6, 3, size, size, dtype=torch.uint8, device="meta")
    with torch.inference_mode(), rehearsed(monkeypatch) as seen:
        reading = network(images)
        features = network.features(images)
    assert {part.device.type for part in (*reading, features)} == {"meta"}
    assert [tuple(part.shape) for part in reading] == [(6, 3, 2), (6,), (6,), (6, 4)]
    assert not seen.waits
    assert torch.float64 not in seen.types
    assert (torch.bfloat16 in seen.types) is (precision == "bf16")


def test_a_hidden_wait_and_float64_are_seen() -> None:
    with Seen("cpu") as seen:
        float(torch.ones(2).sum())
        torch.ones(1, dtype=torch.float64) + 1
    assert sum(seen.waits.values()) == 1
    assert torch.float64 in seen.types


def test_factors_are_decoded_without_a_wait() -> None:
    network = RecognitionNetwork(TINY).eval()
    with torch.inference_mode(), Seen("cpu") as seen:
        decode_reading(network(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)))
    assert not seen.waits


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_copy_that_waits_is_seen_and_one_that_does_not_is_none(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rehearsed(monkeypatch) as seen:
        for asynchronous in (True, False):
            torch.ones(2).to(device, non_blocking=asynchronous)
        torch.empty(4, device=device)[torch.tensor([0, 1])]  # places on the CPU
    assert sum(seen.waits.values()) == (2 if device == "meta" else 0)


def test_all_batches_are_given_to_the_device_before_one_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recognizer = Recognizer(RecognitionNetwork(TINY), "tiny", device="meta")
    recognizer._batch = 2
    with rehearsed(monkeypatch) as seen:
        assert recognizer(torch.zeros(5, 3, 64, 64, dtype=torch.uint8)).shape == (5, 6)
        assert recognizer.features(torch.zeros(5, 3, 64, 64, dtype=torch.uint8)).shape[0] == 5
    assert dict(seen.waits) == {"recognizer._in_batches": 2}
    assert torch.float64 not in seen.types


@pytest.mark.parametrize(("degradation", "waits"), [("mild", 0), ("strong", 1)])
def test_a_step_of_training_waits_for_images_to_be_compressed_alone(
    degradation: Literal["mild", "strong"], waits: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    training = tiny_training(
        tmp_path / "run", degradation=degradation, degraded=0.5, precision="bf16"
    )
    images = torch.zeros(16, 3, 64, 64, dtype=torch.uint8)
    training.device = torch.device("meta")
    for network in (training.network, training.average):
        network.to("meta")
    training._optimizer = torch.optim.AdamW(training.network.parameters())
    with rehearsed(monkeypatch) as seen:
        training.take_step((images, torch.zeros(16, 6, dtype=torch.float64)))
    assert dict(seen.waits) == ({"degrade.degrade_strongly": waits} if waits else {})
    assert torch.float64 not in seen.types
    assert torch.bfloat16 in seen.types
