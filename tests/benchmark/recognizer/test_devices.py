"""The recognizer as on a GPU that is not there: on the device `meta`, and its waits counted."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from shapeshd.benchmark.recognizer.network import RecognitionNetwork
from shapeshd.benchmark.recognizer.recognizer import decode_reading
from tests.support.tiny_training import TINY


class Seen(TorchDispatchMode):
    """Counts what makes a processor wait for a GPU, and notes the types of all tensors made."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if any(one in name for one in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal.")):
            self.waits[name] += 1
        made = func(*args, **(kwargs or {}))
        found = made if isinstance(made, (list, tuple)) else [made]
        self.types |= {one.dtype for one in found if isinstance(one, torch.Tensor)}
        return made


@pytest.mark.parametrize("stem", [16, 0])
@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_reading_stays_on_its_device_and_never_waits(
    monkeypatch: pytest.MonkeyPatch, size: int, stem: int, precision: str
) -> None:
    """A tensor left on the CPU raises; MPS has no float64."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no `meta`
    network = RecognitionNetwork(replace(TINY, size=size, stem=stem)).eval()
    network = network.in_bf16() if precision == "bf16" else network
    network = network.to("meta")
    images = torch.empty(6, 3, size, size, dtype=torch.uint8, device="meta")
    with torch.inference_mode(), Seen() as seen:
        reading = network(images)
        features = network.features(images)
    assert {part.device.type for part in (*reading, features)} == {"meta"}
    assert [tuple(part.shape) for part in reading] == [(6, 3, 2), (6,), (6,), (6, 4)]
    assert not seen.waits
    assert torch.float64 not in seen.types
    assert (torch.bfloat16 in seen.types) is (precision == "bf16")


def test_a_hidden_wait_and_float64_are_seen() -> None:
    with Seen() as seen:
        float(torch.ones(2).sum())
        torch.ones(1, dtype=torch.float64) + 1
    assert sum(seen.waits.values()) == 1
    assert torch.float64 in seen.types


def test_factors_are_decoded_without_a_wait() -> None:
    network = RecognitionNetwork(TINY).eval()
    with torch.inference_mode(), Seen() as seen:
        decode_reading(network(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)))
    assert not seen.waits
