"""Checkpoints: what is written comes back, damage is one line, and a kill leaves a pair."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.support import checkpoint
from shapeshd.support.checkpoint import load_checkpoint, load_weights, read_card, save_checkpoint

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, -1])}


def filled(value: float) -> dict[str, Tensor]:
    return {"a": torch.full((4,), value)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "net.safetensors", "recognizer", TENSORS, {"note": "hello"})
    return tmp_path / "net.safetensors"


def refused(path: Path, kind: str | None = "recognizer") -> ShapesHDError:
    with pytest.raises(ShapesHDError) as caught:
        load_checkpoint(path, kind)
    assert "\n" not in str(caught.value)
    assert path.stem in str(caught.value)
    return caught.value


def change_card(path: Path, **values: Any) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **values}))


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


def test_the_card_says_what_was_given_and_the_digest(path: Path) -> None:
    found = load_checkpoint(path, "recognizer")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.digest == digest == read_card(path)["sha256"]
    assert (found.kind, found.card["note"], found.path) == ("recognizer", "hello", path)
    assert load_checkpoint(path.with_suffix(".json")).digest == digest
    assert sorted(file.name for file in path.parent.iterdir()) == ["net.json", "net.safetensors"]


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
    for payload in (data, data + b"\0" * 100):
        path.write_bytes(payload)
        change_card(path, sha256=hashlib.sha256(payload).hexdigest())
        assert "no safetensors file" in str(refused(path))
    torch.save({"a": Bomb()}, path)
    change_card(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert "no safetensors file" in str(refused(path))
    assert not (tmp_path / "it-ran").exists()


def test_no_flipped_byte_of_the_tensors_goes_unnoticed(path: Path) -> None:
    whole = path.read_bytes()
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1
        path.write_bytes(data)
        assert "copy both files again" in str(refused(path))


def test_a_shortened_file_is_damaged(path: Path) -> None:
    os.truncate(path, 40)
    assert refused(path).exit_code == 1


def test_a_pair_of_two_checkpoints_does_not_go_together(path: Path) -> None:
    save_checkpoint(path.with_name("other.safetensors"), "recognizer", filled(1), {})
    path.with_name("other.safetensors").replace(path)
    assert "other SHA-256" in str(refused(path))


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("", 1, "no JSON"),
        ("{", 1, "no JSON"),
        ("[1]", 2, "no card"),
        ("3", 2, "no card"),
        ('{"format": "shapeshd-checkpoint"}', 2, "no card"),
        ('{"format": "x", "format_version": 1, "kind": "a", "sha256": ""}', 2, "no card"),
    ],
)
def test_a_damaged_or_foreign_card(path: Path, text: str, status: int, words: str) -> None:
    path.with_suffix(".json").write_text(text)
    error = refused(path)
    assert words in str(error)
    assert error.exit_code == status


def test_a_card_that_is_no_text(path: Path) -> None:
    path.with_suffix(".json").write_bytes(b"\xff\xfe\x00{")
    assert "no JSON" in str(refused(path))


def test_what_is_missing_is_named(path: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.safetensors"
    assert str(refused(nowhere)) == f"{nowhere}: no such file"
    path.rename(tmp_path / "aside")
    assert str(refused(path)) == f"{path}: no such file, though its card net.json is there"
    (tmp_path / "aside").rename(path)
    path.with_suffix(".json").unlink()
    assert str(refused(path)) == f"{path.with_suffix('.json')}: no such file"


def test_a_newer_format_and_another_kind(path: Path) -> None:
    assert str(refused(path, "generator")) == f"{path}: is a recognizer, not a generator"
    change_card(path, format_version=2)
    error = refused(path)
    assert "format version 2" in str(error)
    assert "newer shapeshd" in str(error)
    assert error.exit_code == 2


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.safetensors"):
        save_checkpoint(tmp_path / "net.pt", "recognizer", TENSORS, {})
    assert not list(tmp_path.iterdir())


def test_a_card_that_is_not_fit_for_json_leaves_the_old_pair(path: Path) -> None:
    before = load_checkpoint(path).digest
    with pytest.raises(TypeError):
        save_checkpoint(path, "recognizer", filled(1), {"bad": object()})
    assert load_checkpoint(path).digest == before


SAVE_AND_DIE = """
import os, sys
from pathlib import Path
import torch
from shapeshd.support.checkpoint import save_checkpoint

