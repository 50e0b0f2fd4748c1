"""Tensors are moved to a device without waiting for it, where that is safe."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from shapeshd.support.device import moved


@pytest.mark.parametrize(
    ("device", "pinned", "asynchronous"),
    [("cuda", True, True), ("cuda:1", True, True), ("xpu", False, True), ("mps", False, False),
     ("cpu", False, False)],
)  # fmt: skip
def test_copies_wait_only_where_they_must(
    device: str, pinned: bool, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked of PyTorch: no such device is here."""
    values, said = torch.arange(3.0, dtype=torch.float64), dict[str, Any]()

    def pin(self: Tensor) -> Tensor:
        said["pinned"] = self.dtype
        return self

    to = Tensor.to

    def put(self: Tensor, place: Any, *, non_blocking: bool = False) -> Tensor:
        if isinstance(place, torch.dtype):
            return to(self, place)
        said.update(place=place, asynchronous=non_blocking)
        return self

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", put)
    made = moved(values, device, torch.float32)
    assert made.dtype == torch.float32  # converted before it is moved: MPS has no float64
    assert said.pop("pinned", None) == (torch.float32 if pinned else None)
    assert said == {"place": torch.device(device), "asynchronous": asynchronous}


def test_a_tensor_stays_what_it_is() -> None:
    values = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    assert moved(values, "cpu") is values
    assert moved(values.half(), "cpu", torch.float32).is_contiguous(
        memory_format=torch.channels_last
    )
