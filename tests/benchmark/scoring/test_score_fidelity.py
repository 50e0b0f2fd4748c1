"""`score --fidelity`: one pass, going on after anything, the one verdict, what people read."""

from __future__ import annotations

import json
import multiprocessing
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from shapeshd.benchmark.fidelity import measure, measurement_files
from shapeshd.benchmark.fidelity.measure import REAL_SEED, FidelitySettings
from shapeshd.benchmark.report.tables import statistic_rows
from shapeshd.benchmark.result.fidelity import FeatureStatisticsRecord
from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.scoring import score as scoring
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.cli import score_run
from shapeshd.errors import InterruptedRunError, ShapesHDError, UsageError
from shapeshd.factors import uniform_factors
from shapeshd.support.distributed import Ranks
from tests.support.fake_fidelity import (
    FEW,
    SAMPLES,
    SIDE,
    Grainy,
    Means,
    WritesFactors,
    run,
    run_as_rank,
)
from tests.support.fake_scores import ReadsWritten, Written

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def quick(no_page: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "Renderer", WritesFactors)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody has disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "Renderer", WritesFactors)
        patch.setattr(scoring, "write_report", lambda *_: None)
        run(out, Grainy(crowded=True))
    return out


def without_fidelity(result: Result) -> dict[str, Any]:
    return {name: value for name, value in result.to_json().items() if name != "fidelity"}


def entry(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (out / "result.json").read_text(), parse_constant=pytest.fail
    )
    return found["fidelity"]


def check_equal(out: Path, other: Path) -> None:
    one, two = entry(out), entry(other)
    one.pop("command"), two.pop("command")
    assert one == two
    with np.load(out / "fidelity.npz") as first, np.load(other / "fidelity.npz") as second:
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])


def stored(out: Path) -> list[str]:
    return sorted(path.name for path in (out / ".work").glob("fidelity-*/*.npz"))


def test_the_residual_is_that_of_the_images(whole: Path) -> None:
    images = Grainy(SIDE, crowded=True).images(0, FEW).float()
    clean = Written(SIDE, crowded=True).images(0, FEW).float()
    errors = (images - clean).square().mean((1, 2, 3)).sqrt()
    found = entry(whole)["residual"]
    assert found["images"] == FEW
    assert found["rmse"]["mean"]["value"] == pytest.approx(float(errors.mean()), rel=1e-5)
    assert found["rmse"]["floor"]["maximum"] == 0
    assert found["beyond_maximum"]["count"] == FEW
    assert not found["ok"]
    with np.load(whole / "fidelity.npz", allow_pickle=False) as pictures:
        worst = pictures["image_index"][pictures["kind"] == "worst"]
        assert worst.tolist() == torch.argsort(-errors, stable=True)[: len(worst)].tolist()
        shown = images[worst].permute(0, 2, 3, 1).byte().numpy()
        np.testing.assert_array_equal(pictures["images"][: len(worst)], shown)
        again = clean[worst].permute(0, 2, 3, 1).byte().numpy()
        np.testing.assert_array_equal(pictures["rerenders"][: len(worst)], again)


def test_one_pass_over_the_images(tmp_path: Path) -> None:
    plain, both = Written(), Written()
    run(tmp_path / "plain", plain, fidelity=None)
    features = Means()
    run(tmp_path / "both", both, features=features)
    assert [asked for asked in both.asked if asked[1] - asked[0] > 1] == [
        asked for asked in plain.asked if asked[1] - asked[0] > 1
    ]
    assert features.seen == FEW + 2 * FEW  # and twice as many real ones


def test_added_to_a_finished_score_without_counting_again(whole: Path, tmp_path: Path) -> None:
    out, source = tmp_path / "out", Grainy(crowded=True)
    first = run(out, source, fidelity=None)
    assert first is not None
    assert first.fidelity is None
    source.asked.clear()
    second = run(out, source)
    assert second is not None
    pieces_read = [asked for asked in source.asked if asked[1] - asked[0] > 8]
    assert pieces_read == [(0, 512)]
    assert without_fidelity(second) == first.to_json()
    check_equal(out, whole)
    source.asked.clear()
    assert run(out, source) == read_result(out)
    assert source.asked == [(0, 1), (0, 8), (4096, 4097)]  # to see that they are the same
    assert run(out, source, ranks=Ranks(1)) is None  # nor does a process that is not the first
    assert source.asked[3:] == [(0, 1)]


