"""Checkpoints: what is written comes back, damage is one line, and a kill leaves a whole file."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save, save_file
from torch import Tensor, nn

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.support.checkpoint import (
    FORMAT,
    FORMAT_VERSION,
    has_card,
    load_checkpoint,
    load_weights,
    read_card,
    save_checkpoint,
)

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, -1])}


def filled(value: float) -> dict[str, Tensor]:
    return {"a": torch.full((4,), value)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "net.safetensors", "recognizer", TENSORS, {"note": "hello"})
    return tmp_path / "net.safetensors"


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """As version 1 of the format had it: a card in a file beside the tensors."""
    path = tmp_path / "old.safetensors"
    save_file(TENSORS, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    head = {"format": FORMAT, "format_version": 1, "kind": "recognizer", "sha256": digest}
    path.with_suffix(".json").write_text(json.dumps({**head, "note": "hello"}))
    return path


def refused(path: Path, kind: str | None = "recognizer") -> ShapesHDError:
    with pytest.raises(ShapesHDError) as caught:
        load_checkpoint(path, kind)
    assert "\n" not in str(caught.value)
    assert path.stem in str(caught.value)
    return caught.value


def change_pair(path: Path, **values: Any) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **values}))


def with_card(path: Path, text: str) -> None:
    """Write tensors and a card that says `text`, its digest right."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    save_file(TENSORS, path, {"shapeshd": text, "shapeshd_sha256": digest})


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
     torch.int16, torch.int8, torch.uint8, torch.bool],
)  # fmt: skip
def test_each_type_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    values = (torch.arange(24).view(2, 3, 2, 2) - 3).to(dtype)
    given = {
        "plain": values,
        "channels_last": values.to(memory_format=torch.channels_last),
        "view": values.transpose(0, 1)[1:],
        "scalar": values[1, 1, 1, 1],
        "empty": values[:0],
    }
    save_checkpoint(tmp_path / "deep" / "net.safetensors", "any", given, {})
    found = load_checkpoint(tmp_path / "deep" / "net.safetensors").tensors
    assert found.keys() == given.keys()
    for name, tensor in given.items():
        assert found[name].dtype == dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name], tensor)


def test_not_a_number_and_subnormal_values_stay(tmp_path: Path) -> None:
    bits = torch.tensor([0x7FC00001, 1, -(2**31), 0x7F800000], dtype=torch.int32)
    save_checkpoint(tmp_path / "n.safetensors", "any", {"a": bits.view(torch.float32)}, {})
    found = load_checkpoint(tmp_path / "n.safetensors").tensors["a"]
    assert torch.equal(found.view(torch.int32), bits)


def test_the_card_says_what_was_given_and_the_digest_of_the_tensors(path: Path) -> None:
    found = load_checkpoint(path, "recognizer")
    digest = hashlib.sha256(save(TENSORS)).hexdigest()
    assert found.digest == digest == read_card(path)["sha256"]
    assert (found.kind, found.card["note"], found.path) == ("recognizer", "hello", path)
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]
    assert save_checkpoint(path, "recognizer", TENSORS, {"note": "another"}) == digest
    assert has_card(path)


def test_the_same_checkpoint_is_the_same_file(path: Path) -> None:
    before = path.read_bytes()
    save_checkpoint(path, "recognizer", TENSORS, {"note": "hello"})
    assert path.read_bytes() == before


