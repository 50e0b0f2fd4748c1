"""The leaderboard: ranks against brute force and simulation, its files, entries, warnings."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shapeshd.benchmark.leaderboard.compare import compare
from shapeshd.benchmark.leaderboard.entry import (
    command_without_folders,
    entry_of,
    without_folders,
)
from shapeshd.benchmark.leaderboard.ranking import places, ranks, significantly_different
from shapeshd.benchmark.leaderboard.row import leaderboard_row
from shapeshd.benchmark.leaderboard.writers import comparison_markdown
from shapeshd.benchmark.recognizer.card import RecognizerCard
from shapeshd.benchmark.recognizer.data import origin_of
from shapeshd.benchmark.recognizer.recognizer import SHIPPED, load_recognizer
from shapeshd.benchmark.scoring.provenance import content_digest, scene_of
from shapeshd.benchmark.statistics.chi_square import divergence_statistic
from shapeshd.benchmark.statistics.histogram import read_histogram
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import open_dataset
from shapeshd.factors import NUM_BINS
from shapeshd.render.engines import ENGINES, engine_named
from tests.support.html_check import Page
from tests.support.simulated_results import fidelity, simulated, simulated_result, write_result

Run = Callable[..., tuple[int, str, str]]

MODELS = st.lists(
    st.tuples(st.floats(-1, 20) | st.just(math.inf), st.sampled_from([0.0, 0.05, 0.5, 3.0])),
    min_size=1,
    max_size=9,
)


def z_test(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The p-value of a pair, by SciPy's normal distribution."""
    if a[0] == b[0]:
        return 1.0
    error = math.hypot(a[1], b[1])
    return 2 * stats.norm.cdf(-abs(a[0] - b[0]) / error) if error else 0.0


def holm(models: list[tuple[float, float]], level: float) -> set[tuple[int, int]]:
    """Pairs that are significantly different, as Holm wrote it down: the smallest p-value first."""
    pairs = list(itertools.combinations(range(len(models)), 2))
    ordered = sorted(pairs, key=lambda pair: z_test(models[pair[0]], models[pair[1]]))
    apart: set[tuple[int, int]] = set()
    for left, (a, b) in zip(range(len(pairs), 0, -1), ordered, strict=True):
        if z_test(models[a], models[b]) > level / left:
            break
        apart |= {(a, b), (b, a)}
    return apart


@given(MODELS)
@settings(max_examples=150, deadline=None)
def test_pairs_and_ranks_against_holms_own_words(models: list[tuple[float, float]]) -> None:
    values, errors = zip(*models, strict=True)
    apart = significantly_different(values, errors)
    expected = holm(models, 0.05)
    assert {(int(a), int(b)) for a, b in np.argwhere(apart)} == expected
    found = ranks(values, apart)
    for row, value in enumerate(values):
        better = [b for b in range(len(values)) if values[b] < value and (row, b) in expected]
        assert found[row] == 1 + len(better)
    for a, b in expected:  # so those of equal rank are never significantly different
        assert (found[a] < found[b]) == (values[a] < values[b])
        assert found[a] != found[b]


def test_known_ranks() -> None:
    values, errors = [0.0, 0.01, 0.5, 0.5, math.inf, math.inf], [0.01] * 6
    apart = significantly_different(values, errors)
    assert ranks(values, apart) == [1, 1, 3, 3, 5, 5]
    assert not significantly_different([1.0], [0.1]).any()
    wide = significantly_different([0.0, 0.3, 1.0], [0.05, 2.0, 0.05])  # the middle one is anywhere
    assert wide[0, 2] and not wide[0, 1] and not wide[1, 2]
    assert ranks([0.0, 0.3, 1.0], wide) == [1, 1, 2]


