"""The report: what it says is what was measured, and it opens anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shapeshd.benchmark.fidelity import residual
from shapeshd.benchmark.report import pictures
from shapeshd.benchmark.report.figures.factors import band, dependence
from shapeshd.benchmark.report.figures.score import score_figure
from shapeshd.benchmark.report.figures.style import NARROW
from shapeshd.benchmark.report.html import report_page, write_report
from shapeshd.benchmark.report.sections import decomposition_section
from shapeshd.benchmark.report.tables import score_rows
from shapeshd.benchmark.report.terminal import describe
from shapeshd.benchmark.result import formatting
from shapeshd.errors import ShapesHDError
from tests.support.html_check import Page, browser, cut_off, in_browser
from tests.support.simulated_results import DENSITIES, simulated, simulated_result, write_result

KINDS = [*DENSITIES, "constant"]
PAGES = ("unbiased", "dropped", "everything", "constant")
NO_BROWSER = "neither chromium, chromium-browser nor google-chrome is installed"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {
        kind: write_report(simulated_result(kind), write_result(folder / kind, kind))
        for kind in PAGES
    }


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_is_sound_small_and_self_contained(pages: dict[str, Path], kind: str) -> None:
    text = pages[kind].read_text()
    page = Page(text)
    assert page.problems == []
    assert len(page.images) > 10
    assert len(text) < 2_000_000
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text


@pytest.mark.parametrize("kind", PAGES)
def test_its_numbers_are_those_of_the_result(pages: dict[str, Path], kind: str) -> None:
    result, text = simulated_result(kind), Page(pages[kind].read_text()).text
    fit = result.fit
    wanted = [
        result.verdict.text,
        formatting.with_interval(fit.prediction.reduced_chi_square),
        formatting.with_interval(fit.divergence),
        f"{fit.empty_bins.observed:,}",
        f"{result.samples:,}",
        *(formatting.with_interval(part.delta) for part in result.decomposition.parts),
        *(f"{count:,}" for counts in result.marginals.values() for count in counts),
        str(result.recognizer.digest),
        result.versions["torch"],
        "resized to 64 x 64",
        "7.64",
    ]
    assert [words for words in wanted if " ".join(words.split()) not in text] == []


def test_it_says_what_3dshapeshd_is_and_links_to_it(pages: dict[str, Path]) -> None:
    text = pages["unbiased"].read_text()
    assert "3DShapesHD is images of a room" in text
    assert '<a href="https://github.com/google-deepmind/3dshapes-dataset">3dshapes</a>' in text


def test_names_in_a_narrow_figure_are_whole() -> None:
    rows = score_rows(simulated_result("full"))
    (axes,) = score_figure(rows, NARROW).axes
    names = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    assert names == [row.name for row in rows]
    assert "memorizer of 500,000 images" in names
    for name, shown in (
        ("a" * 30, f"{20 * 'a'}\n{10 * 'a'}"),
        ("model:mini/contrast/gan", "model:mini/contrast/\ngan"),
        ("contrast, mini, after phase 2 (adversarial autoencoder)",
         "contrast, mini,\nafter phase 2\n(adversarial\nautoencoder)"),
        ("a" * 100, f"{20 * 'a'}\n{20 * 'a'}\n…{19 * 'a'}\n{20 * 'a'}"),
    ):  # fmt: skip
        (axes,) = score_figure([replace(row, name=name) for row in rows], NARROW).axes
        assert axes.get_yticklabels()[0].get_text() == shown


def test_sheets_tell_samples_from_what_is_missing(pages: dict[str, Path]) -> None:
    page = Page(pages["dropped"].read_text())
    traced = [image for image in page.images if "what is missing" in (image["alt"] or "")]
    assert len(traced) == page.text.count("rendered, not sampled") == 6
    assert "Emptiest cells of object hue × shape" in page.text
    assert "object hue 240–270°, shape capsule" in page.text


@pytest.mark.usefixtures("no_figures")  # in which test_names.py has such names
def test_a_hostile_name_shows_as_text() -> None:
    name = "<script>alert('x')</script>$\\frac{1$"
    result = simulated("coupled")
    result["source"] |= {"name": name, "kind": "<b>", "<i>": {"<u>": "<img src=x onerror=y>"}}
    result["verdict"]["text"] = "<script>1</script>"
    result["versions"]["<s>"] = "</dd></body>"
    page = Page(report_page(simulated_result("coupled", **result)))
    assert page.problems == []
    assert name in page.text
    assert "<img src=x onerror=y>" in page.text


@pytest.mark.usefixtures("no_figures")
def test_what_was_not_recorded_is_said() -> None:
    result = simulated("tilted")
    recognizer = {"name": "mine", "digest": "", "size": 64, "accuracy": None, "noise_floor": None}
    result |= {"recognizer": recognizer, "attenuation": None, "examples": {"file": None}}
    typed = simulated_result("tilted", **result)
    text = Page(report_page(typed)).text
    assert "accuracy of this recognizer is not recorded" in text
    assert "No images were kept" in text
    assert "not recorded" in describe(typed)


def test_damaged_examples_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "examples.npz").write_bytes(b"PK no zip")
    with pytest.raises(ShapesHDError, match="holds no examples") as error:
        write_report(simulated_result("tilted"), tmp_path)
    assert "\n" not in str(error.value)


def test_the_same_result_gives_the_same_page(pages: dict[str, Path]) -> None:
    before = pages["constant"].read_bytes()
    assert write_report(simulated_result("constant"), pages["constant"]).read_bytes() == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_terminal_table(kind: str) -> None:
    source = {**simulated(kind)["source"], "name": "a/very/long/path/" * 8 + "generator.pt"}
    result = simulated_result(kind, source=source)
    text = describe(result)
    assert max(map(len, text.splitlines())) <= 100
    for words in ("generator.pt", "ideal sampler", "memorizer", "detection limit", "empty bins"):
        assert words in text
    assert formatting.with_interval(result.fit.divergence) in text
    for part in result.decomposition.significant:
        assert f"  {formatting.part_name(part.factors)} " in text


def test_most_of_a_collapse_is_named_by_its_name() -> None:
    """All samples lie in one bin: each factor is wrong, but D lies in their products."""
    result = simulated_result("constant")
    lines = describe(result).splitlines()
    (heads,) = [number for number, line in enumerate(lines) if "what is wrong" in line]
    assert "together: higher-order interactions" in lines[heads + 1]
    assert lines[heads + 1].endswith("95%")
    summary = decomposition_section(result)["summary"]
    assert summary.endswith("Together these make higher-order interactions (95%).")
    words = str(result.decomposition.summary)
    assert "Together they make higher-order interactions of four factors and more (" in words
    assert "0% of" not in words
    assert decomposition_section(simulated_result("tilted"))["summary"].count("Together") == 0


def test_parts_of_a_source_that_passed_are_within_the_errors() -> None:
    passed = {"passed": True, "text": "No deviation."}
    words = "That is within the recognizer's errors."
    said = decomposition_section(simulated_result("tilted", verdict=passed))["summary"]
    assert said.endswith(words)
    for result in (simulated_result("tilted"), simulated_result("unbiased")):
        assert words not in decomposition_section(result)["summary"]


def test_dependence_and_band() -> None:
    outer = np.multiply.outer([10, 20, 0], [3, 5])
    assert np.allclose(dependence(outer)[:2], 1)
    assert np.isnan(dependence(outer)[2]).all()
    draws = np.random.default_rng(0).binomial(20_000, 1 / 12, 50_000)
    low, high = band(20_000, 1 / 12)
    assert 0.94 < ((draws >= low) & (draws <= high)).mean() < 0.97


@pytest.mark.skipif(browser() is None, reason=NO_BROWSER)
@pytest.mark.parametrize(("width", "height"), [(1200, 900), (500, 900)])
def test_a_browser_shows_it(
    pages: dict[str, Path], tmp_path: Path, width: int, height: int
) -> None:
    shot = tmp_path / "shot.png"
    options = (f"--window-size={width},{height}", f"--screenshot={shot}")
    in_browser(pages["everything"], tmp_path / "profile", *options)
    with Image.open(shot) as picture:
        assert picture.width == width
        assert len(picture.convert("RGB").getcolors(2**24) or ()) > 50


@pytest.mark.skipif(browser() is None, reason=NO_BROWSER)
def test_nothing_is_cut_off_on_a_phone(pages: dict[str, Path], tmp_path: Path) -> None:
    wide = tmp_path / "wide.html"
    wide.write_text('<p style="width:500px">wide</p>')  # so that the look can fail
    assert cut_off(tmp_path, pages["everything"], wide) == [[], ["P reaches to 508: wide"]]


@pytest.mark.skipif(browser() is None, reason=NO_BROWSER)
def test_a_browser_reads_all_of_it(pages: dict[str, Path], tmp_path: Path) -> None:
    dom = in_browser(pages["dropped"], tmp_path / "profile", "--dump-dom")
    page = Page(dom)
    assert page.problems == []
    assert page.text == Page(pages["dropped"].read_text()).text
    assert "What is wrong: the parts of the divergence" in page.text


def test_all_data_uris_decode(pages: dict[str, Path]) -> None:
    import base64
    import io
    import xml.etree.ElementTree as ET

    images: list[dict[str, Any]] = Page(pages["everything"].read_text()).images
    for image in images:
        head, data = image["src"].split(",", 1)
        raw = base64.b64decode(data, validate=True)
        if "svg" in head:
            assert ET.fromstring(raw).tag.endswith("svg")
        else:
            with Image.open(io.BytesIO(raw)) as picture:
                picture.load()


def test_pictures_know_the_columns_of_the_residuals() -> None:
    assert pictures._RESIDUALS == residual.MEASURES