def test_odd_names_and_no_tensors(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    for tensors in ({}, {'\u00e9\n\x7f"\\': torch.zeros(2), "\U0001f600": torch.ones(1)}):
        digest = save_checkpoint(path, "any", tensors, {"\u00e9": "\u2028"})
        found = load_checkpoint(path)
        assert digest == found.digest == hashlib.sha256(save(tensors)).hexdigest()
        assert (found.tensors.keys(), found.card["\u00e9"]) == (tensors.keys(), "\u2028")


def test_a_card_cannot_change_what_the_head_says(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    digest = save_checkpoint(path, "a", TENSORS, {"kind": "b", "sha256": "0", "format": "x"})
    assert (load_checkpoint(path, "a").digest, load_checkpoint(path).kind) == (digest, "a")


def test_the_file_is_plain_safetensors(path: Path) -> None:
    """Read by the format's own NumPy reader, and by hand: a length, a JSON header, numbers."""
    found = load_file(path)
    np.testing.assert_array_equal(found["a"], TENSORS["a"].numpy())
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert header["b"]["dtype"] == "I64"
    first, last = header["a"]["data_offsets"]
    body = data[8 + length :][first:last]
    np.testing.assert_array_equal(np.frombuffer(body, "<f4"), TENSORS["a"].flatten())


def test_a_pickle_under_its_name_does_not_run(path: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return os.mkdir, (str(tmp_path / "it-ran"),)

    data = pickle.dumps(Bomb())
    torch.save({"a": Bomb()}, path.with_name("b"))
    for payload in (data, data + b"\0" * 100, path.with_name("b").read_bytes()):
        path.write_bytes(payload)
        assert "no safetensors file" in str(refused(path))
        with pytest.raises(ShapesHDError, match="no safetensors file"):
            has_card(path)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("which", ["path", "pair"])
def test_no_flipped_byte_goes_unnoticed(which: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(which)
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in (1, 32):
            data = bytearray(whole)
            data[position] ^= bit
            path.write_bytes(data)
            refused(path)


def test_a_shortened_file_is_damaged(path: Path) -> None:
    whole = path.read_bytes()
    for length in (0, 5, 8, 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refused(path).exit_code == 1


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("[1]", 2, "card"),
        ("3", 2, "card"),
        ('{"format": "shapeshd-checkpoint"}', 2, "format_version"),
        ('{"format": "x", "format_version": 1, "kind": "a", "sha256": ""}', 2, "format"),
        ('{"format": "shapeshd-checkpoint", "format_version": 2, "kind": 3, "sha256": ""}', 2,
         "kind"),
    ],
)  # fmt: skip
def test_a_foreign_card(path: Path, text: str, status: int, words: str) -> None:
    with_card(path, text)
    error = refused(path)
    assert words in str(error)
    assert error.exit_code == status


def test_a_damaged_card_is_noticed(path: Path) -> None:
    save_file(TENSORS, path, {"shapeshd": "{", "shapeshd_sha256": "0"})
    assert refused(path).exit_code == 1


def test_tensors_of_another_program(path: Path) -> None:
    save_file(TENSORS, path)
    assert "no card" in str(refused(path))
    assert not has_card(path)
    path.with_suffix(".json").write_text('{"model_type": "bert"}')
    assert "no card" in str(refused(path))
    assert not has_card(path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.safetensors"
    assert str(refused(nowhere)) == f"{nowhere}: no such file"


def test_a_newer_format_and_another_kind(path: Path) -> None:
    assert str(refused(path, "generator")) == f"{path}: is a recognizer, not a generator"
    with_card(path, json.dumps({**read_card(path), "format_version": 3}))
    error = refused(path)
    assert "format version 3" in str(error)
    assert "newer shapeshd" in str(error)
    assert error.exit_code == 2


def test_an_older_pair_is_read_and_saved_as_one_file(pair: Path) -> None:
    old = load_checkpoint(pair, "recognizer")
    assert (old.card["note"], has_card(pair)) == ("hello", True)
    assert torch.equal(old.tensors["a"], TENSORS["a"])
    assert save_checkpoint(pair, old.kind, old.tensors, old.card) == old.digest
    new = load_checkpoint(pair, "recognizer")
    assert (new.card["note"], new.card["format_version"]) == ("hello", FORMAT_VERSION)
    assert [file.name for file in pair.parent.iterdir()] == ["old.safetensors"]


def test_an_older_pair_that_does_not_go_together(pair: Path) -> None:
    save_file({"a": torch.ones(4)}, pair)
    assert "other SHA-256" in str(refused(pair))
    change_pair(pair, format="x")
    assert "no card" in str(refused(pair))
    pair.with_suffix(".json").write_text("{")
    assert "no card" in str(refused(pair))


def test_another_program_s_json_beside_it_stays(path: Path) -> None:
    path.with_suffix(".json").write_text('{"model_type": "bert"}')
    save_checkpoint(path, "recognizer", TENSORS, {})
    assert path.with_suffix(".json").exists()


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.safetensors"):
        save_checkpoint(tmp_path / "net.pt", "recognizer", TENSORS, {})
    assert not list(tmp_path.iterdir())


def test_a_card_that_is_not_fit_for_json_leaves_the_old_one(path: Path) -> None:
    before = load_checkpoint(path).digest
    with pytest.raises(TypeError):
        save_checkpoint(path, "recognizer", filled(1), {"bad": object()})
    assert load_checkpoint(path).digest == before


def test_wherever_a_save_dies_the_old_one_or_the_new_one_is_whole(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    for call, kept in (("replace", "hello"), ("unlink", "new")):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Path, call, die)
            save_checkpoint(pair, "recognizer", filled(1), {"note": "new"})
        found = load_checkpoint(pair, "recognizer")
        assert found.card["note"] == kept
        assert torch.equal(found.tensors["a"], filled(1)["a"] if kept == "new" else TENSORS["a"])


def test_a_full_disk_leaves_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, "recognizer", filled(1), {})
    monkeypatch.undo()
    assert torch.equal(load_checkpoint(path).tensors["a"], TENSORS["a"])
    save_checkpoint(path, "recognizer", filled(1), {})
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]


def test_weights_must_agree_name_by_name(path: Path) -> None:
    network = nn.Linear(3, 2)
    whole = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    load_weights(network, whole, path)
    assert torch.equal(network.weight, whole["weight"])
    cases = [
        ({"weight": whole["weight"]}, "lacks the tensor bias"),
        ({**whole, "bias": torch.zeros(3)}, r"bias .*\(3,\), not \(2,\)"),
        ({**whole, "more": torch.zeros(1)}, "holds the tensor more"),
    ]
    for tensors, words in cases:
        with pytest.raises(UsageError, match=words) as caught:
            load_weights(network, {name: tensor + 5 for name, tensor in tensors.items()}, path)
        assert str(caught.value).startswith(f"{path}: ")
        assert torch.equal(network.weight, whole["weight"])