def test_more_images_measure_only_what_is_missing(tmp_path: Path) -> None:
    out, few, many = tmp_path / "out", Means(), Means()
    run(out, Grainy(), fidelity=600, features=few)
    run(out, Grainy(), fidelity=1_100, features=many)
    assert few.seen == 3 * 600
    # Pieces 0, 1 of the sample and 0, 1, 2 of the real ones: whole ones are not measured again.
    assert many.seen == (512 + 76) + (2_200 - 1_024)
    run(tmp_path / "once", Grainy(), fidelity=1_100)
    check_equal(out, tmp_path / "once")
    with pytest.raises(UsageError, match=r"1,100 images"):
        run(out, Grainy(), fidelity=600, features=few)
    assert few.seen == 3 * 600
    check_equal(out, tmp_path / "once")


def test_more_samples_keep_the_fidelity(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, Grainy())
    before = entry(out)
    run(out, Grainy(), samples=SAMPLES + 500, fidelity=None)
    after = entry(out)
    assert json.loads((out / "result.json").read_text())["samples"] == SAMPLES + 500
    assert (out / "fidelity.npz").exists()
    assert {**after, "verdict": None} == {**before, "verdict": None}
    assert after["verdict"]["fidelity"] == before["verdict"]["fidelity"]


def test_another_version_of_the_program_measures_nothing_again(whole: Path, tmp_path: Path) -> None:
    out, features = tmp_path / "out", Means()
    run(out, Grainy(crowded=True))
    written = json.loads((out / "result.json").read_text())
    written["versions"]["shapeshd"] = "0.0.1"
    (out / "result.json").write_text(json.dumps(written))
    plain = run(out, Grainy(crowded=True), fidelity=None)
    assert plain is not None
    assert plain.versions["shapeshd"] != "0.0.1"
    check_equal(out, whole)
    (out / "result.json").write_text(json.dumps(written))
    run(out, Grainy(crowded=True), features=features)
    assert features.seen == 0
    check_equal(out, whole)


class Killed(BaseException):
    """Ends a process at once, as SIGKILL does: nothing is caught or saved."""


