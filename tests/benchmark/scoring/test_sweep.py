"""Sweeps: several values of one option, each scored whole, and their page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shapeshd.benchmark import score, sweep
from shapeshd.benchmark.report.sweep import describe_sweep, sweep_page
from shapeshd.benchmark.result.sweep import SweepRecord, check_sweep_folder
from shapeshd.benchmark.scoring import score as scoring
from shapeshd.benchmark.sources.options import OPTIONS
from shapeshd.benchmark.sources.subprocess import code_process
from shapeshd.benchmark.sources.sweep import Sweep, parse_sweep, sweepable
from shapeshd.cli import score_run
from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, from_unit, joint_bins
from shapeshd.support.workspace import machine_tag
from tests.support.fake_scores import ReadsWritten, written_images
from tests.support.html_check import Page, browser, cut_off
from tests.support.same_process import SameProcess

Run = Callable[..., tuple[int, str, str]]
SAMPLES = 6000


def shrunk(z: Tensor, truncation: float = 1.0) -> Tensor:
    """Images of factors that a normal code decides; truncation draws codes to the middle."""
    unit = torch.special.ndtr(truncation * z.double()).clamp(0, 1 - 1e-9).numpy()
    return written_images(joint_bins(from_unit(unit)), 32)


def test_a_killed_sweep_goes_on(tmp_path: Path) -> None:
    """What it was writing is removed; another file is refused as before."""
    aside = tmp_path / f".sweep.json-aside-{machine_tag()}-{'0' * 12}"
    aside.mkdir()
    (aside / "sweep.json").write_text("{")
    (tmp_path / "truncation=0.5").mkdir()
    check_sweep_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["truncation=0.5"]
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(UsageError, match=r"mine\.txt"):
        check_sweep_folder(tmp_path)


def check_page(text: str) -> None:
    """A sound page, but for its links to the reports beside it."""
    problems = [one for one in Page(text).problems if not one.startswith("a href")]
    assert not problems


def test_texts() -> None:
    assert parse_sweep("truncation=0.5, 0.7,1") == Sweep("truncation", (0.5, 0.7, 1.0))
    assert parse_sweep("truncation-cutoff=1,4") == Sweep("truncation_cutoff", (1, 4))
    assert parse_sweep("steps=10,50").values == (10, 50)
    assert parse_sweep("labels=0,1-2").values == ("0", "1-2")
    swept = parse_sweep("truncation=0.5,1")
    assert [swept.name(value) for value in swept.values] == ["truncation=0.5", "truncation=1"]
    made = swept.options({"batch": 8, "seed": 3})
    assert [(one.truncation, one.batch) for one in made] == [(0.5, 8), (1.0, 8)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("truncation", "NAME=VALUE"),
        ("truncation=0.5,,1", "NAME=VALUE"),
        ("truncation=0.5", "2 to 100 values"),
        ("truncation=0.5,1,0.5", "twice"),
        ("truncation=a,b", "truncation must be a number, not 'a'"),
        ("steps=1.5,2", "steps must be a whole number"),
        ("batch=1,2", "'batch' cannot be swept"),
        ("nosuch=1,2", "'nosuch' cannot be swept"),
    ],
)
def test_texts_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_sweep(text)


def test_values_are_checked_before_the_first_is_scored() -> None:
    with pytest.raises(UsageError, match="truncation must be between"):
        parse_sweep("truncation=0.5,2").options({})
    with pytest.raises(UsageError, match="not both"):
        parse_sweep("truncation=0.5,1").options({"truncation": 0.7})
    assert {"truncation", "truncation_cutoff", "noise", "steps", "labels"} <= set(sweepable())
    assert all(OPTIONS[name].section == "generator" for name in sweepable())


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepRecord, Path]:
    """A sweep of a function, in a program."""
    patch = pytest.MonkeyPatch()
    patch.setattr(scoring, "choose_examples", lambda *_, **__: {})
    patch.setattr(scoring, "write_report", lambda *_: None)
    out = tmp_path_factory.mktemp("sweep") / "out"
    try:
        record = sweep(
            shrunk, "truncation", [0.0, 0.5, 1.0], out=out,
            samples=SAMPLES, recognizer=ReadsWritten(32), latent_dim=6, batch=500,
        )  # fmt: skip
    finally:
        patch.undo()
    return record, out


def test_each_value_has_the_score_that_it_has_alone(swept: tuple[SweepRecord, Path]) -> None:
    record, out = swept
    assert (record.option, record.kind) == ("truncation", "function")
    assert [point.value for point in record.points] == [0.0, 0.5, 1.0]
    for point in record.points:
        alone = score(
            lambda z, psi=point.value: shrunk(z, psi),  # type: ignore[misc]
            SAMPLES, recognizer=ReadsWritten(32), latent_dim=6, batch=500,
        )  # fmt: skip
        counts = np.load(out / point.folder / "histogram.npy")
        np.testing.assert_array_equal(counts, alone.counts)
        assert point.divergence.value == alone.divergence.value
        assert point.divergence.low <= point.divergence.reported <= point.divergence.high
    values = [point.divergence.value for point in record.points]
    assert values[0] == pytest.approx(np.prod(BIN_SHAPE) - 1)  # one bin alone
    assert values[0] > values[1] > values[2]
    assert record.points[2].passed and not record.points[1].passed


def test_the_file_and_the_page(swept: tuple[SweepRecord, Path]) -> None:
    record, out = swept
    again = SweepRecord.model_validate(json.loads((out / "sweep.json").read_text()))
    assert again.model_dump() == record.model_dump()
    page = (out / "report.html").read_text()
    check_page(page)
    assert page == sweep_page(record)
    for point in record.points:
        assert f'href="{point.folder}/report.html"' in page
    text = describe_sweep(record)
    assert text in describe_sweep(again)
    assert "165,887" in text and "truncation" in text


def test_fidelity_is_drawn_where_it_was_measured(
    swept: tuple[SweepRecord, Path], tmp_path: Path
) -> None:
    share = {"value": 0.5, "low": 0.4, "high": 0.6}
    fidelity = {
        "images": 100, "beyond": {**share, "count": 50},
        **dict.fromkeys(("rmse", "fid", "kid", "precision", "recall"), share),
    }  # fmt: skip
    content = swept[0].to_json()
    for point in content["points"]:
        point["fidelity"] = fidelity
    record = SweepRecord.model_validate(content)
    page = sweep_page(record)
    check_page(page)
    assert "Fidelity against distribution" in page and "recall" in page
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    assert browser() is None or cut_off(tmp_path, tmp_path / "page.html") == [[]]
    assert "Fidelity against distribution" not in sweep_page(swept[0])
    assert "50%" in describe_sweep(record)


def test_values_that_are_no_numbers_are_drawn_in_their_order(
    swept: tuple[SweepRecord, Path],
) -> None:
    content: dict[str, Any] = swept[0].to_json()
    content["option"] = "noise"
    for point, value in zip(content["points"], ("const", "random", "none"), strict=True):
        point["value"] = value
    page = sweep_page(SweepRecord.model_validate(content))
    check_page(page)


GENERATOR = """
from tests.benchmark.scoring.test_sweep import shrunk
latent_dim = 6
"""


def test_the_command(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scoring, "choose_examples", lambda *_, **__: {})
    monkeypatch.setattr(scoring, "write_report", lambda *_: None)
    monkeypatch.setattr(score_run, "load_recognizer", lambda *_: ReadsWritten(32))
    monkeypatch.setattr(code_process, "_Child", SameProcess)
    (tmp_path / "gen.py").write_text(GENERATOR)
    base = ["score", "gen.py:shrunk", "--trust", "--samples", SAMPLES, "--batch", 500]
    base += ["--device", "cpu", "--sweep", "truncation=0.5,1"]
    status, out, err = run(*base, "--json")
    assert status == 0, err
    said = json.loads(out)
    assert [point["value"] for point in said["points"]] == [0.5, 1.0]
    folder = tmp_path / "score-gen.py-shrunk-truncation"
    assert json.loads((folder / "sweep.json").read_text()) == said
    assert (folder / "truncation=0.5" / "result.json").is_file()
    status, out, err = run(*base)  # all is there already
    assert status == 0 and "reduced chi-square" in out and "165" not in out, err
    assert run("compare", folder)[0] == 0
    for more, message in [
        (["--truncation", 0.5], "not both"),
        (["--out", "gen.py"], "is a file"),
        (["--out", str(tmp_path)], "holds other files"),
    ]:
        status, _, err = run(*base, *more)
        assert status == 2 and message in err
    assert run("score", "x.npy", "--sweep", "truncation=0.5")[0] == 2
