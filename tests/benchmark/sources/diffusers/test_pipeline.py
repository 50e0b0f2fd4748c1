"""Diffusers pipelines as sources: the library's own images, and no code but the library's own."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.latents import sample_seeds
from shapeshd.errors import ShapesHDError, UsageError

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, BATCH, STEPS = 8, 3, 3
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def unet(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = {
        "sample_size": SIZE,
        "layers_per_block": 1,
        "block_out_channels": (4, 8),
        "norm_num_groups": 2,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
    }
    return diffusers.UNet2DModel(**{**config, **changes})


def vqvae() -> Any:
    torch.manual_seed(1)
    return diffusers.VQModel(
        block_out_channels=(4,), norm_num_groups=2, latent_channels=3, num_vq_embeddings=16
    )


def few(kind: str, **more: Any) -> Any:
    return getattr(diffusers, kind)(num_train_timesteps=20, **more)


PIPELINES: dict[str, Callable[[], Any]] = {
    "DDPM": lambda: diffusers.DDPMPipeline(unet(), few("DDPMScheduler")),
    "DDPM with DDIM": lambda: diffusers.DDPMPipeline(unet(), few("DDIMScheduler")),
    "DDIM": lambda: diffusers.DDIMPipeline(unet(), few("DDIMScheduler")),
    "PNDM": lambda: diffusers.PNDMPipeline(unet(), few("PNDMScheduler", skip_prk_steps=True)),
    "score SDE": lambda: diffusers.ScoreSdeVePipeline(
        unet(time_embedding_type="fourier"), few("ScoreSdeVeScheduler", sigma_max=1.0)
    ),
    "consistency": lambda: diffusers.ConsistencyModelPipeline(
        unet(), few("CMStochasticIterativeScheduler")
    ),
    "latent diffusion": lambda: diffusers.LDMPipeline(vqvae(), unet(), few("DDIMScheduler")),
    "latent DDPM": lambda: diffusers.LDMPipeline(vqvae(), unet(), few("DDPMScheduler")),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DDPM pipeline; tests must not change it."""
    folder = tmp_path_factory.mktemp("diffusers") / "ddpm"
    PIPELINES["DDPM"]().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(saved, tmp_path / "ddpm")


def opened(folder: Path, seed: int = 3, trust: bool = False, **options: Any) -> Any:
    return open_source(
        str(folder), seed=seed, trust=trust, options=SourceOptions(**{"batch": BATCH, **options})
    )


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
    with pytest.raises(UsageError, match="its scheduler has 20 steps: steps=21 is too many"):
        opened(saved, steps=21)
    with pytest.raises(UsageError, match="steps must be at least 1"):
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
    with pytest.raises(UsageError, match="has 5 classes, numbered 0 to 4"):
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


# --- what is refused ---------------------------------------------------------------------------


def edit(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text())
    values.update(changes)
    path.write_text(json.dumps({key: value for key, value in values.items() if value != "-"}))


def index(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "model_index.json", **changes)


def of_unet(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "unet" / "config.json", **changes)


def change_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "unet" / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / "unet" / WEIGHTS)

    return spoil


