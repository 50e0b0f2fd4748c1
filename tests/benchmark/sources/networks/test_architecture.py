"""Bare tensors of a named architecture: the right network of the right sizes, or one clear line."""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.support.checkpoint import save_checkpoint
from tests.support.network_pickles import saved, tiny_generator

BATCH = 4
Tensors = dict[str, torch.Tensor]


def dcgan(latent: int = 7, widths: tuple[int, ...] = (6, 4), channels: int = 3) -> Tensors:
    """Tensors as the tutorial's generator has them; 16 pixels."""
    torch.manual_seed(0)
    sizes = [latent, *widths, channels]
    tensors: Tensors = {}
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        tensors[f"main.{3 * i}.weight"] = torch.randn(a, b, 4, 4) / math.sqrt(a)
        if i < len(widths):
            norm = f"main.{3 * i + 1}"
            tensors[f"{norm}.weight"] = 1 + torch.rand(b)
            tensors[f"{norm}.bias"] = torch.randn(b) / 3
            tensors[f"{norm}.running_mean"] = torch.randn(b)
            tensors[f"{norm}.running_var"] = 1 + torch.rand(b)
            tensors[f"{norm}.num_batches_tracked"] = torch.tensor(9)
    return tensors


def dcgan_images(tensors: Tensors, z: torch.Tensor) -> torch.Tensor:
    """DCGAN's generator by its definition, in float64, without a module."""
    t = {name: tensor.double() for name, tensor in tensors.items()}
    x = z.double()[:, :, None, None]
    layer = 0
    while f"main.{layer}.weight" in t:
        x = F.conv_transpose2d(
            x, t[f"main.{layer}.weight"], stride=2 if layer else 1, padding=1 if layer else 0
        )
        if f"main.{layer + 1}.weight" in t:
            norm = [t[f"main.{layer + 1}.{name}"][None, :, None, None] for name in (
                "running_mean", "running_var", "weight", "bias")]  # fmt: skip
            x = ((x - norm[0]) / torch.sqrt(norm[1] + 1e-5) * norm[2] + norm[3]).relu()
        layer += 3
    return x.tanh()


def stylegan2(**changes: Any) -> Tensors:
    """Tensors as G_ema.state_dict() of NVlabs' repositories has them; 16 pixels."""
    state = saved(tiny_generator(**changes)).state_dict()
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}


def write(path: Path, tensors: Tensors) -> Path:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
    return path


def opened(path: Path, architecture: str | None, **options: Any) -> Any:
    given = SourceOptions(**{"batch": BATCH, "architecture": architecture, **options})
    return open_source(str(path), seed=3, options=given)


