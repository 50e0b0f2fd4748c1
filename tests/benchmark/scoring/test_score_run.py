"""Scores in real processes: killed, stopped, two at once, several together, on the command line."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.process
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shapeshd.benchmark.scoring.tally import Tally
from tests.support.fake_scores import Written, check_tally, run_in_process
from tests.support.ports import free_port
from tests.support.tiny_training import save_untrained
from tests.support.torchrun import torchrun

Run = Callable[..., tuple[int, str, str]]
Process = multiprocessing.process.BaseProcess
SAMPLES = 9_001
PAUSE = 0.06
SLOW: dict[str, Any] = {"crowded": True, "pause": PAUSE}

# Its server has imported everything once, so that a process begins at once.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.support.fake_scores"])


def begin(
    out: Path,
    samples: int = SAMPLES,
    *,
    rank: tuple[int, int, int] = (0, 1, 0),
    **settings: Any,
) -> Process:
    words = out.with_name(f"{out.name}-words-{rank[0]}")
    arguments = (out, words, samples, {**SLOW, **settings}, rank)
    process = processes.Process(target=run_in_process, args=arguments)
    process.start()
    return process


def ended(process: Process, seconds: float = 60) -> int:
    process.join(seconds)
    assert process.exitcode is not None
    return process.exitcode


def words(out: Path, rank: int = 0) -> list[str]:
    """What a process has said since it was asked last."""
    path = out.with_name(f"{out.name}-words-{rank}")
    lines = path.read_text().splitlines()
    path.unlink()
    return [line for line in lines if not line.startswith(("score:", "peak ")) and line]


def held(out: Path) -> Tally:
    total = Tally()
    for path in (out / ".work").glob("tally-*.npz"):
        total.merge(Tally.load(path)[0])
    return total


def until_counting(out: Path, samples: int = 1_000) -> None:
    for _ in range(2_000):
        time.sleep(0.02)
        try:
            if held(out).samples >= samples:
                return
        except OSError:  # it was replaced just now
            continue
    pytest.fail("nothing is counted")


def check_result(out: Path, samples: int = SAMPLES) -> dict[str, Any]:
    truth = Written(crowded=True).bins(0, samples)
    check_tally(held(out), truth)
    histogram = np.load(out / "histogram.npy")
    np.testing.assert_array_equal(histogram, np.bincount(truth, minlength=len(histogram)))
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    assert result["samples"] == samples
    return result


def check_examples(out: Path, other: Path) -> None:
    with np.load(out / "examples.npz") as one, np.load(other / "examples.npz") as two:
        assert set(one) == set(two)
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody has disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert ended(begin(out, pause=0)) == 0
    check_result(out)
    return out


def test_killed_at_any_moment_until_it_ends(whole: Path, tmp_path: Path) -> None:
    out, dice = tmp_path / "out", random.Random(4)
    kills = kept = 0
    for attempt in range(40):
        process = begin(out)
        process.join(dice.uniform(0.0, 0.5 + 0.3 * attempt))
        if process.exitcode is None:
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            kills += 1
            kept = max(kept, held(out).samples if process.exitcode == -9 else 0)
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    assert kills >= 2
    assert kept > 0
    result = check_result(out)
    assert result["run"]["resumed"]
    check_examples(out, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal(whole: Path, tmp_path: Path, number: int) -> None:
    out = tmp_path / "out"
    process = begin(out)
    until_counting(out)
    os.kill(process.pid or 0, number)
    assert ended(process) == 130
    counted = held(out).samples
    assert 1_000 <= counted < SAMPLES
    said = words(out)
    assert said[-1] == (
        f"shapeshd: error: interrupted; {counted:,} of {SAMPLES:,} samples are counted and kept, "
        "and the same command goes on from there"
    )
    assert [line for line in said if "error" in line] == said[-1:]
    check_tally(held(out), Written(crowded=True).bins(0, counted))
    assert ended(begin(out, pause=0)) == 0
    assert f"going on after {counted:,} of {SAMPLES:,} samples" in words(out)
    assert check_result(out)["run"]["resumed"]
    check_examples(out, whole)


def test_two_at_once_in_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = begin(out)
    until_counting(out, 1)
    second = begin(out, rank=(7, 1, 0))
    assert ended(second) == 1
    assert words(out, 7)[-1].endswith("out: another score is at work in this folder")
    assert first.is_alive()
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join()
    assert ended(begin(out, pause=0)) == 0  # the lock of the dead one holds nobody up
    check_result(out)


def test_a_source_that_fails_in_a_process(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert ended(begin(out, pause=0, fail_at=7_000)) == 1
    assert words(out)[-1] == (
        "shapeshd: error: written: the generator fell over; 6,656 of 9,001 samples are counted "
        "and kept, and the same command goes on from there"
    )
    assert ended(begin(out, pause=0)) == 0
    check_result(out)


def test_memory_of_a_process_does_not_grow(tmp_path: Path) -> None:
    peaks = []
    for samples in (6_000, 40_000):
        out = tmp_path / str(samples)
        assert ended(begin(out, samples, pause=0, crowded=False)) == 0
        text = out.with_name(f"{out.name}-words-0").read_text()
        peaks.append(int(text.rpartition("peak ")[2]) / 1024)
    assert peaks[1] < peaks[0] + 30  # MB; 34,000 images have 400


def test_several_processes_killed_and_others_going_on(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pair = [begin(out, rank=(rank, 2, port)) for port in [free_port()] for rank in range(2)]
    until_counting(out, 2_000)
    for process in pair:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    before = held(out).samples
    assert 2_000 <= before < SAMPLES
    three = [
        begin(out, rank=(rank, 3, port), pause=0) for port in [free_port()] for rank in range(3)
    ]
    assert [ended(process) for process in three] == [0, 0, 0]
    result = check_result(out)
    assert result["run"]["world_size"] == 3
    assert result["run"]["resumed"]
    assert words(out, 2) == []  # the first one alone speaks
    check_examples(out, whole)


def test_started_by_torchrun(whole: Path, tmp_path: Path) -> None:
    """One process begins, torchrun's two go on, and one adds the last sample."""
    out = tmp_path / "out"
    assert ended(begin(out, 6_000, pause=0)) == 0
    torchrun("tests.support.fake_scores", out, SAMPLES - 1)
    assert check_result(out, SAMPLES - 1)["run"]["world_size"] == 2
    assert ended(begin(out, pause=0)) == 0
    check_result(out)
    check_examples(out, whole)


