"""Names of sources may be anything that a file can be called; numbers do not depend on a page."""

from __future__ import annotations

import base64
import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from shapeshd.benchmark.leaderboard.compare import compare
from shapeshd.benchmark.leaderboard.entry import entry_of
from shapeshd.benchmark.leaderboard.terminal import describe_comparison
from shapeshd.benchmark.leaderboard.writers import write_comparison
from shapeshd.benchmark.report.figures.score import bin_counts_figure, score_figure
from shapeshd.benchmark.report.figures.style import NARROW, WIDE, data_uri, style
from shapeshd.benchmark.report.html import report_page
from shapeshd.benchmark.report.tables import score_rows
from shapeshd.benchmark.report.terminal import describe
from shapeshd.benchmark.result.read import read_result, save_result
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.scoring import score as scoring
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from tests.support.fake_scores import ReadsWritten, Written
from tests.support.html_check import Page
from tests.support.simulated_results import simulated, simulated_result

FEW = 5_761
NOT_UTF8 = os.fsdecode(b"samples/caf\xe9-\xff.npy")
NAMES = {
    "bytes that are no UTF-8": (NOT_UTF8, r"samples/caf\xe9-\xff.npy"),
    "formulas": ("$x_1^{2$ $\\frac$.npy", "$x_1^{2$ $\\frac$.npy"),
    "underscores": ("__run__", "__run__"),
    "markup": ("<script>alert('&amp;')</script>", "<script>alert('&amp;')</script>"),
    "lines": ("one\ntwo\r\n\tthree\x07.npy", "one two three\\x07.npy"),
    "right to left": ("\u202egnp.\u05d0\u05d1", "\\u202egnp.\u05d0\u05d1"),
    "emoji of three": ("\U0001f469\u200d\U0001f52c.pt", "\U0001f469\u200d\U0001f52c.pt"),
    "long": ("a" * 300, "a" * 300),
}


def result_named(name: str, **changes: Any) -> Result:
    source = {**simulated("tilted")["source"], "name": name, "code_dir": name}
    return simulated_result("tilted", source=source, **changes)


def texts_of(uri: str) -> list[str]:
    """Return the texts of a figure, which must be sound XML."""
    svg = base64.b64decode(uri.partition(",")[2]).decode()
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter() if
            text.tag.endswith("}text")]  # fmt: skip


def unseen(text: str) -> list[str]:
    """Return characters that a terminal would obey instead of showing them."""
    return [
        c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Cf") and c not in "\n\u200d"
    ]


@pytest.mark.parametrize("case", NAMES)
def test_a_name_is_shown_as_it_is_in_figures_and_tables(case: str) -> None:
    given, shown = NAMES[case]
    result = result_named(given)
    assert result.source.title == shown
    for draw in (score_figure, bin_counts_figure):
        series: Any = score_rows(result)
        if draw is bin_counts_figure:
            series = [(result.source.title, result.bin_counts)]
        for width in (WIDE, NARROW):
            with style():
                texts = texts_of(data_uri(draw(series, width)))  # type: ignore[operator]
            whole = [text.lstrip("\N{WORD JOINER}") for text in texts]
            assert any(text.startswith(shown[:7]) for text in whole), texts
    table = describe(result)
    assert unseen(table) == []
    assert shown[:15] in table


def test_one_name_of_all_kinds_in_every_output(tmp_path: Path) -> None:
    given = "_" + "".join(name for name, _ in NAMES.values())
    paths = []
    for number, run in enumerate(("one", "two\udcff")):
        result = result_named(given, run={**simulated("tilted")["run"], "command": given})
        if not number:  # the two differ by their folders alone
            page = Page(report_page(result))
            assert page.problems == []
            assert result.source.title in page.text
        (tmp_path / run).mkdir()
        save_result(result if number else entry_of(result), tmp_path / run / "result.json")
        paths.append(tmp_path / run)
    comparison = compare(paths)
    assert len(set(comparison.names)) == 2  # told apart by their folders
    assert unseen("".join(comparison.names)) == []
    for name in ("c.html", "c.md", "c.csv"):
        assert (write_comparison(comparison, tmp_path / name)).read_text(encoding="utf-8")
    assert unseen(describe_comparison(comparison)) == []
    json.dumps(comparison.to_json())


def test_an_older_file_with_half_a_letter_is_read(tmp_path: Path) -> None:
    values = simulated("tilted")
    values["source"] |= {"name": NOT_UTF8, "code_dir": NOT_UTF8}
    (tmp_path / "result.json").write_text(json.dumps(values | {"created": "\ud800"}))
    found = read_result(tmp_path)
    assert found.source.name == found.source.details["code_dir"] == NAMES[
        "bytes that are no UTF-8"][1]  # fmt: skip
    assert found.created == "\\ud800"


def failing(*_: Any) -> Path:
    raise TypeError("set_text(): incompatible\nfunction arguments")


def test_a_page_that_cannot_be_drawn_loses_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source, out = Written(name=NOT_UTF8), tmp_path / "out"
    monkeypatch.setattr(scoring, "write_report", failing)
    result = score_source(source, ReadsWritten(), out, ScoreSettings(samples=FEW))
    assert read_result(out) == result
    (line,) = [text for text in capfd.readouterr().err.splitlines() if "report.html" in text]
    assert str(out) in line and "TypeError: set_text(): incompatible function" in line
    drawn: list[Result] = []
    monkeypatch.setattr(scoring, "write_report", lambda result, _: drawn.append(result))
    asked = len(source.asked)
    assert score_source(source, ReadsWritten(), out, ScoreSettings(samples=FEW)) == result
    assert drawn == [result]  # by the same command, which counts nothing again
    assert sum(stop - start for start, stop in source.asked[asked:]) < FEW


@pytest.mark.usefixtures("no_page")
def test_pictures_that_cannot_be_made_lose_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scoring, "choose_examples", failing)
    score_source(Written(), ReadsWritten(), tmp_path / "out", ScoreSettings(samples=FEW))
    found = read_result(tmp_path / "out")
    assert isinstance(found, Result) and found.examples.file is None
    assert "no example images: TypeError" in capfd.readouterr().err


@pytest.mark.usefixtures("no_page")
def test_a_score_of_a_name_that_is_no_utf8_on_the_command_line(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "shapeshd.cli.score_run.open_source", lambda *_, **__: Written(name=NOT_UTF8)
    )
    monkeypatch.setattr("shapeshd.cli.score_run.load_recognizer", lambda *_: ReadsWritten())
    out = tmp_path / NOT_UTF8[-5:]
    arguments = ("--samples", FEW, "--out", out, "--device", "cpu")
    status, text, _ = run("score", "render:0:9", *arguments)
    assert status == 0
    assert r"\xff.npy" in text
