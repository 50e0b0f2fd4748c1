"""Trackers: TensorBoard is in `test_runs`; here a program's own, and the real wandb, offline."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shapeshd.cli.options import TRACKERS as SHOWN
from shapeshd.cli.options import chosen_trackers
from shapeshd.errors import MissingPackageError, UsageError
from shapeshd.support.training.loop import RunLog
from shapeshd.support.training.tracker import TRACKERS, open_trackers, scalars
from tests.support.tiny_training import tiny_training

_BLOCK = 32768  # bytes, of the file that wandb writes: LevelDB's log format


class Kept:
    """A tracker that keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        assert not self.closed
        self.seen.append((step, {**values, "seconds": 0}))

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        self.seen.append((step, dict.fromkeys(files, 0.0)))

    def close(self) -> None:
        self.closed = True


def histories(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what an offline run of wandb has logged, one table a call."""
    messages: Any = import_module("wandb.proto.wandb_internal_pb2")
    (file,) = folder.rglob("*.wandb")
    data, place, record = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = _BLOCK - place % _BLOCK
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if left < 7 or kind == 0:
            place += left
            continue
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            message = messages.Record()
            message.ParseFromString(record)
            record = b""
            if message.WhichOneof("record_type") == "history":
                items = message.history.item
                named = {item.key or "/".join(item.nested_key): item.value_json for item in items}
                yield {name: json.loads(text) for name, text in named.items()}


def test_wandb_keeps_numbers_and_pictures_without_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    picture = tmp_path / "samples.png"
    Image.fromarray(np.full((4, 5, 3), 77, np.uint8)).save(picture)
    folder = tmp_path / "run" / "vae"
    opened = open_trackers(["wandb"], folder, 0, {"vae": {"steps": 3}})
    log = RunLog(folder / "log.jsonl", 0, opened)
    log.write(1, 0.5, {"loss": 2.0, "score": {"divergence": 0.25, "kind": "x"}})
    log.write(2, 0.9, {"loss": 1.5})
    log.show(2, {"samples": picture})
    log.close()
    wandb.teardown()  # ends its process, which writes the file
    identity = (folder / "wandb-id.txt").read_text()
    rows = [
        {name: value for name, value in row.items() if not name.startswith("_")}
        for row in histories(folder)
    ]
    assert rows[:2] == [
        {"step": 1, "loss": 2.0, "score/divergence": 0.25},
        {"step": 2, "loss": 1.5},
    ]
    assert rows[2]["step"] == 2 and rows[2]["samples/width"] == 5
    (sent,) = folder.rglob("media/images/*.png")
    with Image.open(sent) as image:
        assert np.asarray(image.convert("RGB")).tolist() == np.full((4, 5, 3), 77).tolist()
    assert identity.strip() in next(folder.rglob("*.wandb")).name


def test_a_training_shows_all_its_log_and_closes_what_it_has_opened_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program lends its own tracker to several trainings, as `train_all` does to all phases."""
    lent, opened = Kept(), list[Kept]()

    def open_one(*_: object) -> Kept:
        opened.append(Kept())
        return opened[-1]

    monkeypatch.setitem(TRACKERS, "opened", open_one)
    shown = []
    for name in ("first", "second"):
        tiny_training(tmp_path / name, images=16 * 2, trackers=[lent, "opened"]).run()
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert rows
        shown.append([(row.pop("step"), dict(scalars(row)) | {"seconds": 0}) for row in rows])
    assert [tracker.closed for tracker in (lent, *opened)] == [False, True, True]
    assert [tracker.seen for tracker in opened] == shown
    assert lent.seen == shown[0] + shown[1]


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(TRACKERS) == SHOWN
    assert chosen_trackers(("wandb",), True) == ("wandb", "tensorboard")
    assert chosen_trackers(("tensorboard", "tensorboard"), True) == ("tensorboard",)
    with pytest.raises(UsageError, match="'mlflow' is known: say tensorboard or wandb"):
        open_trackers(["mlflow"], tmp_path, 0, {})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingPackageError, match=r"wandb.*shapeshd\[wandb\]"):
        open_trackers(["wandb"], tmp_path / "run", 0, {})
    assert not (tmp_path / "run").exists()