def test_equally_good_models_are_rarely_split() -> None:
    """Of 150 tables of four models of one distribution, about 5% are split, ideal or not."""
    rng = np.random.default_rng(5)
    tilt = np.repeat([1.3, 1.1, 0.9, 0.7], NUM_BINS // 4) / NUM_BINS
    for distribution in (np.full(NUM_BINS, 1 / NUM_BINS), tilt):
        drawn = (read_histogram(rng.multinomial(20_000, distribution)) for _ in range(60))
        fits = [divergence_statistic(one.counts, one.weights).estimate() for one in drawn]
        values = np.array([fit.value for fit in fits])
        errors = np.array([fit.standard_error for fit in fits])
        tables = [rng.choice(60, 4, replace=False) for _ in range(150)]
        split = sum(significantly_different(values[rows], errors[rows]).any() for rows in tables)
        assert split <= stats.binom.ppf(0.9999, 150, 0.06)
        # z of pairs is standard normal: its variance is 1
        z = (values[::2] - values[1::2]) / np.hypot(errors[::2], errors[1::2])
        assert 0.5 < z.std() < 1.5


def test_what_lies_outside_of_the_distribution_comes_last_and_distributions_are_ranked_apart() -> (
    None
):
    distribution = {
        "text": "scale 1,0",
        "digest": "aa",
        "bins": 2,
        "probabilities": {},
        "measurement_error": None,
    }
    wrong = {"samples": 10, "bins": 1, "share": 0.1, "explained": 0.0, "surely": 0.05,
             "wrong": True}  # fmt: skip
    found = places(
        [
            simulated_result("unbiased"),
            simulated_result("everything"),
            simulated_result("unbiased", outside=wrong),
            simulated_result("everything", distribution=distribution),
            simulated_result("tilted", distribution=distribution),
        ]
    )
    assert [place.rank for place in found] == [1, 2, 3, 2, 1]
    assert [place.not_different_from for place in found] == [(), (), (), (), ()]
    assert leaderboard_row(simulated_result("unbiased", outside=wrong))["divergence"] == math.inf


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
    (folder / "cut.json").write_text('{"format": "shapeshd-ent')
    status, _, err = run("compare", folder)
    (folder / "cut.json").unlink()
    assert status == 2
    assert "cut.json: is no result" in err
    status, _, err = run("compare", folder, folder / "b")
    assert status == 2
    assert "is the same result as" in err


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
    again = compare([board])
    row = again.leaderboard_rows()[2]
    assert row["command"] == "shapeshd score 'a|b.pt' --trust --seed 3"
    assert [entry_of(one) for one in again.results] == list(again.results)


def _without_examples(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result["fidelity"].items() if name != "examples"}


def test_where_entries_cannot_be_written(folder: Path, run: Run, tmp_path: Path) -> None:
    status, _, err = run("compare", folder, "--entry", tmp_path / "none")
    assert status == 2
    assert "there is no such folder" in err
    for name in "ab":
        source = {"name": f"x{name}/../g.pt", "kind": "torchscript", "count": None}
        write_result(tmp_path / name, "tilted", images=False, source=source)
    (tmp_path / "out").mkdir()
    assert run("compare", tmp_path / "a", "--out", tmp_path / "x.md", "--out",
               tmp_path / "out" / ".." / "x.md")[0] == 2  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/b/g.pt", "g.pt"),
        ("/a/b/pipeline/", "pipeline"),
        ("~/g.pt", "g.pt"),
        ("runs/g.pt", "runs/g.pt"),
        ("../g.pt", "../g.pt"),
        ("cmd:/opt/x/sampler --weights=/data/w.bin {seed}", "cmd:sampler --weights=w.bin {seed}"),
        ("/a b/c d.py:make", "c d.py:make"),
        ("render:0:20000,size=64", "render:0:20000,size=64"),
        ("0 / 255", "0 / 255"),
    ],
)
def test_folders_of_the_machine_are_cut_off(text: str, expected: str) -> None:
    assert without_folders(text) == expected


def test_commands_without_their_output() -> None:
    assert command_without_folders("shapeshd score '/x y/g.pt' --out=/a --seed 1 --out b") == (
        "shapeshd score g.pt --seed 1"
    )
    assert command_without_folders("shapeshd 'score") is None
    assert command_without_folders(None) is None


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


def test_the_scene_of_a_recognizer(tmp_path: Path) -> None:
    spec = RenderSpec(3, 10, 64)
    origin = origin_of(open_dataset(spec), spec).to_json()
    installed = {engine: engine_named(engine).scene_sha256() for engine in ENGINES}
    assert origin["scene_sha256"] == installed["torch"]
    for digest, expected in (
        *((digest, True) for digest in installed.values()),
        ("22" * 32, False),
        (None, None),
    ):
        card = {"training": {"data": {**origin, "scene_sha256": digest}}}
        found = scene_of(RecognizerCard.read(card))
        assert (found["sha256"], found["installed"]) == (installed["torch"], expected)
    assert scene_of(RecognizerCard())["trained_on"] is None
    for name in SHIPPED:
        assert scene_of(load_recognizer(name).card)["renderer"] == "shapeshd twin 1"


def test_the_digest_of_a_source_is_that_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "g.py"
    file.write_bytes(b"def make(z): ...")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    def found(name: object) -> str | None:
        return content_digest(SimpleNamespace(name=str(name)))  # type: ignore[arg-type]

    assert found(file) == found(f"{file}:make") == digest
    assert found(tmp_path) is None  # a folder of images would be
    assert found("render:0:10") is None
    (tmp_path / "model_index.json").write_text("{}")
    before = found(tmp_path)
    assert before != digest
    file.write_bytes(b"other weights")
    assert found(tmp_path) != before
    file.write_bytes(b"def make(z): ...")
    assert found(tmp_path) == before
    file.rename(tmp_path / "h.py")
    assert found(tmp_path) not in (None, before)


def test_tar_files_are_told_from_others_of_their_names(tmp_path: Path) -> None:
    def found() -> str | None:
        return content_digest(SimpleNamespace(name=f"{tmp_path}/s-{{0..1}}.tar"))  # type: ignore[arg-type]

    assert found() is None
    for number in range(2):
        (tmp_path / f"s-{number}.tar").write_bytes(b"images")
    before = found()
    assert before is not None
    (tmp_path / "s-1.tar").write_bytes(b"others")
    assert found() not in (None, before)
