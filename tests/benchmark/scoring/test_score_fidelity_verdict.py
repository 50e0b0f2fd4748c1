"""What a score with fidelity says of four kinds of sources, in results, texts and pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from shapeshd.benchmark.fidelity import measure
from shapeshd.benchmark.report.html import report_page
from shapeshd.benchmark.report.pictures import load_rerenders
from shapeshd.benchmark.report.tables import residual_rows, statistic_rows
from shapeshd.benchmark.report.terminal import WIDTH, describe
from shapeshd.benchmark.result.fidelity import ResidualRecord
from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.result.verdict import joint_verdict
from shapeshd.benchmark.score_object import Score
from shapeshd.benchmark.scoring import score as scoring
from shapeshd.errors import ShapesHDError
from tests.support.fake_fidelity import (
    Grainy,
    Means,
    WritesFactors,
    run,
)
from tests.support.fake_scores import Written
from tests.support.html_check import Page
from tests.support.simulated_results import fidelity as measured_fidelity


@pytest.fixture(autouse=True)
def quick(no_page: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "Renderer", WritesFactors)


def without_fidelity(result: Result) -> dict[str, Any]:
    return {name: value for name, value in result.to_json().items() if name != "fidelity"}


def entry(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (out / "result.json").read_text(), parse_constant=pytest.fail
    )
    return found["fidelity"]


class Repeated(Written):
    """Five perfect images, again and again."""

    def bins(self, start: int, stop: int) -> np.ndarray:
        return super().bins(0, 5)[np.arange(start, stop) % 5]


class GrainyRepeated(Grainy, Repeated):
    """Five bad ones."""


CASES = {
    "right and real": (
        Written,
        "Right and real: the images are as close",
    ),
    "diverse but bad": (Grainy, "Diverse but bad: "),
    "pretty but collapsed": (Repeated, "Pretty but collapsed: the images are as close"),
    "bad and wrong": (GrainyRepeated, "Bad and wrong: "),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "Renderer", WritesFactors)
        patch.setattr(scoring, "write_report", lambda *_: None)
        for name, (source, _) in CASES.items():
            run(folder / name, source())
    return {name: folder / name for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_tells_the_four_cases_apart(cases: dict[str, Path], name: str) -> None:
    found = entry(cases[name])["verdict"]
    assert found["name"] == name
    assert found["text"].startswith(CASES[name][1])
    assert found["distribution"] is (name in ("right and real", "diverse but bad"))
    assert found["fidelity"] is (name in ("right and real", "pretty but collapsed"))


def test_a_collapse_is_in_result_and_score(cases: dict[str, Path]) -> None:
    for name, out in cases.items():
        result = read_result(out)
        assert isinstance(result, Result)
        found = Score(result, np.load(out / "histogram.npy")).collapse
        assert found == result.collapse
        repeats = name in ("pretty but collapsed", "bad and wrong")
        assert (found and found.occupied) == (5 if repeats else None)


def test_pretty_but_biased_is_not_called_collapsed() -> None:
    residual = measured_fidelity()["residual"] | {"ok": True}
    for place, value in ((residual["psnr"], 44.0), (residual["psnr"]["floor"], 44.1)):
        place["mean"]["value"] = value
    found = joint_verdict(False, ResidualRecord.model_validate(residual)).to_json()
    assert found["name"] == "pretty but biased"
    assert "44.0 dB on average, real images 44.1 dB" in found["text"]


def test_bad_images_hardly_move_recall_and_repeats_do(cases: dict[str, Path]) -> None:
    coverage = {name: entry(out)["statistics"]["coverage"]["value"] for name, out in cases.items()}
    assert coverage["pretty but collapsed"] < 0.2 < 0.7 < coverage["right and real"]


@pytest.mark.parametrize("name", CASES)
def test_people_read_it(cases: dict[str, Path], name: str) -> None:
    result = read_result(cases[name])
    assert isinstance(result, Result) and result.fidelity is not None
    text = describe(result)
    assert max(map(len, text.splitlines())) <= WIDTH
    plain = " ".join(text.split())
    for said in (result.fidelity.verdict.text, result.verdict.text):
        assert "".join(plain.split()).count("".join(said.split())) == 1
    assert len(re.findall("(?:ok|DIFFERS|WRONG IMAGES): ", plain)) == 1
    for words in ("residual", "PSNR, dB", "hue error", "coverage", "perfect generator"):
        assert words in plain


def test_the_page_holds_verdict_tables_and_pictures(cases: dict[str, Path]) -> None:
    out = cases["diverse but bad"]
    result = read_result(out)
    assert isinstance(result, Result)
    pictures = load_rerenders(out / "fidelity.npz")
    page = Page(report_page(result, None, pictures))
    assert page.problems == []
    assert "Diverse but bad: " not in page.text  # the name stands above the text
    assert "Diverse but bad" in page.text
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text
    beside = [image for image in page.images if "beside its re-render" in (image["alt"] or "")]
    assert len(beside) == 12
    assert any("against the mean RMSE" in (image["alt"] or "") for image in page.images)
    assert result.fidelity is not None
    for cells in (*residual_rows(result.fidelity), *statistic_rows(result.fidelity)):
        assert [cell for cell in cells if cell not in page.text] == []
    for digest in (Means.digest, WritesFactors.digest):
        assert digest in page.text


def test_damaged_pictures_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "fidelity.npz").write_bytes(b"PK no zip")
    with pytest.raises(ShapesHDError, match="holds no pictures"):
        load_rerenders(tmp_path / "fidelity.npz")


def test_no_pictures_are_no_reason_to_lose_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Forgetful(Written):
        def images(self, start: int, stop: int) -> Tensor:
            if max(self.asked, default=(0, 0))[0] > 5_000 and stop - start == 1:
                raise self.error
            return super().images(start, stop)

    result = run(tmp_path / "out", Forgetful())
    assert result is not None
    assert result.fidelity is not None and result.fidelity.examples.file is None
    assert "no images beside their re-renders" in capsys.readouterr().err
    assert not (tmp_path / "out" / "fidelity.npz").exists()
