"""Network pickles that would run code, lie or are damaged: nothing in the file ever runs."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shapeshd.benchmark.sources.stylegan import pickle_data
from shapeshd.benchmark.sources.stylegan.network_pickle import load_network
from shapeshd.errors import ShapesHDError
from tests.support.network_pickles import (
    MARKER,
    Call,
    Saved,
    change,
    refused,
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
        "is cut off",
    ),
    "names with lines": (
        lambda: b"\x80\x04\x8c\x02a\n\x8c\x02b\n\x93.",
        2,
        "asks for 'a\\n.b\\n'",
    ),
    "sets a state on a name": (
        lambda: b"\x80\x04ccollections\nOrderedDict\n}b.",
        1,
        "state of Name",
    ),
    "calls a call": (lambda: b"\x80\x04])R.", 1, "calls what is no"),
    "persistent id": (lambda: b"\x80\x04NQ.", 1, "persistent id"),
    "extension": (lambda: b"\x80\x04\x82\x01.", 1, "the instruction EXT1"),
    "old instance": (lambda: b"\x80\x02(ios\nsystem\n.", 1, "the instruction INST"),
    "memo of 34 GB": (lambda: b"\x80\x04Nr\xff\xff\xff\x7f.", 2, "no network pickle"),
    "string of 4 GB": (lambda: b"\x80\x04B\xff\xff\xff\xff.", 1, "is cut off"),
    "string of 2^62": (
        lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
        1,
        "is cut off",
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
        "tuple for a key",
    ),
    "list in itself": (lambda: b"\x80\x04]\x94h\x00a.", 2, "no network pickle"),
    "too many instructions": (
        lambda: b"\x80\x04" + b"N0" * 30_100 + b"N.",
        1,
        "more than 60,000 instructions",
    ),
    "empty stack": (lambda: b"\x80\x040.", 1, "empty stack"),
    "no mark": (lambda: b"\x80\x04t.", 1, "no mark"),
    "unknown memo": (lambda: b"\x80\x04h\x05.", 1, "is cut off"),
    "two values": (lambda: b"\x80\x04NN.", 1, "is cut off"),
    "bytes behind": (lambda: b"\x80\x04}.more", 1, "4 bytes behind"),
    "no pickle": (lambda: b"pickled cucumbers", 2, "no pickle of protocol"),
    "a dictionary": (lambda: pickle.dumps({"a": 1}), 2, "no network pickle"),
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
        "storage of 4 numbers",
    ),
    "tensor of one number": (
        lambda: with_weight(tensor(storage_file(None), (10,), (0,))),
        1,
        "storage of 4 numbers",
    ),
    "tensor of strides": (
        lambda: with_weight(tensor(storage_file(None, b"\0" * 80, 20), (10,), (2,))),
        1,
        "of strides (2,)",
    ),
    "tensor before its storage": (
        lambda: with_weight(tensor(storage_file(None), (10,), (1,), -4)),
        1,
        "of an impossible shape",
    ),
    "storage of 2^40": (
        lambda: with_weight(tensor(storage_file(None, count=2**40), (10,), (1,))),
        1,
        "1,099,511,627,776 numbers",
    ),
    "storage of -1": (
        lambda: with_weight(tensor(storage_file(None, count=-1), (10,), (1,))),
        1,
        "-1 numbers",
    ),
    "storage of text": (
        lambda: with_weight(tensor(storage_file("text"), (10,), (1,))),
        1,
        "not exactly one",
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
    assert "smaller than the network" in refused(run, 1)


def test_a_file_cut_off_anywhere(tmp_path: Path) -> None:
    path = write(tmp_path / "net.pkl", saved(tiny_generator(size=8)))
    data = path.read_bytes()
    for length in [1, 2, 3, 11, 12, *np.random.default_rng(0).integers(13, len(data), 60)]:
        path.write_bytes(data[:length])
        with pytest.raises(ShapesHDError, match=r"^net\.pkl: .*cut off") as caught:
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
