"""The leaderboard: its files, entries and warnings."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shapeshd.benchmark.leaderboard.compare import compare
from shapeshd.benchmark.leaderboard.entry import (
    entry_of,
)
from shapeshd.benchmark.leaderboard.writers import comparison_markdown
from tests.support.html_check import Page, browser, cut_off
from tests.support.simulated_results import fidelity, simulated, write_result

Run = Callable[..., tuple[int, str, str]]


PSNR = {"value": 31.25, "low": 30.5, "high": 32.0}


def known_fidelity(**settings: Any) -> dict[str, Any]:
    """Image fidelity whose numbers in tables are known."""
    found = fidelity(**settings)
    found["residual"]["psnr"]["mean"] = PSNR
    found["residual"]["psnr"]["floor"]["mean"] = {"value": 44.0, "low": 43.0, "high": 45.0}
    found["residual"]["beyond"] = {"value": 0.25, "low": 0.2, "high": 0.31, "count": 125}
    found["statistics"]["fid"] = {"value": 1.5, "low": 1.2, "high": 1.9}
    found["theoretical"]["fid"] = {"value": 0.04, "low": 0.03, "high": 0.05}
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results, one of which has an awkward name and image fidelity."""
    root = tmp_path_factory.mktemp("many")
    run = {"seconds": 3.0, "images_per_second": 10.0, "device": "cpu", "world_size": 1,
           "resumed": False}  # fmt: skip
    awkward = {"name": "/home/me/a|b_*c*`d`\n<i>.pt", "kind": "torchscript", "count": None,
               "content": "cd" * 32}  # fmt: skip
    command = "shapeshd score '/home/me/a|b.pt' --trust --out /home/me/out --seed 3"
    write_result(root / "a", "everything", images=False, source=awkward, fidelity=known_fidelity(),
                 run={**run, "command": command})  # fmt: skip
    write_result(root / "b", "unbiased", images=False, fidelity=None)
    same = {"name": "same.pt", "kind": "torchscript", "count": None}
    write_result(root / "c", "unbiased", images=False, source=same)
    (root / "notes.txt").write_text("not a result")
    (root / "other.json").write_text('{"format": "something else"}')
    return root


def test_a_folder_of_results_is_read_and_others_are_passed_over(folder: Path, run: Run) -> None:
    status, out, err = run("compare", folder)
    assert (status, err) == (0, "")
    assert out.index("1=  unbiased.pt") < out.index("1=  same.pt") < out.index("3   ")
    assert "equal ranks (=)" in out
    assert "31.25 [30.50, 32.00] (44.0)" in out
    assert max(map(len, out.splitlines())) <= 100
    for name, text in (
        ("tsconfig.json", '{"strict": true, // as all others\n}'),
        ("cut.json", '{"format": "shapeshd-ent'),
    ):
        (folder / name).write_text(text)
        status, same, err = run("compare", folder)
        assert run("compare", folder / name)[0] == 2  # which was asked for
        (folder / name).unlink()
        assert (status, same) == (0, out)
        assert err == f"{folder / name}: passed over, not JSON\n"
    status, _, err = run("compare", folder, folder / "b")
    assert status == 2
    assert "the same result" in err


