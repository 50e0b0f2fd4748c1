"""Makes generators of other people's code.

    python -m tests.experiments.truth.foreign_models NAME OUT [CODE]

Each is built by its authors' own classes with random weights (no weights are downloaded) and
saved as their users save it. CODE is where their code lies: a checkout, or a folder of packages.
Seeds are fixed, so the files are the same each time. Called by `foreign.py`, each in a
process of its own: these repositories call their packages `training` or `dnnlib`.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.torch_version import TorchVersion

SEED = 1
WARM_UP = 10  # batches
C_SAMPLER = Path(__file__).with_name("foreign_sampler.c")


def stylegan2_ada(out: Path, code: Path) -> None:
    """NVlabs' class, a network pickle with the entries that their training writes."""
    channels = {"channel_base": 2048, "channel_max": 64}
    network_pickle(out, code, "training.networks", synthesis_kwargs=channels)


def stylegan3(out: Path, code: Path) -> None:
    """NVlabs' alias-free class, configuration T: small, since its filters are slow on a CPU."""
    # It asks a module that later setuptools lack to compare versions.
    sys.modules.setdefault("pkg_resources", SimpleNamespace(parse_version=TorchVersion))  # type: ignore[arg-type]
    network_pickle(
        out, code, "training.networks_stylegan3",
        resolution=32, channel_base=256, channel_max=8, num_layers=3, num_critical=1,
    )  # fmt: skip


def network_pickle(
    out: Path, code: Path, module: str, resolution: int = 64, **options: Any
) -> None:
    sys.path.insert(0, str(code))
    networks = importlib.import_module(module)
    network = networks.Generator(
        z_dim=64, c_dim=0, w_dim=64, img_resolution=resolution, img_channels=3,
        mapping_kwargs={"num_layers": 2}, **options,
    ).eval().requires_grad_(False)  # fmt: skip
    content = {"G": network, "D": None, "G_ema": network, "augment_pipe": None}
    with out.open("wb") as file:
        pickle.dump({**content, "training_set_kwargs": {}}, file)


def ddpm(out: Path, code: Path | None) -> None:
    """A diffusers pipeline folder: a small U-Net and the linear schedule of 1,000 steps."""
    diffusers = importlib.import_module("diffusers")
    network = diffusers.UNet2DModel(
        sample_size=32, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    diffusers.DDPMPipeline(network, diffusers.DDPMScheduler()).save_pretrained(out)


def lightweight_gan(out: Path, code: Path) -> None:
    """The generator of the package lightweight-gan, traced to TorchScript."""
    sys.path.append(str(code))
    with mock.patch("torch.cuda.is_available", return_value=True):  # else it cannot be imported
        module = importlib.import_module("lightweight_gan.lightweight_gan")
    network = with_statistics(module.Generator(image_size=64, latent_dim=64, fmap_max=16), 64)
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(network, torch.randn(4, 64)), str(out))


def dcgan(out: Path, code: Path) -> None:
    """The generator of PyTorch's example dcgan, with its own initialisation, exported to ONNX.

    The example is a script that trains when it is imported, so only its two definitions run.
    """
    tree = ast.parse((code / "dcgan" / "main.py").read_text(encoding="utf-8"))
    wanted = [node for node in tree.body if getattr(node, "name", "") in _OF_DCGAN]
    place: dict[str, Any] = {"nn": nn, "torch": torch, "nz": 100, "ngf": 16, "nc": 3}
    exec(compile(ast.Module(wanted, []), "dcgan/main.py", "exec"), place)
    network = with_statistics(place["Generator"](0).apply(place["weights_init"]), 100, 1, 1)
    torch.onnx.export(
        network, (torch.randn(2, 100, 1, 1),), str(out), dynamo=False,
        input_names=["latents"], output_names=["images"],
        dynamic_axes={"latents": {0: "n"}, "images": {0: "n"}},
    )  # fmt: skip


_OF_DCGAN = ("Generator", "weights_init")


def with_statistics(network: nn.Module, *shape: int) -> nn.Module:
    """Let the batch norms see some batches, as in training: else all images are grey."""
    with torch.no_grad():
        for _ in range(WARM_UP):
            network(torch.randn(32, *shape))
    return network.eval()


def c_program(out: Path, code: Path | None) -> None:
    """A program in C that draws scenes of flat colour; it links nothing but the C library."""
    subprocess.run(["cc", "-O2", "-o", str(out), str(C_SAMPLER), "-lm"], check=True)


MODELS: dict[str, Callable[[Path, Any], None]] = {
    "stylegan2-ada": stylegan2_ada,
    "stylegan3": stylegan3,
    "ddpm": ddpm,
    "lightweight-gan": lightweight_gan,
    "dcgan": dcgan,
    "c-program": c_program,
}


def main() -> None:
    name, out, *code = sys.argv[1:]
    random.seed(SEED)
    torch.manual_seed(SEED)
    with contextlib.redirect_stdout(sys.stderr):
        MODELS[name](Path(out), Path(code[0]) if code else None)


if __name__ == "__main__":
    main()
