"""`shapeshd compare`: order, warnings, and one clear line for what is no result."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from shapeshd.benchmark.leaderboard.compare import compare
from shapeshd.benchmark.leaderboard.entry import entry_of
from shapeshd.benchmark.recognizer.find import find_recognizer
from shapeshd.benchmark.result.formatting import with_interval
from shapeshd.benchmark.result.read import read_result
from shapeshd.engines.engine import engine_named
from shapeshd.support.checkpoint import read_card
from tests.support.html_check import Page
from tests.support.simulated_results import simulated, simulated_result, write_result

Run = Callable[..., tuple[int, str, str]]
LITE = read_card(find_recognizer("lite"), "recognizer")["sha256"]
RAY_TRACER = engine_named("torch").scene_sha256()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("results")
    kinds = ("everything", "unbiased", "tilted", "full", "constant")
    return {kind: write_result(root / kind, kind, images=False) for kind in kinds}


def test_the_best_comes_first_beside_the_references(folders: dict[str, Path], run: Run) -> None:
    status, out, err = run("compare", *folders.values())
    assert (status, err) == (0, "")
    places = [out.index(f"{name}") for name in
              ("unbiased.pt", "full.pt", "tilted.pt", "everything.pt", "ideal sampler",
               "memorizer")]  # fmt: skip
    assert places == sorted(places)
    for kind in folders:
        predicted = simulated_result(kind).fit.prediction.reduced_chi_square
        assert with_interval(predicted) in out
    assert "wall hue × object hue 0.0734" in out
    assert max(len(line) for line in out.splitlines() if not line.startswith("warning")) <= 100


def test_json(folders: dict[str, Path], run: Run) -> None:
    status, out, _ = run("compare", folders["tilted"] / "result.json", folders["full"], "--json")
    assert status == 0
    found = json.loads(out)
    assert [entry["name"] for entry in found["results"]] == ["full.pt", "tilted.pt"]
    assert found["results"][1]["divergence"] == simulated("tilted")["fit"]["divergence"]
    assert found["results"][1]["significant"] == ["scale"]
    assert [entry["rank"] for entry in found["results"]] == [1, 2]
    assert [entry["not_different_from"] for entry in found["results"]] == [[], []]
    assert len(found["warnings"]) == 2


def test_page(folders: dict[str, Path], run: Run, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    status, _, err = run("compare", *folders.values(), "--out", out)
    assert status == 0
    assert str(out) in err
    page = Page(out.read_text())
    assert page.problems == []
    assert len(page.images) == 2
    for kind in folders:
        assert with_interval(simulated_result(kind).fit.divergence) in page.text
    assert "different numbers of samples: " in page.text


def test_warnings_only_where_something_differs(folders: dict[str, Path], tmp_path: Path) -> None:
    assert compare([folders["unbiased"], folders["tilted"]]).warnings == ()
    recognizer = {**simulated("tilted")["recognizer"], "name": "hd", "digest": "ff" * 32}
    other = write_result(tmp_path / "x", "tilted", images=False, recognizer=recognizer)
    found = compare([folders["unbiased"], other, folders["full"]])
    for named, warning in zip(
        ("recognizers", "protocols", "numbers of samples"), found.warnings, strict=True
    ):
        assert named in warning
    assert found.warnings[0].endswith(": lite 0f0f0f0f, hd ffffffff")
    names = [row.name for row in found.rows()]
    assert len([name for name in names if name.startswith("real images")]) == 2


def test_versions_that_differ_are_told_and_older_files_are_of_the_first(tmp_path: Path) -> None:
    scene = {"sha256": "11" * 32, "renderer": None, "trained_on": None, "installed": None}
    lite = {**simulated("tilted")["recognizer"], "name": "lite"}

    def made(name: str, version: int | None, **more: Any) -> Path:
        digest = f"{version}{version}" * 32 if version else LITE
        versions = {} if version is None else {"version": version}
        known = {**scene, "sha256": digest if version else RAY_TRACER, **versions}
        said = {**lite, "digest": digest, **versions}
        if version:
            more = {"protocol_version": version, **more}
        return write_result(
            tmp_path / name, "tilted", images=False, scene=known, recognizer=said, **more
        )

    old, same = made("old", None), made("same", None, protocol_version=1)
    assert compare([old, same]).warnings == ()
    found = compare([old, made("next", 2)])
    assert found.warnings == (
        f"they were read by different recognizers: lite version 1 {LITE[:8]}, lite version 2 "
        "22222222",
        "they are of different scenes: version 1, version 2",
        "their numbers were computed by different versions of the protocol: 1, 2",
    )
    rows = found.leaderboard_rows()
    names = ("scene_version", "recognizer_version", "protocol_version")
    assert {tuple(row[name] for name in names) for row in rows} == {(1, 1, 1), (2, 2, 2)}
    entry = entry_of(read_result(made("again", 2)))
    assert (entry.scene and entry.scene.version, entry.recognizer.version) == (2, 2)
    assert entry.protocol_version == 2


def test_scenes_of_one_version_compare_whatever_their_digests(tmp_path: Path) -> None:
    scene = {"renderer": None, "trained_on": None, "installed": None, "version": 1}
    paths = [
        write_result(tmp_path / name, "tilted", images=False, scene={**scene, "sha256": name * 64})
        for name in "ab"
    ]
    assert compare(paths).warnings == ()


def test_equal_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = [write_result(tmp_path / name, "tilted", images=False) for name in "ab"]
    assert sorted(compare(paths).names) == ["tilted.pt (a)", "tilted.pt (b)"]


def test_names_differ_wherever_results_of_one_source_lie(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = json.dumps(entry_of(simulated_result("tilted")).to_json())
    for place in ("run1/gen", "run2/gen", "other"):
        write_result(tmp_path / place, "tilted", images=False)
    for name in ("old/mini.json", "new/mini.json", "run1/gen.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(entry)
    monkeypatch.chdir(tmp_path / "other")
    paths = [tmp_path / name for name in ("run1", "run2", "old", "new")] + [Path()]
    found = compare(paths)
    assert sorted(found.names) == [
        "tilted.pt (new/mini.json)",
        "tilted.pt (old/mini.json)",
        "tilted.pt (other)",
        "tilted.pt (run1/gen)",
        "tilted.pt (run1/gen.json)",
        "tilted.pt (run2/gen)",
    ]
    for row in found.leaderboard_rows():
        assert {row["model"], *row["not_different_from"]} == set(found.names)
    (tmp_path / "board").mkdir()
    status, _, err = run("compare", *paths, "--entry", tmp_path / "board")
    assert status == 0, err
    assert len(list((tmp_path / "board").iterdir())) == 6


def test_each_reading_has_its_own_real_images(tmp_path: Path) -> None:
    recognizer = {**simulated("tilted")["recognizer"], "version": 7}
    floor = recognizer["noise_floor"]

    def made(name: str, value: float, **changes: Any) -> Path:
        reduced = {**floor["reduced_chi_square"], "reported": value, "high": value + 1}
        said = {**recognizer, "noise_floor": {**floor, "reduced_chi_square": reduced}, **changes}
        return write_result(tmp_path / name, "tilted", images=False, recognizer=said)

    def real(*paths: Path) -> dict[str, float]:
        rows = [row for row in compare(paths).rows() if row.name.startswith("real images")]
        assert len({row.name for row in rows}) == len(rows)
        return {row.name.removeprefix("real images through the recognizer"): row.value
                for row in rows}  # fmt: skip

    fp32, bf16 = made("a", 1.5), made("b", 2.5, precision="bf16")
    older = made("c", 3.5, digest="ee" * 32, version=6)
    assert real(fp32) == {"": 1.5}
    assert real(fp32, bf16) == {" in fp32": 1.5, " in bf16": 2.5}
    assert real(fp32, older) == {
        " lite version 7 0f0f0f0f": 1.5,
        " lite version 6 eeeeeeee": 3.5,
    }
    assert set(real(fp32, bf16, older).values()) == {1.5, 2.5, 3.5}


def test_each_recognizer_reads_a_distribution_in_its_own_way(tmp_path: Path) -> None:
    paths = []
    for name, value in (("a", 1.5), ("b", 2.5)):
        recognizer = {**simulated("tilted")["recognizer"], "digest": name * 64}
        read = {"name": "the distribution as it is read", "divergence": 0.1, "deviation": 0.1,
                "reduced_chi_square": value}  # fmt: skip
        paths.append(write_result(tmp_path / name, "tilted", images=False,
                                  recognizer=recognizer, references=[read]))  # fmt: skip
    rows = [row for row in compare(paths).rows() if not row.own]
    assert [row.value for row in rows] == [1.5, 2.5]


def test_a_warning_names_a_result_as_the_table_does(tmp_path: Path) -> None:
    outside = {"samples": 9, "bins": 1, "share": 0.1, "explained": 0.0, "surely": 0.05,
               "wrong": True}  # fmt: skip
    found = compare([
        write_result(tmp_path / name, "tilted", images=False, outside=said)
        for name, said in (("a", None), ("b", outside))
    ])  # fmt: skip
    (warning,) = (text for text in found.warnings if "infinite" in text)
    assert warning.startswith("tilted.pt (b): 9 of ")


def test_nothing_is_mainly_wrong_with_a_source_that_passed(tmp_path: Path) -> None:
    """A part that differs, but by no more than the recognizer's errors make."""
    said = {"passed": True, "text": "No deviation."}
    found = compare([
        write_result(tmp_path / "a", "tilted", images=False),
        write_result(tmp_path / "b", "tilted", images=False, verdict=said),
    ])  # fmt: skip
    by_folder = dict(zip((path.parent.name for path in found.paths), found.rows(), strict=False))
    assert by_folder["a"].mainly_wrong.startswith("scale 0.")
    assert by_folder["a"].numbers["mainly_wrong"] == "scale"
    assert by_folder["b"].mainly_wrong == "none"
    assert by_folder["b"].numbers["mainly_wrong"] is None
    assert by_folder["b"].numbers["mainly_wrong_divergence"] is None


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _fit(**changes: object) -> dict[str, object]:
    """Return a fit whose D is damaged."""
    fit: dict[str, object] = simulated("tilted")["fit"]
    return {**fit, "divergence": {**cast(dict[str, object], fit["divergence"]), **changes}}