def test_csv_holds_every_digit(folder: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "board.CSV"
    assert run("compare", folder, "--out", out)[0] == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"), newline="")))
    assert [row["rank"] for row in rows] == ["1", "1", "3"]
    for row, kind in zip(rows, ("unbiased", "unbiased", "everything"), strict=True):
        fit = simulated(kind)["fit"]
        for name, values in (
            ("divergence", fit["divergence"]),
            ("reduced_chi_square", fit["prediction"]["reduced_chi_square"]),
        ):
            assert float(row[name]) == values["value"]
            assert float(row[f"{name}_low"]) == values["low"]
            assert float(row[f"{name}_high"]) == values["high"]
            assert float(row[f"{name}_error"]) == values["standard_error"]
        assert float(row["p_value"]) == fit["p_value"]
        assert row["recognizer_sha256"] == "0f" * 32
    assert rows[0]["fid"] == "" and rows[0]["passed"] == "true"
    assert (rows[2]["fid"], rows[2]["residual_psnr_low"], rows[2]["fid_of_real"]) == (
        "1.5",
        "30.5",
        "0.04",
    )
    assert rows[2]["source_content"] == "cd" * 32
    assert rows[0]["not_different_from"] == "same.pt"
    assert "--out /home/me/out" in rows[2]["command"]


def test_a_name_is_no_formula_of_a_spreadsheet(tmp_path: Path, run: Run) -> None:
    source = {"name": "=HYPERLINK(1)", "kind": "torchscript", "count": None}
    write_result(tmp_path / "a", "tilted", images=False, source=source)
    assert run("compare", tmp_path / "a", "--out", tmp_path / "x.csv")[0] == 0
    (row,) = csv.DictReader((tmp_path / "x.csv").open())
    assert row["model"] == "'=HYPERLINK(1)"


def test_markdown_is_one_whole_table(folder: Path, run: Run, tmp_path: Path) -> None:
    out, page = tmp_path / "board.md", tmp_path / "board.html"
    assert run("compare", folder, "--out", out, "--out", page)[0] == 0
    text = out.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3 + 3  # head and rule, sources, references
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    awkward = next(line for line in lines if "torchscript" in line and "everything" not in line
                   and line.startswith("| 3 "))  # fmt: skip
    assert r"a\|b\_\*c\*\`d\` \<i\>.pt" in awkward
    assert r"`shapeshd score '/home/me/a\|b.pt'" in awkward
    assert "| 1= | unbiased.pt |" in text
    found = Page(page.read_text(encoding="utf-8"))
    assert found.problems == []
    assert "25% [20%, 31%]" in found.text
    assert "not significantly different from same.pt" in found.text


def test_entries_say_what_their_results_said(folder: Path, run: Run, tmp_path: Path) -> None:
    board = tmp_path / "board"
    board.mkdir()
    status, before, err = run("compare", folder, "--entry", board, "--json")
    assert (status, err.count("written: ")) == (0, 3)
    files = sorted(board.iterdir())
    assert [file.name for file in files][1:] == ["same.json", "unbiased.json"]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert len(text) < 16_000
        assert "/home" not in text
        assert "confusion" not in text
    status, after, _ = run("compare", board, "--json", "--out", tmp_path / "x.html")
    assert status == 0
    first, second = json.loads(before), json.loads(after)
    for old, new in zip(first["results"], second["results"], strict=True):
        for key in ("rank", "divergence", "reduced_chi_square", "samples"):
            assert old[key] == new[key]
        assert not old["fidelity"] or _without_examples(old) == new["fidelity"]
        assert old["significant"][:5] == new["significant"]
    assert Page((tmp_path / "x.html").read_text(encoding="utf-8")).problems == []
    assert browser() is None or cut_off(tmp_path, tmp_path / "x.html") == [[]]
    again = compare([board])
    row = again.leaderboard_rows()[2]
    assert row["command"] == "shapeshd score 'a|b.pt' --trust --seed 3"
    assert [entry_of(one) for one in again.results] == list(again.results)


def _without_examples(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result["fidelity"].items() if name != "examples"}


def test_where_entries_cannot_be_written(folder: Path, run: Run, tmp_path: Path) -> None:
    status, _, err = run("compare", folder, "--entry", tmp_path / "none")
    assert status == 2
    assert "no such folder" in err
    for name in "ab":
        source = {"name": f"x{name}/../g.pt", "kind": "torchscript", "count": None}
        write_result(tmp_path / name, "tilted", images=False, source=source)
    (tmp_path / "out").mkdir()
    assert run("compare", tmp_path / "a", "--out", tmp_path / "x.md", "--out",
               tmp_path / "out" / ".." / "x.md")[0] == 2  # fmt: skip


def test_scenes_and_fidelity_that_differ_are_told(tmp_path: Path) -> None:
    here = {"sha256": "11" * 32, "renderer": "twin", "trained_on": None, "installed": None}
    other = {**here, "trained_on": "22" * 32, "installed": False}
    fewer = known_fidelity(images=400)
    first = write_result(
        tmp_path / "a", "tilted", images=False, scene=here, fidelity=known_fidelity()
    )
    same = write_result(tmp_path / "b", "tilted", images=False,
                        scene={**here, "trained_on": "33" * 32, "installed": True})  # fmt: skip
    assert compare([first, same]).warnings == ()
    third = write_result(tmp_path / "c", "tilted", images=False, scene=other, fidelity=fewer)
    old = write_result(tmp_path / "d", "tilted", images=False)
    found = compare([first, third, old]).warnings
    assert len(found) == 2
    assert found[0] == "they are of different scenes: 11111111, 22222222, not recorded"
    assert "500 images" in found[1] and "400 images" in found[1]
    assert all(text in comparison_markdown(compare([first, third])) for text in ("Warning: they",))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"engine": {"name": "POV-Ray 3.7", "scene_sha256": "cd" * 32}}, "POV-Ray 3.7"),
        ({"engine": {"name": "shapeshd ray tracer 1", "scene_sha256": "ef" * 32}}, "efefefef"),
        ({"version": 2}, "version 2"),
        ({"engine": {"name": "shapeshd twin 1", "scene_sha256": "cd" * 32}}, None),  # its old name
        ({"seed": 3}, None),  # another draw of real images
    ],
)
def test_whatever_decides_fidelity_is_told(
    tmp_path: Path, settings: dict[str, Any], told: str | None
) -> None:
    paths = [
        write_result(tmp_path / name, "tilted", images=False, fidelity=known_fidelity(**given))
        for name, given in (("a", {}), ("b", settings))
    ]
    found = compare(paths).warnings
    assert len(found) == (told is not None)
    assert told is None or told in found[0]
