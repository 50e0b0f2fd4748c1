"""Networks make their images as on a GPU that is not there: on the device `meta`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from shapeshd.benchmark.metric import DistributionScore
from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.models import ImageFlow, save_generator
from shapeshd.models.networks.config import FlowConfig
from tests.support.network_pickles import saved, tiny_generator, write
from tests.support.rehearsal import rehearsed

FLOW = FlowConfig(size=16, channels=(4, 8), groups=2, attention=8, head=4, steps=2)


def source_of(kind: str, folder: Path) -> str:
    """Write a small network into a folder, and return its path."""
    path = folder / f"net.{'pkl' if kind == 'NVlabs' else 'safetensors'}"
    if kind == "NVlabs":
        write(path, saved(tiny_generator()))
    elif kind == "diffusers":
        from tests.support.diffusers_pipelines import PIPELINES  # skips where diffusers is missing

        path = folder / "ddim"
        PIPELINES["DDIM"]().save_pretrained(path)
    else:
        save_generator(path, ImageFlow(FLOW) if kind == "flow" else tiny_generator(), {})
    return str(path)


@pytest.mark.parametrize("kind", ["ours", "flow", "NVlabs", "diffusers"])
def test_a_batch_of_a_network_is_made_without_a_wait(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source_of(kind, tmp_path)
    steps = 2 if kind == "diffusers" else None
    with rehearsed(monkeypatch) as seen:
        options = SourceOptions(batch=3, steps=steps)
        source: Any = open_source(path, device="meta", options=options)
        seen.waits.clear()  # those of opening it
        images = source._batches._make(3, 6)
    assert len(images) == 3
    assert torch.float64 not in seen.types
    # A pipeline copies its noise and its timesteps there, and the images from there.
    assert set(seen.waits) <= ({"pipeline._make"} if kind == "diffusers" else set())
    if kind != "diffusers":
        assert images.is_meta


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_metric_waits_for_what_was_read_and_for_the_images_that_it_keeps(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = DistributionScore(recognizer="lite", precision=precision, image_check=32)
    metric._form = lambda images: images  # type: ignore[assignment]  # it refuses `meta`
    with rehearsed(monkeypatch) as seen:
        metric.to("meta")
        metric._chosen(64)
        for waits in (2, 1):  # the first batch's images are kept
            seen.waits.clear()
            metric.update(torch.empty(40, 3, 64, 64, dtype=torch.uint8, device="meta"))
            assert seen.waits["recognizer.read"] == 1
            assert sum(seen.waits.values()) == waits, seen.waits
    assert torch.float64 not in seen.types
    assert (torch.bfloat16 in seen.types) is (precision == "bf16")