def rounded(images: torch.Tensor) -> torch.Tensor:
    return torch.floor(images.double() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def check_images(source: Any, expected: torch.Tensor) -> None:
    whole = source.images(0, len(expected))
    difference = (whole.int() - expected.int()).abs()
    assert whole.shape == expected.shape and difference.max() <= 1 and difference.sum() <= 5
    assert len(whole.unique()) > 50
    assert torch.equal(source.images(3, 6), whole[3:6])
    json.dumps(source.describe())


@pytest.mark.parametrize(("latent", "widths"), [(7, (6, 4)), (100, (16, 8, 4, 2)), (1, (3,))])
def test_dcgan_of_any_size(latent: int, widths: tuple[int, ...], tmp_path: Path) -> None:
    tensors = dcgan(latent, widths)
    with opened(write(tmp_path / "g.safetensors", tensors), "dcgan") as source:
        expected = rounded(dcgan_images(tensors, normal_latents(3, 0, 9, latent)))
        assert expected.shape[-1] == 2 ** (len(widths) + 2)
        check_images(source, expected)
        said = source.describe()
    assert said["architecture"] == "dcgan" and said["latent_dim"] == latent


@pytest.mark.parametrize(
    "changes",
    [{}, {"noise": False}, {"latent_dim": 9, "mapping_layers": 3}, {"channel_base": 40}],
    ids=str,
)
def test_stylegan2_of_any_size(changes: dict[str, Any], tmp_path: Path) -> None:
    network = tiny_generator(**changes)
    with opened(write(tmp_path / "g.safetensors", stylegan2(**changes)), "stylegan2") as source:
        with torch.inference_mode():
            expected = rounded(network(normal_latents(3, 0, 9, network.latent_dim)).clamp(-1, 1))
        check_images(source, expected)
        said = source.describe()
    assert said["noise"] == ("none" if changes.get("noise") is False else "const")
    assert said["size"] == 16 and source.kind == "safetensors"


def test_stylegan2_in_half_precision(tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in stylegan2().items()}
    network = tiny_generator()
    with opened(write(tmp_path / "g.safetensors", half), "stylegan2") as source:
        with torch.inference_mode():
            expected = network(normal_latents(3, 0, 4, network.latent_dim)).clamp(-1, 1)
        assert (source.images(0, 4).int() - rounded(expected).int()).abs().max() < 8


# --- what is refused ---------------------------------------------------------------------------


def without(tensors: Tensors, name: str) -> Tensors:
    return {key: tensor for key, tensor in tensors.items() if key != name}


def replaced(tensors: Tensors, name: str, tensor: torch.Tensor) -> Tensors:
    assert name in tensors
    return {**tensors, name: tensor}


CONV = "synthesis.b8.conv0"
BAD: dict[str, tuple[str, Callable[[], Tensors], str]] = {
    "unknown": ("biggan", dcgan, "architecture 'biggan' .*stylegan2 or dcgan"),
    "unnamed": ("", dcgan, "no architecture ''"),
    "the other": ("stylegan2", dcgan, "no state_dict of NVlabs'"),
    "the other way": ("dcgan", stylegan2, r"lacks the tensor main\.0\.weight"),
    "nothing": ("dcgan", dict, r"lacks the tensor main\.0\.weight"),
    "dcgan: lacks": (
        "dcgan", lambda: without(dcgan(), "main.1.bias"), r"lacks the tensor main\.1\.bias"),
    "dcgan: lacks the end": (
        "dcgan", lambda: without(dcgan(), "main.6.weight"), r"holds the tensor 'main\.4\.bias'"),
    "dcgan: too many": (
        "dcgan", lambda: {**dcgan(), "main.9.bias": torch.zeros(1)}, "the tensor 'main.9.bias'"),
    "dcgan: kernel": (
        "dcgan", lambda: replaced(dcgan(), "main.3.weight", torch.zeros(6, 4, 5, 5)),
        r"main\.3\.weight .*\(6, 4, 5, 5\), not \(6, any, 4, 4\)"),
    "dcgan: widths": (
        "dcgan", lambda: replaced(dcgan(), "main.3.weight", torch.zeros(5, 4, 4, 4)),
        r"\(5, 4, 4, 4\), not \(6, any, 4, 4\)"),
    "dcgan: empty": (
        "dcgan", lambda: replaced(dcgan(), "main.1.bias", torch.zeros(0)), "holds nothing in"),
    "dcgan: whole numbers": (
        "dcgan", lambda: replaced(dcgan(), "main.1.bias", torch.zeros(6, dtype=torch.int32)),
        "holds no floats in"),
    "dcgan: grey": ("dcgan", lambda: dcgan(channels=1), "1 channels, not 3"),
    "dcgan: no layers": (
        "dcgan", lambda: {"main.0.weight": torch.zeros(3, 3, 4, 4)}, "of 1 layers"),
    "dcgan: endless": (
        "dcgan", lambda: {f"main.{3 * i}.weight": torch.zeros(1, 1, 4, 4) for i in range(20)},
        "more than 11 layers"),
    "stylegan2: lacks": (
        "stylegan2", lambda: without(stylegan2(), f"{CONV}.affine.bias"), "lacks the tensor"),
    "stylegan2: lacks a block": (
        "stylegan2",
        lambda: {n: t for n, t in stylegan2().items() if "b8" not in n},
        "whose blocks are others"),
    "stylegan2: too many": (
        "stylegan2", lambda: {**stylegan2(), "synthesis.b8.skip.weight": torch.zeros(9, 9, 1, 1)},
        r"holds the tensor 'synthesis\.b8\.skip\.weight'"),
    "stylegan2: discriminator": (
        "stylegan2", lambda: {"b16.fromrgb.weight": torch.zeros(9, 3, 1, 1)}, "is no state_dict"),
    "stylegan2: shape": (
        "stylegan2", lambda: replaced(stylegan2(), f"{CONV}.weight", torch.zeros(4, 4, 5, 5)),
        r"not \(any, any, 3, 3\)"),
    "stylegan2: widths": (
        "stylegan2",
        lambda: replaced(replaced(replaced(
            stylegan2(), f"{CONV}.weight", torch.zeros(10, 9, 3, 3)),
            f"{CONV}.affine.weight", torch.zeros(9, 5)), f"{CONV}.affine.bias", torch.zeros(9)),
        "where ours is"),
    "stylegan2: filter": (
        "stylegan2", lambda: replaced(stylegan2(), f"{CONV}.resample_filter", torch.eye(4)),
        "with another filter"),
    "stylegan2: noise in some": (
        "stylegan2",
        lambda: without(without(stylegan2(), f"{CONV}.noise_strength"), f"{CONV}.noise_const"),
        "noise in some"),
    "stylegan2: grey": (
        "stylegan2", lambda: replaced(stylegan2(), "synthesis.b4.torgb.bias", torch.zeros(1)),
        r"\(1,\), not \(3\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_other_tensors_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    architecture, tensors, message = BAD[case]
    path = write(tmp_path / "g.safetensors", tensors())
    with pytest.raises(UsageError, match=message) as caught:
        opened(path, architecture)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"hello", struct.pack("<Q", 2**62) + b"{}", b"\x80\x04K\x01.", struct.pack("<Q", 2) + b"[]"],
    ids=["text", "huge header", "pickle", "no object"],
)
def test_damaged_files(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    path.write_bytes(data)
    with pytest.raises(ShapesHDError, match="no safetensors file") as caught:
        opened(path, "dcgan")
    assert "\n" not in str(caught.value)


def test_cut_file(tmp_path: Path) -> None:
    path = write(tmp_path / "g.safetensors", dcgan())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ShapesHDError, match="no safetensors file"):
        opened(path, "dcgan")


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "g.safetensors", dcgan())
    for options, message in (
        ({"latent_dim": 8}, "7 values, not of 8"),
        ({"range": "unit"}, "dcgan .*in .-1, 1."),
        ({"steps": 3}, "leave out steps"),
        ({"labels": "uniform"}, "network without classes"),
    ):
        with pytest.raises(UsageError, match=message):
            opened(path, "dcgan", **options)
    with pytest.raises(UsageError, match="no card of shapeshd"):
        opened(path, None)
    save_checkpoint(path, "generator", dcgan(), {})
    with pytest.raises(UsageError, match="card of shapeshd"):
        opened(path, "dcgan")


