"""Results in files: read as they were written, of this format version and the one before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shapeshd.benchmark.result.files import FORMAT_VERSION
from shapeshd.benchmark.result.read import parse_result, read_result, save_result
from shapeshd.benchmark.result.schema import Entry, Result
from shapeshd.benchmark.statistics.decomposition import HIGHER_ORDER
from shapeshd.errors import ShapesHDError
from tests.support.simulated_results import fidelity, simulated, simulated_result

HERE = Path(__file__).parent
RESULTS = HERE.parents[2] / "benchmark" / "results"
ENTRIES = sorted(path for name in ("leaderboard", "foreign") for path in (RESULTS / name).iterdir())
VERSION_1 = HERE / "files" / "entry-version-1.json"
"""An entry as commit 8dc664a wrote it."""


def as_version_1(result: dict[str, Any]) -> dict[str, Any]:
    """Return what version 1 would have written."""
    text = json.dumps({**result, "format_version": 1})
    for new, old in (
        ("bin_counts", "occupancy"),
        ("significant", "guilty"),
        ("gross_errors", "blunders"),
        ("measurement_error", "misread"),
        (HIGHER_ORDER, "rest"),
    ):
        text = text.replace(f'"{new}"', f'"{old}"')
    old_result: dict[str, Any] = json.loads(text)
    old_result["law"] = old_result.pop("distribution", None)
    if old_result.get("fidelity"):
        verdict = old_result["fidelity"]["verdict"]
        verdict["quality"] = verdict.pop("fidelity")
    return old_result


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_committed_entries_are_of_this_version(path: Path) -> None:
    content = json.loads(path.read_text())
    assert content["format_version"] == FORMAT_VERSION
    found = read_result(path)
    assert isinstance(found, Entry)
    assert found.to_json() == content


def test_there_are_committed_entries() -> None:
    assert len(ENTRIES) >= 9


def test_an_entry_of_version_1_is_read() -> None:
    old, found = json.loads(VERSION_1.read_text()), read_result(VERSION_1)
    assert isinstance(found, Entry)
    assert found.format_version == FORMAT_VERSION
    assert found.fit.to_json() == old["fit"]
    assert found.verdict.text == old["verdict"]["text"]
    assert found.fidelity is not None
    assert found.fidelity.verdict.fidelity is old["fidelity"]["verdict"]["quality"]
    assert [part.significant for part in found.decomposition.parts] == [
        part["guilty"] for part in old["decomposition"]["parts"]
    ]
    assert parse_result(found.to_json()) == found


@pytest.mark.parametrize("kind", ["everything", "unbiased"])
def test_a_result_of_version_1_is_read(kind: str) -> None:
    new = simulated(kind, fidelity=fidelity(), distribution=None)
    old = as_version_1(new)
    assert "occupancy" in old and "bin_counts" not in old
    assert "rest" in {part["name"] for part in old["decomposition"]["parts"]}
    assert parse_result(old) == parse_result(new)


def test_keys_of_a_source_are_its_own() -> None:
    old = as_version_1(simulated("tilted"))
    old["source"]["law"] = "scale 1,0"
    found = parse_result(old)
    assert found.source.details["law"] == "scale 1,0"


def test_a_damaged_result_of_version_1_is_refused_by_its_field(tmp_path: Path) -> None:
    for damaged, named in (
        ({"decomposition": 3}, "decomposition"),
        ({"decomposition": {"parts": [7]}}, "decomposition.parts.0"),
        ({"fidelity": {"verdict": []}}, "fidelity"),
    ):
        old = {**as_version_1(simulated("tilted")), **damaged}
        (tmp_path / "result.json").write_text(json.dumps(old))
        with pytest.raises(ShapesHDError, match=f"result.json: {named}"):
            read_result(tmp_path)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = simulated_result("dropped", fidelity=fidelity())
    save_result(result, tmp_path / "result.json")
    found = read_result(tmp_path)
    assert isinstance(found, Result)
    assert found == result
    assert found.to_json() == json.loads((tmp_path / "result.json").read_text())


def test_a_result_does_not_change() -> None:
    result = simulated_result("tilted")
    with pytest.raises(ValueError, match="samples"):
        result.samples = 3  # type: ignore[misc]


def test_a_comparison_takes_no_torch() -> None:
    code = "\n".join(
        [
            "import sys, pathlib",
            "from shapeshd.benchmark.leaderboard.compare import compare",
            "from shapeshd.benchmark.leaderboard.terminal import describe_comparison",
            "from shapeshd.benchmark.leaderboard.writers import comparison_page",
            f"found = compare([pathlib.Path({str(RESULTS / 'foreign')!r})])",
            "describe_comparison(found), comparison_page(found)",
            "assert 'torch' not in sys.modules",
        ]
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
