"""The log of a training, and its folder, which is one training's at a time."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.support.training.loop import RunLog
from tests.support.tiny_training import tiny_training


def test_the_log_drops_what_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    path.parent.mkdir()
    log = RunLog(path, 0)
    for step in (50, 100, 150):
        log.write(step, 0.0, {"loss": 1.5})
    with path.open("a") as file:
        file.write('not json\n[1]\n{"loss": 3}\n{"step": "x"}\n{"step": 20')
    RunLog(path, 100).write(150, 0.0, {"loss": 2.0})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(50, 1.5), (100, 1.5), (150, 2.0)]
    RunLog(path, 0)
    assert path.read_text() == ""


def test_a_log_that_cannot_be_written_anew_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.jsonl"
    RunLog(path, 0).write(50, 0.0, {"loss": 1.5})
    before, write = path.read_text(), Path.write_text

    def half(self: Path, text: str, encoding: str) -> int:
        write(self, text[: len(text) // 2], encoding)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space left"):
        RunLog(path, 50)
    assert path.read_text() == before


def test_one_training_at_a_time_is_in_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = tiny_training(out)
    first.log_once("note", 1)
    before = (out / "log.jsonl").read_text()
    assert before
    with pytest.raises(ShapesHDError, match=re.escape(f"{out}: another training")):
        tiny_training(out)
    assert (out / "log.jsonl").read_text() == before  # which a training begins anew
    first.close()
    tiny_training(out)  # dropped at once
    with pytest.raises(UsageError, match="mlflow"):
        tiny_training(out, trackers=["mlflow"])
    tiny_training(out).close()
