"""What is measured of real images is measured once, and gives other scores the same numbers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from shapeshd.benchmark import api
from shapeshd.benchmark.fidelity import measure
from shapeshd.benchmark.fidelity.measure import FidelitySettings
from shapeshd.benchmark.fidelity.real_cache import cache_folder, folder_of
from shapeshd.benchmark.result.schema import Result
from shapeshd.cli.score_run import _fidelity as of_the_command
from shapeshd.support.distributed import Ranks
from tests.support.fake_fidelity import FEW, SIDE, Means, WritesFactors, run
from tests.support.fake_scores import ReadsWritten, Written
from tests.support.known_distributions import weighted

REAL = 2 * FEW


@pytest.fixture(autouse=True)
def quick(no_page: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "Renderer", WritesFactors)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def measured(out: Path, cache: Path | None, **options: Any) -> tuple[Result, int]:
    """Return the result of a score, and how many images' features it took."""
    features = options.setdefault("features", Means())
    before = features.seen
    result = run(out, options.pop("source", Written()), cache=cache, **options)
    assert result is not None
    return result, features.seen - before


def fidelity_of(result: Result) -> dict[str, Any]:
    assert result.fidelity is not None
    return {**result.fidelity.to_json(), "command": None}


def pieces(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.npz"))


def test_the_second_score_measures_its_own_images_alone(tmp_path: Path, cache: Path) -> None:
    without, number = measured(tmp_path / "without", None)
    assert number == FEW + REAL
    first, number = measured(tmp_path / "first", cache)
    assert number == FEW + REAL
    other = Written(seed=5, crowded=True)
    second, number = measured(tmp_path / "second", cache, source=other)
    assert number == FEW
    assert fidelity_of(first) == fidelity_of(without)
    plain, _ = measured(tmp_path / "plain", None, source=other)
    assert fidelity_of(second) == fidelity_of(plain)
    assert not list((tmp_path / "first" / ".work").rglob("real-*.npz"))


def test_more_images_take_up_those_that_are_there(tmp_path: Path, cache: Path) -> None:
    measured(tmp_path / "few", cache, fidelity=FEW)
    _, number = measured(tmp_path / "fewer", cache, fidelity=FEW - 20)
    assert number == FEW - 20
    result, _ = measured(tmp_path / "more", cache, fidelity=FEW + 200)
    plain, _ = measured(tmp_path / "plain", None, fidelity=FEW + 200)
    assert fidelity_of(result) == fidelity_of(plain)


class Renamed(Means):
    digest = "3" * 64


@pytest.mark.parametrize("what", ["features", "scene", "distribution", "version"])
def test_what_decides_the_numbers_has_a_folder_of_its_own(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    measured(tmp_path / "a", cache)
    features: Means = Means()
    options: dict[str, Any] = {}
    if what == "features":
        features = Renamed()
    elif what == "scene":
        monkeypatch.setattr(WritesFactors, "digest", "4" * 64)
    elif what == "distribution":
        options["distribution"] = weighted(shape=[1, 1, 1, 2])
    else:
        monkeypatch.setattr(measure, "_VERSION", 99)
    _, number = measured(tmp_path / "b", cache, features=features, **options)
    assert number == FEW + REAL
    assert len({path.parent for path in pieces(cache)}) == 2


def test_features_without_a_digest_are_not_kept(tmp_path: Path, cache: Path) -> None:
    class Unknown(Means):
        digest = ""

    for name in "ab":
        _, number = measured(tmp_path / name, cache, features=Unknown())
        assert number == FEW + REAL
    assert pieces(cache) == []


def test_damage_is_measured_anew(tmp_path: Path, cache: Path) -> None:
    whole, _ = measured(tmp_path / "a", cache)
    damaged, *_ = pieces(cache)
    damaged.write_bytes(damaged.read_bytes()[:-50])
    again, number = measured(tmp_path / "b", cache)
    assert fidelity_of(again) == fidelity_of(whole)
    assert FEW < number <= FEW + REAL


def test_two_scores_at_once(tmp_path: Path, cache: Path) -> None:
    found: dict[str, Result] = {}

    def score(name: str) -> None:
        found[name] = measured(tmp_path / name, cache)[0]

    threads = [threading.Thread(target=score, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fidelity_of(found["a"]) == fidelity_of(found["b"])
    assert not [path for path in cache.rglob("*") if path.name.startswith(".")]


@pytest.mark.usefixtures("one_thread")
def test_a_cache_that_cannot_be_made_is_a_note(
    tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache.write_text("a file")
    result, number = measured(tmp_path / "a", cache)
    assert number == FEW + REAL and result.fidelity is not None
    (line,) = [text for text in capfd.readouterr().err.splitlines() if "no cache" in text]
    assert str(cache) in line


def source() -> Written:
    made = Written()
    made.side = SIDE
    return made


def shared_out(work: Path, cache: Path, features: Means) -> dict[str, Any]:
    """Measure with two processes on two machines, which have the folder `work` in common alone."""
    work.mkdir()
    two = []
    for rank in (0, 1):
        settings = FidelitySettings(
            FEW, features=features, cache=cache if rank == 0 else work / "no"
        )
        two.append(measure.open_fidelity(settings, 6_000, ReadsWritten(SIDE), SIDE))
        two[rank].open(work, Ranks(rank, 2))
    assert two[1].finish(source(), Ranks(1, 2)) is None
    found = two[0].finish(source(), Ranks(0, 2))
    assert found is not None and not (work / "no").exists()
    return found[0]


def test_processes_that_share_a_score_use_the_cache_of_the_first(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ranks, "wait", lambda _: None)
    monkeypatch.setattr(measure, "piece_length", lambda _: 64)
    features = Means()

    def images_measured() -> int:
        features.seen, seen = 0, features.seen
        return seen

    first = shared_out(tmp_path / "a", cache, features)
    assert images_measured() == FEW + REAL
    damaged, *rest = pieces(cache)
    assert len(rest) == 4
    damaged.write_bytes(damaged.read_bytes()[:-50])  # is measured anew, and replaced
    for name, number in (("b", FEW + 64), ("c", FEW)):
        assert shared_out(tmp_path / name, cache, features) == first
        assert images_measured() == number
    settings = FidelitySettings(FEW, features=features, cache=cache)
    alone = measure.open_fidelity(settings, 6_000, ReadsWritten(SIDE), SIDE)
    alone.open(tmp_path, Ranks())
    found = alone.finish(source(), Ranks())
    assert found is not None and found[0] == first
    assert images_measured() == FEW


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHAPESHD_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("SHAPESHD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "shapeshd"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "shapeshd"
    made = folder_of(tmp_path, {"a": 1})
    assert made is not None and made == folder_of(tmp_path, {"a": 1})
    assert made != folder_of(tmp_path, {"a": 2})


def test_the_command_and_the_call_use_it_unless_told_not_to() -> None:
    asked = {"fidelity": FEW, "features": None, "fidelity_engine": None, "trust": False}
    for wanted in (True, False):
        by_command = of_the_command({**asked, "cache": wanted})
        by_call = api._fidelity(FEW, "recognizer", "torch", False, wanted)
        assert by_command == by_call
        assert by_command is not None
        assert by_command.cache == (cache_folder() if wanted else None)