def _run(**changes: object) -> dict[str, object]:
    return {**simulated("tilted")["run"], **changes}


def _marginals(scale: list[int]) -> dict[str, object]:
    return {**simulated("tilted")["marginals"], "scale": scale}


def _result(path: Path, **changes: object) -> Path:
    return _text(path, json.dumps(simulated("tilted", **changes)))


BAD: dict[str, tuple[Callable[[Path], Path], str, int]] = {
    "missing": (lambda p: p / "none", "no such file", 2),
    "empty folder": (lambda p: p, "holds no result.json", 2),
    "no JSON": (lambda p: _text(p / "x", "PK"), "not JSON", 2),
    "deep": (lambda p: _text(p / "x", "[" * 200_000), "not JSON", 2),
    "a list": (lambda p: _text(p / "x", "[]"), "is no result", 2),
    "other JSON": (lambda p: _text(p / "x", '{"format": "x"}'), "is no result", 2),
    "newer": (lambda p: _result(p / "x", format_version=3), "format_version 3", 2),
    "odd version": (lambda p: _result(p / "x", format_version="1"), "format_version '1'", 2),
    "no version": (lambda p: _result(p / "x", format_version=True), "format_version True", 2),
    "incomplete": (lambda p: _result(p / "x", fit={}), "fit.samples", 1),
    "no D": (lambda p: _result(p / "x", fit=_fit(value=None)), "fit.divergence.value", 1),
    "D is NaN": (lambda p: _result(p / "x", fit=_fit(value=math.nan)), "fit.divergence.value", 1),
    "D is infinite": (lambda p: _result(p / "x", fit=_fit(high=math.inf)), "divergence.high", 1),
    "D is huge": (lambda p: _result(p / "x", fit=_fit(value=10**400)), "fit.divergence.value", 1),
    "D is text": (lambda p: _result(p / "x", fit=_fit(value="0.1")), "fit.divergence.value", 1),
    "D is true": (lambda p: _result(p / "x", fit=_fit(value=True)), "fit.divergence.value", 1),
    "no error": (lambda p: _result(p / "x", fit=_fit(standard_error=-1.0)), "standard_error", 1),
    "odd command": (lambda p: _result(p / "x", run=_run(command=[1])), "run.command", 1),
    "unknown field": (lambda p: _result(p / "x", fit=_fit(median=1.0)), "divergence.median", 1),
    "a field of many lines": (lambda p: _result(p / "x", **{"a\nb" * 99: 1}), "a\\nba\\nb", 1),
    "bins of a factor": (lambda p: _result(p / "x", marginals=_marginals([1])), "marginals", 1),
    "another factor": (
        lambda p: _result(p / "x", pairs=[{"factors": ["scale", "size"], "counts": []}]),
        "pairs.0.factors.1",
        1,
    ),
    "empty result": (
        lambda p: _text(p / "x", '{"format": "shapeshd-result", "format_version": 2}'),
        "created",
        1,
    ),
    "empty result of version 1": (
        lambda p: _text(p / "x", '{"format": "shapeshd-result", "format_version": 1}'),
        "created",
        1,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_result_is_one_clear_line(case: str, tmp_path: Path, run: Run) -> None:
    make, named, expected = BAD[case]
    path = make(tmp_path)
    status, out, err = run("compare", path)
    assert (status, out) == (expected, "")
    assert named in err and str(path) in err
    assert err.count("\n") == 1
    if expected == 1:
        assert "`shapeshd score`" in err  # which writes it anew


def test_no_utf8_and_twice_the_same(tmp_path: Path, folders: dict[str, Path], run: Run) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    assert "not JSON" in run("compare", tmp_path / "x")[2]
    status, _, err = run("compare", folders["full"], folders["full"] / "result.json")
    assert status == 2
    assert "the same result" in err


def test_names_in_any_script_and_none_that_steers_a_terminal(tmp_path: Path, run: Run) -> None:
    entry = entry_of(simulated_result("tilted"), "日本\x1b[31m\x00")
    path = _text(tmp_path / "x.json", json.dumps(entry.to_json()))
    status, out, err = run("compare", path, "--out", tmp_path / "x.html")
    assert (status, err) == (0, f"written: {tmp_path / 'x.html'}\n")
    assert r"日本\x1b[31m\x00" in out
    assert not any(letter in out for letter in "\x1b\x00")


@pytest.mark.parametrize(
    ("name", "words"), [("page.pdf", "must end in .html"), ("no/page.csv", "there is no folder")]
)
def test_impossible_pages(
    folders: dict[str, Path], run: Run, tmp_path: Path, name: str, words: str
) -> None:
    status, out, err = run("compare", folders["full"], "--out", tmp_path / name)
    assert (status, out) == (2, "")
    assert words in err
