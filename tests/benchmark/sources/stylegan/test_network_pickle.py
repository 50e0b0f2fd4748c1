"""Network pickles of StyleGAN2: our images of their weights, and nothing in the file ever runs."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.benchmark.sources.stylegan import pickle_data
from shapeshd.benchmark.sources.stylegan.network_pickle import load_network
from shapeshd.errors import ShapesHDError
from shapeshd.models.networks.generator import Generator
from tests.support.network_pickles import (
    MARKER,
    Call,
    Saved,
    saved,
    storage_file,
    tiny_generator,
    write,
)

Run = Callable[..., tuple[int, str, str]]
rebuild_tensor = torch._utils._rebuild_tensor_v2
load_from_bytes = torch.storage._load_from_bytes


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


def change(theirs: Saved, where: str, name: str, value: Any) -> Saved:
    module = theirs.get_submodule(where) if where else theirs
    setattr(module, name, value)
    return theirs


def parameter(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(shape), requires_grad=False)


VARIANTS: list[tuple[str, str, Any, str]] = [
    ("", "c_dim", 10, "its MappingNetwork lacks 'embed'"),
    ("", "c_dim", -1, "Generator has no sensible c_dim"),
    ("mapping", "embed", Saved("FullyConnectedLayer", {}), "its MappingNetwork has 'embed'"),
    ("", "img_channels", 1, "images of 1 channels, not 3"),
    ("", "img_channels", True, "Generator has no sensible img_channels"),
    ("", "z_dim", 0, "Generator has no sensible z_dim"),
    ("", "img_resolution", 64, "whose blocks are others"),
    ("", "img_resolution", 1, "whose blocks are others"),
    ("", "extra", 3, "of other code than NVlabs': its Generator has 'extra'"),
    ("", "discriminator", Saved("D", {}), "its Generator has 'discriminator'"),
    ("", "_saved_as", "SuperresGenerator", "'SuperresGenerator' (StyleGAN-XL)"),
    ("", "_saved_as", "Two\nLines", "class 'Two\\nLines', not of StyleGAN2's"),
    ("synthesis", "input", Saved("SynthesisInput", {}), "StyleGAN3 or StyleGAN-XL"),
    ("synthesis.b8", "architecture", "resnet", "architecture 'resnet'; ours is 'skip' alone"),
    ("synthesis.b8", "architecture", [[]], "architecture list"),
    ("synthesis.b8", "skip", Saved("Conv2dLayer", {}), "its SynthesisBlock has 'skip'"),
    ("synthesis.b8", "resample_filter", torch.ones(2, 2) / 4, "another filter than"),
    ("synthesis.b8.conv0", "resample_filter", torch.ones(4, 4) / 16, "another filter than"),
    ("synthesis.b8.conv0", "activation", "relu", "the activation 'relu', not 'lrelu'"),
    ("synthesis.b8.conv0", "padding", 2, "SynthesisLayer has padding 2, not 1"),
    ("synthesis.b8.conv0", "up", float("nan"), "SynthesisLayer has no up"),
    ("synthesis.b8.conv0", "conv_clamp", 2**2000, "SynthesisLayer has no conv_clamp"),
    ("synthesis.b8.conv0", "conv_clamp", -1, "whose conv_clamp is -1"),
    ("synthesis.b8.conv0", "use_noise", False, "noise in some of its layers alone"),
    ("synthesis.b8.conv1", "noise_strength", None, "SynthesisLayer has no noise_strength"),
    ("synthesis.b8.conv1", "affine", None, "its SynthesisLayer lacks 'affine'"),
    ("synthesis.b8.conv1", "weight", parameter(9, 9, 3, 3), "follow no rule of ours"),
    ("synthesis.b8.torgb", "weight_gain", 0.5, "ToRGBLayer has weight_gain 0.5, not"),
    ("synthesis.b8.torgb.affine", "bias_gain", 0.1, "FullyConnectedLayer has weight_gain"),
    ("mapping", "num_layers", 2**30, "MappingNetwork has no sensible num_layers"),
    ("mapping", "num_layers", 3, "its MappingNetwork lacks 'fc2'"),
    ("mapping.fc1", "weight", parameter(5, 1, 5), "mapping.layers.1.weight would be (5, 1, 5)"),
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
    assert "MappingNetwork has hooks, code of its own" in refused(run, 2)


def refused(run: Run, status: int, *options: object, name: str = "net.pkl") -> str:
    """Return the one line in which `shapeshd score` refuses the file."""
    base = ["score", name, "--samples", 6000, "--device", "cpu", *options]
    found, out, err = run(*base)
    lines = err.splitlines()
    assert (found, out, len(lines)) == (status, "", 1), err
    assert lines[0].startswith(f"shapeshd: error: {name}: ") and "internal" not in lines[0]
    assert lines[0].isprintable()
    assert not Path(MARKER).exists()
    return lines[0]


def touch() -> Call:
    """What would leave a mark on the disk if it ran."""
    return Call(os.system, f"touch {MARKER}")


def tensor(blob: bytes, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Call:
    return Call(rebuild_tensor, Call(load_from_bytes, blob), offset, size, stride, False, {})


def with_weight(value: Any) -> Saved:
    """Return a generator with something else for the bias of a layer of 10 channels."""
    theirs = saved(tiny_generator())
    theirs.synthesis.b4.conv1._parameters["bias"] = value
    return theirs


def deep(depth: int) -> bytes:
    return b"\x80\x04)" + b"\x85" * depth


def torch_file(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


ATTACKS: dict[str, tuple[Callable[[], Any], int, str]] = {
    "os.system": (lambda: pickle.dumps(touch()), 2, "asks for 'posix.system'"),
    "eval": (
        lambda: pickle.dumps(Call(eval, f"open({MARKER!r}, 'w')")),
        2,
        "asks for 'builtins.eval'",
    ),
    "getattr": (lambda: pickle.dumps(Call(getattr, 1, "real")), 2, "asks for 'builtins.getattr'"),
    "beside the generator": (lambda: {"D": touch()}, 2, "asks for 'posix.system'"),
    "in the state": (
        lambda: change(saved(tiny_generator()), "mapping.fc0", "activation", touch()),
        2,
        "asks for 'posix.system'",
    ),
    "in the storage": (
        lambda: with_weight(tensor(storage_file(touch()), (10,), (1,))),
        2,
        "asks for 'posix.system'",
    ),
    "in a storage in a storage": (
        lambda: with_weight(tensor(storage_file(Call(load_from_bytes, b"")), (10,), (1,))),
        2,
        "asks for 'torch.storage._load_from_bytes'",
    ),
    "a zip for a storage": (
        lambda: with_weight(tensor(torch_file(torch.zeros(10)), (10,), (1,))),
        1,
        "is cut off or damaged",
    ),
    "names with lines": (
        lambda: b"\x80\x04\x8c\x02a\n\x8c\x02b\n\x93.",
        2,
        "asks for 'a\\n.b\\n'",
    ),
    "sets a state on a name": (
        lambda: b"\x80\x04ccollections\nOrderedDict\n}b.",
        1,
        "sets the state of Name",
    ),
    "calls a call": (lambda: b"\x80\x04])R.", 1, "it calls what is no name"),
    "persistent id": (lambda: b"\x80\x04NQ.", 1, "outside of it (a persistent id)"),
    "extension": (lambda: b"\x80\x04\x82\x01.", 1, "the instruction EXT1"),
    "old instance": (lambda: b"\x80\x02(ios\nsystem\n.", 1, "the instruction INST"),
    "memo of 34 GB": (lambda: b"\x80\x04Nr\xff\xff\xff\x7f.", 2, "no network pickle"),
    "string of 4 GB": (lambda: b"\x80\x04B\xff\xff\xff\xff.", 1, "is cut off or damaged"),
    "string of 2^62": (
        lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
        1,
        "is cut off or damaged",
    ),
    "frame of 2^62": (
        lambda: b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
        2,
        "no network pickle",
    ),
    "nested tuples": (lambda: deep(50_000) + b".", 2, "no network pickle"),
    "nested tuples as a key": (
        lambda: b"\x80\x04}" + deep(50_000)[2:] + b"Ns.",
        1,
        "has tuple for a key",
    ),
    "list in itself": (lambda: b"\x80\x04]\x94h\x00a.", 2, "no network pickle"),
    "too many instructions": (
        lambda: b"\x80\x04" + b"N0" * 30_100 + b"N.",
        1,
        "more than 60,000 instructions",
    ),
    "empty stack": (lambda: b"\x80\x040.", 1, "takes from an empty stack"),
    "no mark": (lambda: b"\x80\x04t.", 1, "there is no mark"),
    "unknown memo": (lambda: b"\x80\x04h\x05.", 1, "is cut off or damaged"),
    "two values": (lambda: b"\x80\x04NN.", 1, "is cut off or damaged"),
    "bytes behind": (lambda: b"\x80\x04}.more", 1, "4 bytes behind its end"),
    "no pickle": (lambda: b"pickled cucumbers", 2, "is no pickle of protocol 2 or later"),
    "a dictionary": (lambda: pickle.dumps({"a": 1}), 2, "is a pickle, but no network pickle"),
    "TensorFlow's": (
        lambda: b"\x80\x03cdnnlib.tflib.network\nNetwork\n)\x81.",
        2,
        "StyleGAN's TensorFlow code",
    ),
    "tensor of 1 TB": (
        lambda: with_weight(tensor(storage_file(None), (2**38,), (0,))),
        2,
        "would be (274877906944,)",
    ),
    "tensor beyond its storage": (
        lambda: with_weight(tensor(storage_file(None), (10,), (1,))),
        1,
        "a tensor (10,) in a storage of 4 numbers",
    ),
    "tensor of one number": (
        lambda: with_weight(tensor(storage_file(None), (10,), (0,))),
        1,
        "a tensor (10,) in a storage of 4 numbers",
    ),
    "tensor of strides": (
        lambda: with_weight(tensor(storage_file(None, b"\0" * 80, 20), (10,), (2,))),
        1,
        "a tensor (10,) of strides (2,)",
    ),
    "tensor before its storage": (
        lambda: with_weight(tensor(storage_file(None), (10,), (1,), -4)),
        1,
        "of an impossible shape",
    ),
    "storage of 2^40": (
        lambda: with_weight(tensor(storage_file(None, count=2**40), (10,), (1,))),
        1,
        "not as long as its 1,099,511,627,776 numbers",
    ),
    "storage of -1": (
        lambda: with_weight(tensor(storage_file(None, count=-1), (10,), (1,))),
        1,
        "not as long as its -1 numbers",
    ),
    "storage of text": (
        lambda: with_weight(tensor(storage_file("text"), (10,), (1,))),
        1,
        "a storage that is not exactly one",
    ),
}


@pytest.mark.parametrize(("made", "status", "message"), ATTACKS.values(), ids=ATTACKS)
def test_attacks(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: Callable[[], Any],
    status: int,
    message: str,
) -> None:
    monkeypatch.setattr(pickle_data, "MOST_INSTRUCTIONS", 60_000)  # of 2,000,000: it takes less
    content, path = made(), tmp_path / "net.pkl"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        write(path, saved(tiny_generator()), **content)
    else:
        write(path, content)
    tracemalloc.start()
    try:
        with pytest.raises(ShapesHDError):
            load_network(path, "net.pkl")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 * 2**20
    assert message in refused(run, status)


def test_a_network_larger_than_its_file(run: Run, tmp_path: Path) -> None:
    """Shapes alone claim gigabytes; no memory is taken for them."""
    theirs = saved(tiny_generator())
    for block in ("b4", "b8", "b16"):
        for name, part in theirs.synthesis.get_submodule(block).named_children():
            rows = 3 if name == "torgb" else 2**13
            kernel = 1 if name == "torgb" else 3
            huge = tensor(storage_file(None), (rows, 2**13, kernel, kernel), (0, 0, 0, 0))
            part._parameters["weight"] = huge
            if name == "torgb":
                part.weight_gain = 2**-6.5
    write(tmp_path / "net.pkl", theirs)
    assert "is smaller than the network that it describes" in refused(run, 1)


def test_a_file_cut_off_anywhere(tmp_path: Path) -> None:
    path = write(tmp_path / "net.pkl", saved(tiny_generator(size=8)))
    data = path.read_bytes()
    for length in [1, 2, 3, 11, 12, *np.random.default_rng(0).integers(13, len(data), 60)]:
        path.write_bytes(data[:length])
        with pytest.raises(
            ShapesHDError, match=r"^net\.pkl: is a pickle, but it is cut off"
        ) as caught:
            load_network(path, "net.pkl")
        assert "\n" not in str(caught.value)


def test_a_file_with_any_byte_changed(tmp_path: Path) -> None:
    """It is read or refused, and nothing else."""
    path = write(tmp_path / "net.pkl", saved(tiny_generator(size=8)))
    data, dice = path.read_bytes(), np.random.default_rng(1)
    refusals = 0
    for place in dice.integers(0, len(data), 40):
        changed = bytearray(data)
        changed[place] = dice.integers(256)
        path.write_bytes(changed)
        try:
            load_network(path, "net.pkl")
        except ShapesHDError as error:
            refusals += 1
            assert str(error).isprintable()
    assert refusals > 3
    assert not Path(MARKER).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--range", "unit"], "leave --range and --layout away"),
        (["--layout", "nhwc"], "leave --range and --layout away"),
        (["--latent-dim", 9], "takes latents of 6 values, not of 9"),
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
    assert "is a pickle of 5.0 GiB; at most 4 are read" in refused(run, 2)