def write(name: str, data: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(data)


def conditional(folder: Path) -> None:
    diffusers.DDPMPipeline(unet(num_class_embeds=5), few("DDPMScheduler")).save_pretrained(folder)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no JSON": (write("model_index.json", b"{"), r"model_index\.json is no JSON"),
    "deep JSON": (write("model_index.json", b"[" * 200_000), "is no JSON"),
    "no object": (write("model_index.json", b"[]"), "holds no object"),
    "huge JSON": (write("model_index.json", b" " * (2**20 + 1)), "larger than 1 MiB"),
    "no class": (index(_class_name="-"), r"names no pipeline"),
    "a text to an image": (
        index(_class_name="StableDiffusionPipeline"),
        "is a StableDiffusionPipeline, which makes no images of noise alone",
    ),
    "classes (DiT)": (index(_class_name="DiTPipeline"), "is a DiTPipeline, which makes no"),
    "no pipeline": (index(_class_name="UNet2DModel"), "is a UNet2DModel, which makes no"),
    "class-conditional": (conditional, "is class-conditional, but its DDPMPipeline takes no"),
    "no unet": (index(unet="-"), "does not say what its unet is"),
    "unet of nothing": (index(unet=[None, None]), "has no unet"),
    "other network": (index(unet=["diffusers", "UNet1DModel"]), "is a UNet1DModel, not a UNet2DM"),
    "no folder": (lambda folder: shutil.rmtree(folder / "unet"), "lacks the folder unet"),
    "no weights": (lambda folder: (folder / "unet" / WEIGHTS).unlink(), f"has no unet/{WEIGHTS}"),
    "no config": (lambda folder: (folder / "unet" / "config.json").unlink(), "cannot be read"),
    "no tensors": (write(f"unet/{WEIGHTS}", b"hello"), "is no safetensors file"),
    "huge header": (
        write(f"unet/{WEIGHTS}", struct.pack("<Q", 2**60) + b"{}"),
        "is no safetensors file",
    ),
    "a pickle by another name": (
        lambda folder: torch.save({"w": torch.zeros(9)}, folder / "unet" / WEIGHTS),
        "is no safetensors file",
    ),
    "cut weights": (
        lambda folder: write(f"unet/{WEIGHTS}", (folder / "unet" / WEIGHTS).read_bytes()[:-9])(
            folder
        ),
        "is no safetensors file",
    ),
    "tensor missing": (change_tensors(lambda t: t.pop("conv_in.bias")), "lacks the tensor 'conv_i"),
    "tensor too many": (
        change_tensors(lambda t: t.update(extra=torch.zeros(3))),
        "has the tensor 'extra'",
    ),
    "tensor of another shape": (
        change_tensors(lambda t: t.update({"conv_in.bias": torch.zeros(9)})),
        "cannot be loaded",
    ),
    "lies about its width": (
        of_unet(block_out_channels=[4096, 8192]),
        r"described as [\d,]+ numbers, but its file holds",
    ),
    "lies about its layers": (of_unet(layers_per_block=10**9), "says it has 2,000,000,000 layers"),
    "lies about its size": (of_unet(sample_size=10**6), "says it has 1,000,000,000,000 pixels"),
    "cannot be built": (of_unet(down_block_types=["Nothing2D"]), "cannot be built"),
    "several files": (
        lambda folder: index_of_pickles(folder),
        "its unet is spread over several files",
    ),
    "quantized": (of_unet(quantization_config={"quant_method": "gguf"}), "is quantized"),
    "endless schedule": (
        lambda folder: edit(
            folder / "scheduler" / "scheduler_config.json", num_train_timesteps=10**12
        ),
        "num_train_timesteps",
    ),
    "scheduler of nonsense": (
        lambda folder: edit(
            folder / "scheduler" / "scheduler_config.json", beta_schedule="nothing"
        ),
        "its scheduler cannot be made",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_are_refused_in_one_line(case: str, folder: Path) -> None:
    BAD[case][0](folder)
    with pytest.raises(ShapesHDError, match=BAD[case][1]) as caught:
        opened(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}: ") and "\n" not in message


CODE = """
from pathlib import Path
Path({marker!r}).touch()
from diffusers import DDPMPipeline, UNet2DModel
class Own(DDPMPipeline):
    pass
class OwnUNet(UNet2DModel):
    pass
"""


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def own_pipeline(folder: Path, marker: Path) -> None:
    (folder / "own.py").write_text(CODE.format(marker=str(marker)))
    edit(folder / "model_index.json", _class_name=["own", "Own"])


def own_unet(folder: Path, marker: Path) -> None:
    (folder / "unet" / "own.py").write_text(CODE.format(marker=str(marker)))
    edit(folder / "model_index.json", unet=["own", "OwnUNet"])
    edit(folder / "unet" / "config.json", _class_name="OwnUNet")


def other_library(folder: Path, marker: Path) -> None:
    (folder.parent / "evil_module.py").write_text(CODE.format(marker=str(marker)))
    edit(folder / "model_index.json", unet=["evil_module", "OwnUNet"])


def other_scheduler(folder: Path, marker: Path) -> None:
    (folder / "scheduler" / "own.py").write_text(CODE.format(marker=str(marker)))
    edit(folder / "model_index.json", scheduler=["own", "Own"])


def unknown_pipeline(folder: Path, marker: Path) -> None:
    (folder / "pipeline.py").write_text(CODE.format(marker=str(marker)))
    edit(folder / "model_index.json", _class_name="Own")


def index_of_pickles(folder: Path) -> None:
    torch.save({"w": torch.zeros(1)}, folder / "unet" / "part.bin")
    index = {"metadata": {}, "weight_map": {"w": "part.bin"}}
    (folder / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def pickled_weights(folder: Path, marker: Path) -> None:
    (folder / "unet" / WEIGHTS).unlink()
    torch.save({"w": Trap(marker)}, folder / "unet" / "diffusion_pytorch_model.bin")


UNSAFE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "own pipeline": (own_pipeline, "is a pipeline of code of its own"),
    "own unet": (own_unet, "has a unet of the module 'own', not of diffusers"),
    "other library": (other_library, "has a unet of the module 'evil_module'"),
    "own scheduler": (other_scheduler, "has a scheduler of the module 'own'"),
    "unknown pipeline": (unknown_pipeline, "'Own', which the installed diffusers does not have"),
    "pickled weights": (pickled_weights, r"has its unet in a \.bin file alone, a pickle"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_foreign_code_does_not_run_without_trust(
    case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    UNSAFE[case][0](folder, marker)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match=UNSAFE[case][1] + ".*: add trust if") as caught:
        opened(folder)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("case", ["own pipeline", "own unet"])
def test_trusted_code_runs_and_gives_the_same_images(
    case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It proves that the markers above would have been made."""
    from diffusers.utils import dynamic_modules_utils

    with opened(folder, steps=2) as source:
        expected = source.images(0, 3)
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    UNSAFE[case][0](folder, tmp_path / "marker")
    with opened(folder, trust=True, steps=2, range="unit") as source:
        assert torch.equal(source.images(0, 3), expected)
        assert source.describe()["trusted"] is True
    assert (tmp_path / "marker").exists()


def test_trusted_code_that_exits_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    UNSAFE["own pipeline"][0](folder, tmp_path / "marker")
    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", lambda *_, **__: sys.exit())
    with pytest.raises(ShapesHDError, match=r"cannot be loaded \(SystemExit\)"):
        opened(folder, trust=True)


def test_trusted_weights_of_a_pickle_are_still_no_code(folder: Path, tmp_path: Path) -> None:
    """`torch.load` of today takes tensors alone; good weights are read, a trap is refused."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "unet" / WEIGHTS)
    with opened(folder, steps=2) as source:
        expected = source.images(0, 3)
    pickled_weights(folder, tmp_path / "marker")
    with pytest.raises(ShapesHDError, match="cannot be loaded"):
        opened(folder, trust=True)
    assert not (tmp_path / "marker").exists()
    torch.save(tensors, folder / "unet" / "diffusion_pytorch_model.bin")
    with opened(folder, trust=True, steps=2) as source:
        assert torch.equal(source.images(0, 3), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 4}, "which takes no latents: leave out latent_dim"),
        ({"range": "symmetric"}, "images are in .0, 1. and channels last"),
        ({"key": "x"}, "leave out key"),
        ({"labels": "uniform"}, "is a pipeline without classes"),
    ],
    ids=str,
)
def test_options_that_mean_nothing(saved: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        opened(saved, **options)


def test_a_network_that_fails_says_so_in_one_line(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of\nluck")

    with opened(saved, steps=2) as source:
        monkeypatch.setattr(diffusers.UNet2DModel, "forward", fail)
        with pytest.raises(ShapesHDError, match=r"failed on the samples 3 to 5: .*out of luck$"):
            source.images(4, 5)


def test_grey_images_are_refused(tmp_path: Path) -> None:
    grey = diffusers.DDPMPipeline(unet(in_channels=1, out_channels=1), few("DDPMScheduler"))
    grey.save_pretrained(tmp_path / "grey")
    with opened(tmp_path / "grey", steps=1) as source, pytest.raises(UsageError, match="1 channel"):
        source.images(0, 1)
