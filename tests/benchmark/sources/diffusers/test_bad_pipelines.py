"""Diffusers pipelines that are refused, and no code but the library's own."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shapeshd.errors import ShapesHDError, UsageError
from tests.support.diffusers_pipelines import (
    WEIGHTS,
    diffusers,
    few,
    opened,
    unet,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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
        "is a StableDiffusionPipeline",
    ),
    "classes (DiT)": (index(_class_name="DiTPipeline"), "is a DiTPipeline"),
    "no pipeline": (index(_class_name="UNet2DModel"), "is a UNet2DModel"),
    "class-conditional": (conditional, "class-conditional.*DDPMPipeline"),
    "no unet": (index(unet="-"), "not say .*unet"),
    "unet of nothing": (index(unet=[None, None]), "has no unet"),
    "other network": (index(unet=["diffusers", "UNet1DModel"]), "UNet1DModel, not a UNet2DM"),
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
        r"described as [\d,]+ numbers",
    ),
    "lies about its layers": (of_unet(layers_per_block=10**9), "2,000,000,000 layers"),
    "lies about its size": (of_unet(sample_size=10**6), "1,000,000,000,000 pixels"),
    "cannot be built": (of_unet(down_block_types=["Nothing2D"]), "cannot be built"),
    "several files": (
        lambda folder: index_of_pickles(folder),
        "unet as one file and as several",
    ),
    "shards elsewhere": (
        lambda folder: shards_of(
            "../vae/diffusion_pytorch_model-00001-of-00001.safetensors", folder
        ),
        "no file of weights beside it",
    ),
    "shard of pickles": (lambda folder: shards_of("part.bin", folder), "no file of weights"),
    "shard that is not there": (
        lambda folder: shards_of("diffusion_pytorch_model-00001-of-00002.safetensors", folder),
        "no file of weights beside it",
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
        "scheduler cannot be made",
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


def shards_of(name: str, folder: Path) -> None:
    """Let an index name another file in place of the weights; a pickle may lie there."""
    (folder / "unet" / WEIGHTS).unlink()
    torch.save({"w": torch.zeros(1)}, folder / "unet" / "part.bin")
    index = {"metadata": {}, "weight_map": {"w": name}}
    (folder / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def index_of_pickles(folder: Path) -> None:
    torch.save({"w": torch.zeros(1)}, folder / "unet" / "part.bin")
    index = {"metadata": {}, "weight_map": {"w": "part.bin"}}
    (folder / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def pickled_weights(folder: Path, marker: Path) -> None:
    (folder / "unet" / WEIGHTS).unlink()
    torch.save({"w": Trap(marker)}, folder / "unet" / "diffusion_pytorch_model.bin")


UNSAFE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "own pipeline": (own_pipeline, "pipeline of code"),
    "own unet": (own_unet, "unet .*module 'own'"),
    "other library": (other_library, "unet .*module 'evil_module'"),
    "own scheduler": (other_scheduler, "scheduler .*module 'own'"),
    "unknown pipeline": (unknown_pipeline, "'Own', .*diffusers"),
    "pickled weights": (pickled_weights, r"unet .*\.bin .*pickle"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_foreign_code_does_not_run_without_trust(
    case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    UNSAFE[case][0](folder, marker)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match=UNSAFE[case][1] + ".*add trust") as caught:
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
        ({"latent_dim": 4}, "leave out latent_dim"),
        ({"range": "symmetric"}, "in .0, 1. .*channels last"),
        ({"key": "x"}, "leave out key"),
        ({"labels": "uniform"}, "pipeline without classes"),
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
        with pytest.raises(ShapesHDError, match=r"3 to 5: .*luck$"):
            source.images(4, 5)


def test_grey_images_are_refused(tmp_path: Path) -> None:
    grey = diffusers.DDPMPipeline(unet(in_channels=1, out_channels=1), few("DDPMScheduler"))
    grey.save_pretrained(tmp_path / "grey")
    with opened(tmp_path / "grey", steps=1) as source, pytest.raises(UsageError, match="1 channel"):
        source.images(0, 1)
