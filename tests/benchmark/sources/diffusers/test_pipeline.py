"""Diffusers pipelines as sources: the library's own images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shapeshd.benchmark.sources import SourceOptions
from shapeshd.benchmark.sources.latents import sample_seeds
from shapeshd.errors import UsageError
from tests.support.diffusers_pipelines import (
    BATCH,
    PIPELINES,
    STEPS,
    WEIGHTS,
    diffusers,
    few,
    opened,
    unet,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def generators(seed: int, start: int, stop: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(int(s)) for s in sample_seeds(seed, start, stop)]


@pytest.mark.parametrize("case", PIPELINES)
def test_images_are_those_of_the_pipeline_itself(case: str, tmp_path: Path) -> None:
    """However a run is cut, and whatever the global generator of random numbers was at."""
    PIPELINES[case]().save_pretrained(tmp_path / "p")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "p", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    with opened(tmp_path / "p", steps=STEPS) as source:
        assert (source.kind, source.count) == ("diffusers", None)
        state = torch.get_rng_state()
        whole = source.images(0, 6)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(99)
        assert torch.equal(source.images(2, 5), whole[2:5])
        said = source.describe()
    json.dumps(said)
    assert said["steps"] == STEPS and said["trusted"] is False and said["seed"] == 3
    assert said["pipeline"] == type(pipeline).__name__
    assert whole.shape[1] == 3 and len(whole.unique()) > 20
    assert len({image.numpy().tobytes() for image in whole}) == 6
    with opened(tmp_path / "p", steps=STEPS) as another:  # a run that starts elsewhere
        assert torch.equal(another.images(4, 6), whole[4:6])
    if case == "latent DDPM":  # draws from the global generator, which is not ours to compare
        return
    expected = pipeline(
        batch_size=BATCH,
        generator=generators(3, BATCH, 2 * BATCH),
        num_inference_steps=STEPS,
        output_type="np",
    ).images
    wanted = torch.from_numpy(np.floor(expected * 255 + 0.5).astype(np.uint8)).permute(0, 3, 1, 2)
    assert torch.equal(whole[BATCH : 2 * BATCH], wanted)


def test_another_seed_gives_other_images_and_another_batch_the_same(saved: Path) -> None:
    with opened(saved, steps=2) as one, opened(saved, seed=4, steps=2) as other:
        assert not torch.equal(one.images(0, 2), other.images(0, 2))
        with opened(saved, steps=2, batch=5) as longer:
            difference = (one.images(0, 5).int() - longer.images(0, 5).int()).abs()
    assert difference.max() <= 1 and difference.sum() <= 5


def test_steps(saved: Path) -> None:
    with opened(saved) as source:
        assert source.describe()["steps"] == 20  # the pipeline's 1000 are more than it has
    with opened(saved, steps=1) as source:
        one = source.images(0, 1)
    with opened(saved, steps=3) as source:
        assert not torch.equal(source.images(0, 1), one)
    with pytest.raises(UsageError, match="20 steps: steps=21"):
        opened(saved, steps=21)
    with pytest.raises(UsageError, match=r"^steps must be"):
        SourceOptions(steps=0)


def test_a_class_conditional_consistency_model(tmp_path: Path) -> None:
    pipeline = diffusers.ConsistencyModelPipeline(
        unet(num_class_embeds=5), few("CMStochasticIterativeScheduler")
    )
    pipeline.save_pretrained(tmp_path / "p")
    pipeline.set_progress_bar_config(disable=True)
    with opened(tmp_path / "p", labels="1,4") as source:
        images = source.images(0, 6)
        assert source.describe()["classes"] == 5
        assert torch.equal(source.images(4, 5), images[4:5])
    by_class = []
    for label in (1, 4):
        made = pipeline(
            batch_size=6,
            generator=generators(3, 0, 6),
            class_labels=torch.full((6,), label),
            output_type="np",
        ).images
        by_class.append(torch.from_numpy(np.floor(made * 255 + 0.5)).permute(0, 3, 1, 2))
    drawn = [
        [bool((image - x[i]).abs().max() <= 1) for x in by_class] for i, image in enumerate(images)
    ]
    assert all(sum(row) == 1 for row in drawn) and len({row[0] for row in drawn}) == 2
    with pytest.raises(UsageError, match=r"classes.* 0 to 4"):
        opened(tmp_path / "p", labels="5")


def test_older_names_of_the_weights_are_read_and_links_followed(folder: Path) -> None:
    """As in the Hub's cache, whose files are links, and in pipelines of 2022."""
    from safetensors.torch import load_file, save_file

    with opened(folder, steps=2) as source:
        expected = source.images(0, 3)
    tensors = load_file(folder / "unet" / WEIGHTS)
    for new, old in {
        "to_q": "query",
        "to_k": "key",
        "to_v": "value",
        "to_out.0": "proj_attn",
    }.items():
        tensors = {key.replace(f".{new}.", f".{old}."): value for key, value in tensors.items()}
    assert any(".proj_attn." in key for key in tensors)
    save_file(tensors, folder / "blob")
    (folder / "unet" / WEIGHTS).unlink()
    (folder / "unet" / WEIGHTS).symlink_to(folder / "blob")
    with opened(folder, steps=2) as source:
        assert torch.equal(source.images(0, 3), expected)


@pytest.mark.parametrize(
    "how", [{"variant": "fp16"}, {"max_shard_size": "2KB"},
            {"max_shard_size": "2KB", "variant": "fp16"}]
)  # fmt: skip
def test_variants_and_shards_are_read(how: dict[str, str], tmp_path: Path) -> None:
    PIPELINES["DDIM"]().save_pretrained(tmp_path / "whole")
    pipeline = PIPELINES["DDIM"]()
    pipeline.save_pretrained(tmp_path / "other", **how)
    assert not (tmp_path / "other" / "unet" / "diffusion_pytorch_model.safetensors").exists()
    with opened(tmp_path / "whole") as whole, opened(tmp_path / "other") as other:
        assert torch.equal(whole.images(0, 2), other.images(0, 2))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod."])
def test_a_network_that_was_saved_wrapped_is_read(prefix: str, folder: Path) -> None:
    """As `torch.compile(unet).save_pretrained` and training in parallel leave it."""
    from safetensors.torch import load_file, save_file

    with opened(folder, steps=2) as source:
        expected = source.images(0, 2)
    file = folder / "unet" / WEIGHTS
    tensors = {f"{prefix}{name}": tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    with opened(folder, steps=2) as source:
        assert torch.equal(source.images(0, 2), expected)