def test_it_means_nothing_to_images(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(UsageError, match="leave out architecture"):
        opened(tmp_path / "x", "dcgan")


def test_the_command_line_says_it_in_one_line(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = write(tmp_path / "g.safetensors", dcgan())
    out = ("--out", tmp_path / "out", "--device", "cpu")
    for options, message in (
        (["--architecture", "biggan"], "no architecture 'biggan'"),
        (["--architecture", "dcgan", "--steps", 3], "leave out --steps"),
        (["--architecture", "stylegan2"], "no state_dict of NVlabs'"),
        (["--steps", 0], "--steps must be at least"),
    ):
        status, said, errors = run("score", path, *options, *out)
        assert (status, said) == (2, "")
        assert message in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "generator.", "module._orig_mod."])
@pytest.mark.parametrize(("architecture", "make"), [("dcgan", dcgan), ("stylegan2", stylegan2)])
def test_a_prefix_that_all_names_share_is_taken_off(
    prefix: str, architecture: str, make: Callable[[], Tensors], tmp_path: Path
) -> None:
    plain = opened(write(tmp_path / "a.safetensors", make()), architecture)
    tensors = {f"{prefix}{name}": tensor for name, tensor in make().items()}
    with plain, opened(write(tmp_path / "b.safetensors", tensors), architecture) as source:
        assert torch.equal(source.images(0, BATCH), plain.images(0, BATCH))
        assert source.describe()["prefix"] == prefix
        assert "prefix" not in plain.describe()


@pytest.mark.parametrize("name", ["g.pt", "g.PTH", "g.safetensors"])
def test_a_state_dict_is_read_as_the_same_tensors(name: str, tmp_path: Path) -> None:
    """As the tutorial saves it: torch.save(netG.state_dict(), "netG.pth")."""
    path = tmp_path / name
    wrapped = {f"module.{key}": tensor for key, tensor in dcgan().items()}
    save_file(wrapped, path) if name.endswith("safetensors") else torch.save(wrapped, path)
    with opened(path, "dcgan") as source:
        expected = rounded(dcgan_images(dcgan(), normal_latents(3, 0, 9, 7)))
        check_images(source, expected)
        assert source.describe()["prefix"] == "module."


def test_a_script_is_told_to_say_itself_what_it_is(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "g.pt")
    with pytest.raises(UsageError, match=r"g\.pt: is TorchScript.*architecture"):
        opened(tmp_path / "g.pt", "dcgan")
    torch.save(dcgan(), tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"w\.pt: holds pickled weights.*architecture"):
        opened(tmp_path / "w.pt", None)