# The command line itself, on a file of images and a small recognizer that has learnt nothing.


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("recognizer") / "small.safetensors")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "noise.npy"
    rng = np.random.default_rng(0)
    np.save(path, rng.integers(0, 256, (5_800, 32, 32, 3), dtype=np.uint8))
    return path


@pytest.mark.usefixtures("no_figures")
def test_json_is_the_result(
    run: Run, images: Path, recognizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["score", images, "--recognizer", recognizer, "--device", "cpu"]
    status, out, err = run(*base, "--json")
    assert status == 0, err
    result = json.loads(out, parse_constant=pytest.fail)
    folder = tmp_path / "score-noise.npy"
    assert result == json.loads((folder / "result.json").read_text())
    assert result["samples"] == 5_800
    assert "report: score-noise.npy/report.html" in err
    again = run(*base)
    assert again[0] == 0
    assert "reduced chi-square" in again[1]
    for wrong, message in (
        (["--samples", 5_770], "holds 5,800 samples already"),
        (["--seed", 1], "no seed changes"),
        (["--recognizer", "lite"], "another score, with recognizer"),
    ):
        status, out, err = run(*base, "--out", folder, *wrong)
        assert (status, out) == (2, "")
        assert message in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--samples", 100], 2, "100 samples are too few"),
        (["--samples", 5_801], 2, "5,800 images, fewer than 5,801"),
        (["--samples", 5_800, "--protocol", "chi2-20k"], 2, "--samples or --protocol"),
        (["--samples", "many"], 2, "not a valid integer"),
        (["--seed", -1], 2, "seed must be between"),
        (["--recognizer", "large"], 2, "large: no such recognizer"),
        (["--recognizer", "hd"], 2, "too few to read"),
        (["--protocol", "fid"], 2, "'fid' is not"),
        (["--device", "abacus"], 2, "--device abacus"),
        (["--latent-dim", 5], 2, "leave out --latent-dim"),
        (["--out", "FILE"], 2, "is a file; --out"),
        (["--out", "FOREIGN"], 2, "other files, such as thesis.tex"),
        (["--out", "/proc/out"], 1, "/proc/out"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, list) else "",
)
def test_refusals(
    run: Run,
    images: Path,
    recognizer: Path,
    tmp_path: Path,
    arguments: list[object],
    status: int,
    message: str,
) -> None:
    file, foreign = tmp_path / "file", tmp_path / "foreign"
    file.write_text("mine")
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    places = {"FILE": file, "FOREIGN": foreign}
    if "hd" in arguments:
        from shapeshd.benchmark.recognizer.find import find_recognizer

        if not find_recognizer("hd").exists():
            pytest.skip("hd is not there yet")
    given = [places.get(str(argument), argument) for argument in arguments]
    base = ["score", images, "--out", tmp_path / "out", "--recognizer", recognizer]
    found, out, err = run(*base, "--device", "cpu", *given)
    assert found == status
    assert out == ""
    assert re.search(re.escape(message), err)
    assert "Traceback" not in err
    assert "internal error" not in err
    last = [line for line in err.splitlines() if "rror: " in line]
    assert len(last) == 1
    assert file.read_text() == "mine"
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    assert not (tmp_path / "out").exists()
