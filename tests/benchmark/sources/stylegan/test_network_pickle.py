"""Network pickles of StyleGAN2: our images of their weights, and what ours is not."""

from __future__ import annotations

import builtins
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.benchmark.sources.stylegan.network_pickle import load_network
from shapeshd.models.networks.generator import Generator
from tests.support.network_pickles import (
    MARKER,
    Saved,
    change,
    refused,
    saved,
    tiny_generator,
    write,
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def no_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whatever could run a pickle fail."""
    for place, name in ((pickle, "load"), (pickle, "loads"), (torch, "load"), (builtins, "eval")):
        monkeypatch.setattr(place, name, lambda *_, **__: pytest.fail("a pickle was loaded"))
    monkeypatch.setattr(pickle, "Unpickler", None)


def levels(images: Tensor) -> Tensor:
    return torch.floor(images.double() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def clamped(ours: Generator, most: float) -> None:
    """Cut activations and colours of `ours` as conv_clamp does."""
    for block in ours.blocks:
        part: Any = block
        for layer in (part.up, part.keep):
            if layer is not None:
                layer.register_forward_hook(lambda *given: given[2].clamp(-most, most))
        part.register_forward_hook(lambda *given: (given[2][0], given[2][1].clamp(-most, most)))


@pytest.mark.parametrize(
    ("noise", "clamp", "protocol"), [(False, None, 4), (True, None, 3), (True, 0.5, 5)]
)
def test_images_are_those_of_the_weights(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    noise: bool,
    clamp: float | None,
    protocol: int,
) -> None:
    ours = tiny_generator(noise)
    path = write(tmp_path / "net.pkl", saved(ours, clamp), protocol)
    z = normal_latents(5, 0, 20, 6)
    with torch.inference_mode():
        plain = ours(z)
        if clamp is not None:
            clamped(ours, clamp)
            assert (ours(z) - plain).abs().max() > 0.5  # else the test shows nothing
        expected = ours(z).clamp(-1, 1)
    before = set(sys.modules)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with monkeypatch.context() as patch:
        no_unpickling(patch)
        network, _ = load_network(path, "net.pkl")
    assert torch.equal(torch.get_rng_state(), state)
    with torch.inference_mode():
        torch.testing.assert_close(network(z), expected, rtol=0, atol=1e-6)
    options = SourceOptions(batch=8)
    with open_source(str(path), seed=5, options=options) as source:
        assert (source.kind, source.count) == ("network-pickle", None)
        apart = source.images(0, 20).int() - levels(expected).int()
        assert apart.abs().max() <= 1 and apart.ne(0).sum() <= 3
        assert torch.equal(source.images(13, 15), source.images(0, 20)[13:15])
        said = source.describe()
    assert (said["latent_dim"], said["noise"]) == (6, "const" if noise else "none")
    assert said["activations_clamped_at"] == clamp
    assert not {name for name in set(sys.modules) - before if "torch_utils" in name}
    assert not (tmp_path / MARKER).exists()


def test_what_else_such_files_hold(tmp_path: Path) -> None:
    """Other dictionaries and scalars, layers channels-last or in half precision, no average."""
    ours = tiny_generator(size=8)
    theirs = saved(ours)
    block: Any = theirs.synthesis.b8
    last = block.conv1.weight.data.to(memory_format=torch.channels_last)
    assert not last.is_contiguous()
    block.conv1.weight.data = last
    exact = block.conv0.bias.data.half()
    block.conv0.bias.data = exact
    theirs.synthesis.block_resolutions = [4, 8]
    theirs.mapping.w_avg = None
    other = Saved("AugmentPipe", {}, xflip=np.float32(1), p=np.int64(2), shape=np.zeros(3))
    path = write(tmp_path / "net.pkl", theirs, augment_pipe=other, stats={"a": (1, 2.5, b"x")})
    network, facts = load_network(path, "net.pkl")
    with torch.no_grad():
        ours.blocks[1].up.bias.copy_(exact)  # type: ignore[union-attr]
        z = normal_latents(0, 0, 4, 6)
        torch.testing.assert_close(network(z), ours(z).clamp(-1, 1), rtol=0, atol=1e-6)
    assert len(facts["source_not_run_sha256"]) == 64


def test_sample_draws_them_too(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "net.pkl", saved(tiny_generator()))
    status, out, err = run("sample", "net.pkl", "sheet.png", "--count", 2, "--device", "cpu")
    assert status == 0, err
    assert "2 images of 16x16" in out and Path("sheet.png").exists()


def parameter(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(shape), requires_grad=False)


VARIANTS: list[tuple[str, str, Any, str]] = [
    ("", "c_dim", 10, "its MappingNetwork lacks 'embed'"),
    ("", "c_dim", -1, "no sensible c_dim"),
    ("mapping", "embed", Saved("FullyConnectedLayer", {}), "its MappingNetwork has 'embed'"),
    ("", "img_channels", 1, "1 channels, not 3"),
    ("", "img_channels", True, "no sensible img_channels"),
    ("", "z_dim", 0, "no sensible z_dim"),
    ("", "img_resolution", 64, "whose blocks are others"),
    ("", "img_resolution", 1, "whose blocks are others"),
    ("", "extra", 3, "its Generator has 'extra'"),
    ("", "discriminator", Saved("D", {}), "its Generator has 'discriminator'"),
    ("", "_saved_as", "SuperresGenerator", "'SuperresGenerator' (StyleGAN-XL)"),
    ("", "_saved_as", "Two\nLines", "class 'Two\\nLines'"),
    ("synthesis", "input", Saved("SynthesisInput", {}), "StyleGAN3 or StyleGAN-XL"),
    ("synthesis.b8", "architecture", "resnet", "architecture 'resnet'"),
    ("synthesis.b8", "architecture", [[]], "architecture list"),
    ("synthesis.b8", "skip", Saved("Conv2dLayer", {}), "its SynthesisBlock has 'skip'"),
    ("synthesis.b8", "resample_filter", torch.ones(2, 2) / 4, "another filter than"),
    ("synthesis.b8.conv0", "resample_filter", torch.ones(4, 4) / 16, "another filter than"),
    ("synthesis.b8.conv0", "activation", "relu", "activation 'relu', not 'lrelu'"),
    ("synthesis.b8.conv0", "padding", 2, "padding 2, not 1"),
    ("synthesis.b8.conv0", "up", float("nan"), "SynthesisLayer has no up"),
    ("synthesis.b8.conv0", "conv_clamp", 2**2000, "SynthesisLayer has no conv_clamp"),
    ("synthesis.b8.conv0", "conv_clamp", -1, "whose conv_clamp is -1"),
    ("synthesis.b8.conv0", "use_noise", False, "noise in some"),
    ("synthesis.b8.conv1", "noise_strength", None, "SynthesisLayer has no noise_strength"),
    ("synthesis.b8.conv1", "affine", None, "its SynthesisLayer lacks 'affine'"),
    ("synthesis.b8.conv1", "weight", parameter(9, 9, 3, 3), "follow no rule"),
    ("synthesis.b8.torgb", "weight_gain", 0.5, "ToRGBLayer has weight_gain 0.5"),
    ("synthesis.b8.torgb.affine", "bias_gain", 0.1, "FullyConnectedLayer has weight_gain"),
    ("mapping", "num_layers", 2**30, "no sensible num_layers"),
    ("mapping", "num_layers", 3, "its MappingNetwork lacks 'fc2'"),
    ("mapping.fc1", "weight", parameter(5, 1, 5), "mapping.layers.1.weight would be"),
]


@pytest.mark.parametrize(
    ("where", "name", "value", "message"), VARIANTS, ids=[case[3][-40:] for case in VARIANTS]
)
def test_variants_that_ours_is_not(
    run: Run, tmp_path: Path, where: str, name: str, value: Any, message: str
) -> None:
    theirs = saved(tiny_generator())
    if name == "_saved_as":
        theirs.__dict__[name] = value
    else:
        change(theirs, where, name, value)
    write(tmp_path / "net.pkl", theirs)
    error = refused(run, 2)
    assert message in error
    assert error.endswith("its authors' code as --code-dir")


def test_hooks_are_code(run: Run, tmp_path: Path) -> None:
    theirs = saved(tiny_generator())
    theirs.mapping._forward_hooks[0] = "a hook"
    write(tmp_path / "net.pkl", theirs)
    assert "MappingNetwork has hooks" in refused(run, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--range", "unit"], "--range and --layout"),
        (["--layout", "nhwc"], "--range and --layout"),
        (["--latent-dim", 9], "6 values, not of 9"),
        (["--key", "G"], "leave out --key"),
        (["--timeout", 5], "leave out --timeout"),
        (["--frame-size", "16x16"], "leave out --frame-size"),
    ],
)
def test_options_that_do_not_fit(
    run: Run, tmp_path: Path, options: list[object], message: str
) -> None:
    write(tmp_path / "net.pickle", saved(tiny_generator()))
    assert message in refused(run, 2, *options, name="net.pickle")


def test_a_file_too_large(run: Run, tmp_path: Path) -> None:
    with (tmp_path / "net.pkl").open("wb") as file:
        file.write(b"\x80")
        file.truncate(5 * 2**30)
    assert "5.0 GiB; at most 4" in refused(run, 2)