@pytest.mark.parametrize("moment", range(4))
def test_killed_between_any_two_pieces(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Before a piece has its name, or after; in the count or in what follows it."""
    out, replace = tmp_path / "out", measurement_files.replace_file
    calls = 0

    def replaced(path: Path, write: Callable[[Path], object]) -> None:
        nonlocal calls
        calls += 1
        if calls > moment // 2:
            if moment % 2:
                replace(path, write)
            (path.parent / f".{path.name}-half").write_bytes(b"half")
            raise Killed
        replace(path, write)

    with monkeypatch.context() as patch:
        patch.setattr(measurement_files, "replace_file", replaced)
        with pytest.raises(Killed):  # at the piece of the sample, and at that of real images
            run(out, Grainy(crowded=True))
    run(out, Grainy(crowded=True))
    check_equal(out, whole)
    assert stored(out) == stored(whole)
    assert not list((out / ".work").glob("fidelity-*/.*"))


def test_an_interrupt_after_the_count(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(WritesFactors, "__call__", press)
        run(out, Grainy(crowded=True), fidelity=None)
        with pytest.raises(InterruptedRunError, match="all samples are counted"):
            run(out, Grainy(crowded=True))
    run(out, Grainy(crowded=True))
    check_equal(out, whole)


def test_a_damaged_piece_is_named_and_measured_again(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, Grainy(crowded=True))
    path = next((out / ".work").glob("fidelity-*/sample-*.npz"))
    path.write_bytes(path.read_bytes()[:-40])
    (out / "result.json").unlink()
    with pytest.raises(ShapesHDError, match=r"damaged; .*same command"):
        run(out, Grainy(crowded=True))
    run(out, Grainy(crowded=True))
    check_equal(out, whole)


def test_other_features_or_another_engine_share_nothing(tmp_path: Path) -> None:
    class Others(Means):
        digest = "3" * 64

    out, other = tmp_path / "out", Others()
    run(out, Written())
    run(out, Written(), features=other)
    assert other.seen == 3 * FEW
    assert entry(out)["settings"]["features"]["digest"] == "3" * 64


def test_two_processes_are_one(whole: Path, tmp_path: Path) -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.fake_fidelity"])
    out = tmp_path / "out"
    pair = [context.Process(target=run_as_rank, args=(out, rank, 2, port)) for rank in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(250)
    assert [process.exitcode for process in pair] == [0, 0]
    check_equal(tmp_path / "out", whole)
    assert stored(tmp_path / "out") == stored(whole)


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fidelity": 99}, "fidelity must be at least 100"),
        ({"fidelity": 6_001}, "fidelity=6001: more images"),
        ({"fidelity": 1.5}, "fidelity must be an integer"),
        ({"features": "vgg"}, "vgg"),
        ({"features": "inception:nowhere.pt"}, "nowhere.pt"),
    ],
)
def test_impossible_requests(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        run(tmp_path / "out", Written(), **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_recognizer_that_knows_the_real_images(tmp_path: Path) -> None:
    data = {"seed": REAL_SEED, "start": 10, "images": 50}
    reader = ReadsWritten(training={"data": data})
    with pytest.raises(UsageError, match=f"trained on .*seed {REAL_SEED}"):
        scoring.score_source(
            Written(),
            reader,
            tmp_path / "out",
            ScoreSettings(samples=SAMPLES, fidelity=FidelitySettings(FEW, features=Means())),
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "recognizer"], "--features goes with --fidelity"),
        (["--fidelity-engine", "povray"], "--fidelity-engine goes with --fidelity"),
        (["--fidelity", "50"], "--fidelity must be at least 100"),
        (["--fidelity", "7000"], "--fidelity 7000: more images"),
        (["--fidelity", "many"], "not a valid integer"),
        (["--fidelity", "200", "--features", "inception:no.pt"], "no.pt"),
    ],
)
def test_refusals_on_the_command_line(
    run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    base = ["score", "render:0:6000,size=64", "--recognizer", "lite", "--out", tmp_path / "out"]
    status, out, err = run(*base, "--device", "cpu", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len([line for line in err.splitlines() if "rror: " in line]) == 1
    assert not (tmp_path / "out").exists()


def test_the_command_line_asks_for_it(
    run: Run, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def load(text: str, *_: object, **__: object) -> Means:
        asked.append(text)
        return Means()

    monkeypatch.setattr(score_run, "open_source", lambda *_, **__: Grainy(SIDE, crowded=True))
    monkeypatch.setattr(score_run, "load_recognizer", lambda *_: ReadsWritten(SIDE))
    monkeypatch.setattr(measure, "load_features", load)
    monkeypatch.setattr(sys, "argv", ["shapeshd", "score", "written"])
    weights = tmp_path / "my.pt"
    weights.touch()
    options = ["--fidelity", FEW, "--features", f"vgg:{weights}", "--fidelity-engine", "torch"]
    out = tmp_path / "out"
    status, text, err = run(
        "score", "render:0:9", "--samples", SAMPLES, "--out", out, "--device", "cpu", *options
    )
    assert status == 0, err
    assert "Bad and wrong: " in text
    assert "residual" in text
    assert asked == [f"vgg:{weights}"]
    assert entry(out)["command"] == "shapeshd score written"
    check_equal(out, whole)


# The one verdict.


def test_real_images_are_of_the_tested_distribution(tmp_path: Path) -> None:
    from shapeshd.distribution import Distribution

    distribution = Distribution.from_json({"shape": {"weights": [1, 0, 0, 1]}})
    fidelity = measure.Fidelity(
        FEW, Means(), WritesFactors("", 64, torch.device("cpu")), ReadsWritten(), 64, distribution  # type: ignore[arg-type]
    )  # fmt: skip
    factors = fidelity._real.factors(0, 200)
    assert set(factors[:, 4]) == {0, 3}
    uniform = measure.Fidelity(
        FEW, Means(), WritesFactors("", 64, torch.device("cpu")), ReadsWritten(), 64  # type: ignore[arg-type]
    )  # fmt: skip
    np.testing.assert_array_equal(uniform._real.factors(0, 9), uniform_factors(REAL_SEED, 0, 9))
    assert uniform.settings["distribution"] is None
    assert fidelity.settings["distribution"] == distribution.digest


def test_the_inception_score_of_features_with_classes(tmp_path: Path) -> None:
    class Classed(Means):
        class_weights = np.random.default_rng(0).normal(size=(9, 6))

    rows, source = {}, Written()
    source.side = SIDE
    for features in (Means(), Classed()):
        settings = FidelitySettings(FEW, features=features)
        fidelity = measure.open_fidelity(settings, SAMPLES, ReadsWritten(SIDE), SIDE)
        fidelity.open(tmp_path, Ranks())
        found = fidelity.finish(source, Ranks())
        assert found is not None
        entry = SimpleNamespace(
            **{
                name: FeatureStatisticsRecord.model_validate(found[0][name])
                for name in ("statistics", "theoretical")
            }
        )
        rows[type(features)] = [title for title, *_ in statistic_rows(cast(Any, entry))]
    assert rows[Classed] == [*rows[Means], "Inception score"]
