"""What runs of the reference models leave, and how two of them are compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from shapeshd.models.training.files import (
    RESULT,
)
from shapeshd.models.training.trainer import Trainer
from shapeshd.support.checkpoint import read_card
from shapeshd.support.training.loop import LOG

PHASES = ("vae", "aae", "gan")
TRAINED = (*PHASES, "flow")  # the last one needs no other
STATE = Trainer.state_file


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def without_seconds(values: Any) -> Any:
    return {key: value for key, value in values.items() if key not in ("seconds", "sha256")}


def same_phase(out: Path, whole: Path, phase: str) -> None:
    """Compare all that a phase leaves, bit for bit, but for the time it took."""
    ours, theirs = out / phase, whole / phase
    names = sorted(path.name for path in theirs.iterdir())
    assert sorted(path.name for path in ours.iterdir()) == names
    for name in names:
        if name.endswith(".safetensors"):
            first, second = load_file(ours / name), load_file(theirs / name)
            assert first.keys() == second.keys()
            for key, tensor in first.items():
                assert torch.equal(tensor, second[key]), (name, key)
            cards = [without_seconds(read_card(folder / name)) for folder in (ours, theirs)]
            assert cards[0] == cards[1]
    assert [without_seconds(row) for row in log_of(ours)] == [
        without_seconds(row) for row in log_of(theirs)
    ]
    results = [json.loads((folder / RESULT).read_text()) for folder in (ours, theirs)]
    assert without_seconds(results[0]) == without_seconds(results[1])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def begun(out: Path, whole: Path, domain: str, phase: str) -> Path:
    """Copy what `phase` begins with."""
    out.mkdir()
    for earlier in PHASES[: PHASES.index(phase)] if phase in PHASES else ():
        shutil.copytree(whole / domain / earlier, out / earlier)
    return out