replace = Path.replace
def die_at_the_card(source, target):
    if target.suffix == ".json":
        os._exit(9)
    return replace(source, target)

Path.replace = die_at_the_card
save_checkpoint(Path(sys.argv[1]), "any", {"a": torch.full((4,), 2.0)}, {"value": 2})
"""


def whole_pair(path: Path) -> float:
    found = load_checkpoint(path, "any")
    value = float(found.card["value"])
    assert torch.equal(found.tensors["a"], torch.full((4,), value))
    return value


class Killed(BaseException):
    pass


def die_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the process "die" at the `number`-th change of the folder from now on."""
    calls = 0

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > number:  # nothing can be tidied up any more, either
                raise Killed
            return real(*arguments, **named)

        return call

    monkeypatch.setattr(Path, "replace", watched(Path.replace))
    monkeypatch.setattr(Path, "unlink", watched(Path.unlink))
    monkeypatch.setattr(os, "link", watched(os.link))


def test_a_process_that_dies_between_the_two_renames_leaves_the_old_pair(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, "any", filled(1), {"value": 1})
    before = path.read_bytes()
    command = [sys.executable, "-c", SAVE_AND_DIE, str(path)]
    assert subprocess.run(command, check=False).returncode == 9
    assert path.read_bytes() != before
    assert whole_pair(path) == 1
    save_checkpoint(path, "any", filled(3), {"value": 3})
    assert whole_pair(path) == 3


def test_any_row_of_interrupted_saves_leaves_a_whole_pair(tmp_path: Path) -> None:
    """Wherever a save dies, and where the next one dies after it."""
    for first in range(6):
        for second in range(6):
            path = tmp_path / f"{first}{second}" / "net.safetensors"
            save_checkpoint(path, "any", filled(0), {"value": 0})
            known = {0.0}
            for value, number in ((1, first), (2, second)):
                with pytest.MonkeyPatch.context() as patch:
                    die_at(patch, number)
                    try:
                        save_checkpoint(path, "any", filled(value), {"value": value})
                    except Killed:
                        known |= {value}
                    else:
                        known = {value}
                found = whole_pair(path)
                assert found in known
                known = {found}
            save_checkpoint(path, "any", filled(3), {"value": 3})
            assert whole_pair(path) == 3
            assert not path.with_name(f".{path.name}.previous").exists()


def test_a_full_disk_leaves_the_old_pair(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, "recognizer", filled(1), {})
    monkeypatch.undo()
    assert torch.equal(load_checkpoint(path).tensors["a"], TENSORS["a"])
    save_checkpoint(path, "recognizer", filled(1), {})
    assert sorted(file.name for file in path.parent.iterdir()) == ["net.json", "net.safetensors"]


def test_weights_must_agree_name_by_name(path: Path) -> None:
    network = nn.Linear(3, 2)
    whole = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    load_weights(network, whole, path)
    assert torch.equal(network.weight, whole["weight"])
    cases = [
        ({"weight": whole["weight"]}, "lacks the tensor bias"),
        ({**whole, "bias": torch.zeros(3)}, r"bias has the shape \(3,\), not \(2,\)"),
        ({**whole, "more": torch.zeros(1)}, "holds the tensor more, which"),
    ]
    for tensors, words in cases:
        with pytest.raises(UsageError, match=words) as caught:
            load_weights(network, {name: tensor + 5 for name, tensor in tensors.items()}, path)
        assert str(caught.value).startswith(f"{path}: ")
        assert torch.equal(network.weight, whole["weight"])
