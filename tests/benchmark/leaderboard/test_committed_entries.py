"""The committed leaderboard: its entries are of what is installed now, and the pages quote them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shapeshd.benchmark.leaderboard.compare import compare
from shapeshd.benchmark.leaderboard.writers import comparison_markdown
from shapeshd.benchmark.recognizer.find import find_recognizer
from shapeshd.benchmark.result.formatting import with_interval
from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.result.schema import ScoreRecord
from shapeshd.engines.engine import engine_named
from shapeshd.support.checkpoint import load_checkpoint
from tests import ROOT

RESULTS = ROOT / "benchmark" / "results"
FILES = sorted([*(RESULTS / "leaderboard").glob("*.json"), *(RESULTS / "foreign").glob("*.json")])
OWN = ("checkpoint", "model")
"""Kinds of generators that this project trains: their entries depend on defaults of a training."""


def problems(entry: ScoreRecord) -> Iterator[str]:
    """Name what an entry was scored with that is not what this version has."""
    recognizer = entry.recognizer
    if recognizer.digest != load_checkpoint(find_recognizer(recognizer.name)).digest:
        yield f"recognizer {recognizer.name}"
    if entry.scene is None or entry.scene.sha256 != engine_named("torch").scene_sha256():
        yield "scene"
    files = (ROOT / "models" / "weights").rglob("*.safetensors")
    shipped = {load_checkpoint(path).digest for path in files}
    if entry.source.kind in OWN and entry.source.content not in shipped:
        yield "a generator of ours that is not in models/weights"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_entry_is_of_this_recognizer_and_scene_and_of_a_shipped_generator(path: Path) -> None:
    assert list(problems(read_result(path))) == []


def test_an_older_recognizer_scene_or_generator_would_be_found() -> None:
    entry = read_result(FILES[0])
    assert entry.scene is not None
    older = entry.model_copy(
        update={
            "recognizer": entry.recognizer.model_copy(update={"digest": "0" * 64}),
            "scene": entry.scene.model_copy(update={"sha256": "0" * 64}),
            "source": entry.source.model_copy(update={"kind": OWN[0], "content": "0" * 64}),
        }
    )
    assert len(list(problems(older))) == 3


def test_the_table_is_what_compare_writes_of_the_entries() -> None:
    table = (RESULTS / "leaderboard.md").read_text(encoding="utf-8")
    assert table == comparison_markdown(compare([RESULTS / "leaderboard"]))


def test_the_page_quotes_every_entry() -> None:
    page = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in row.split("|")]
        for row in re.findall(r"^\| .* \|$", page, flags=re.MULTILINE)
    ]
    for path in FILES:
        entry = read_result(path)
        quoted = {f"{entry.samples:,}", with_interval(entry.fit.divergence)}
        assert any(quoted <= set(row) for row in rows), path.name
