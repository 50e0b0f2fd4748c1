"""The log of a training."""

from __future__ import annotations

import json
from pathlib import Path

from shapeshd.support.training.loop import RunLog


def test_the_log_drops_what_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
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
