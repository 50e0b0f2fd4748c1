"""The run of all that a GPU is wanted for: its budget, by fake steps."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.experiments.gpu import runner as runner_module
from tests.experiments.gpu.runner import Budget, Runner
from tests.experiments.gpu.step import JSON, LEFT, Outcome, Step, read_record

GRACE = 3.0
MACHINE = {"name": "a machine", "torch": "2.0"}
COMMON = {"commit": "c" * 40, "setting": "tiny", "machine": MACHINE}
WRITES = (
    "import json, pathlib, sys; "
    "pathlib.Path(sys.argv[1]).write_text(json.dumps({'headline': 'well', 'n': 1}))"
)


def fake(name: str, code: str = WRITES, seconds: float = 1.0, **known: Any) -> Step:
    """Return a step that runs Python code with the place of its result as an argument."""
    return Step(name, (sys.executable, "-S", "-c", code, JSON), seconds, **known)


def take(
    out: Path, *steps: Step, seconds: float = 60.0, stop: Any = None, only: Sequence[str] = ()
) -> dict[str, Outcome]:
    """Take steps and return what became of each."""
    budget = Budget(seconds + GRACE)
    stop = stop or threading.Event()
    taker = Runner(out, budget, stop, COMMON, lambda _: None, only, grace=GRACE)
    return {outcome.name: outcome for outcome in taker.run(steps)}


def statuses(found: dict[str, Outcome]) -> list[str]:
    return [outcome.status for outcome in found.values()]


def test_a_step_leaves_a_file_that_says_all(tmp_path: Path) -> None:
    found = take(tmp_path, fake("a", settings={"size": 3}))["a"]
    assert (found.status, found.said) == ("done", "well")
    record = json.loads((tmp_path / "results" / "a.json").read_text())
    assert record["result"] == {"headline": "well", "n": 1}
    assert record["settings"] == {"size": 3}
    assert record["commit"] == COMMON["commit"] and record["machine"] == MACHINE
    assert record["seconds"] > 0 and record["began"].endswith("+00:00")
    assert not list(tmp_path.glob(".*json"))


def test_a_finished_step_of_the_same_settings_is_kept(tmp_path: Path) -> None:
    step = fake("a", settings={"sizes": (3, 4)})
    take(tmp_path, step)
    never = replace(step, command=(sys.executable, "-S", "-c", "raise SystemExit(9)"))
    assert statuses(take(tmp_path, never)) == ["kept"]
    assert statuses(take(tmp_path, never, seconds=0.0)) == ["kept"]  # it costs nothing
    other = replace(never, settings={"sizes": (3, 5)})
    assert statuses(take(tmp_path, other)) == ["failed"]
    (tmp_path / "results" / "a.json").write_text('{"status": "done", ')  # damaged
    assert statuses(take(tmp_path, step)) == ["done"]


def test_what_fails_or_hangs_does_not_lose_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "_MORE", 0.0)
    sleeps = "import time; time.sleep(60)"
    ignores = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    steps = (
        fake("raises", "print('before'); raise ValueError('of no use')"),
        fake("silent", "pass"),
        fake("disagrees", f"{WRITES}; sys.exit(1)"),
        fake("hangs", sleeps, seconds=0.2),
        fake("ignores SIGTERM", ignores, seconds=0.2),
        fake("hangs late", f"{WRITES}; {sleeps}"),
        fake("last"),
    )
    began = time.monotonic()
    found = take(tmp_path, *steps)
    assert statuses(found) == ["failed"] * 6 + ["done"]
    assert found["raises"].said == "exit status 1: ValueError: of no use"
    assert "no result" in found["silent"].said
    assert found["disagrees"].said == "well"  # what its result says
    assert "ended after" in found["hangs"].said
    assert "until then well" in found["hangs late"].said
    assert time.monotonic() - began < 30
    assert statuses(take(tmp_path, fake("raises"))) == ["done"]  # what failed is tried again


def test_a_result_of_another_form_does_not_lose_the_others(tmp_path: Path) -> None:
    odd = fake("odd", "import sys; open(sys.argv[1], 'w').write('[1]')")
    found = take(tmp_path, odd, fake("next"))
    assert statuses(found) == ["failed", "done"]
    assert "TypeError" in found["odd"].said


@pytest.mark.parametrize("then", ["time.sleep(60)", "sys.exit(3)"], ids=["hangs", "fails"])
def test_a_child_of_a_step_is_ended_too(
    then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "_MORE", 0.0)
    child = tmp_path / "child"
    code = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-S', '-c',"
        f" 'import time; time.sleep(60)']); open({str(child)!r}, 'w').write(str(p.pid)); "
        f"{then}"
    )
    take(tmp_path, fake("parent", code, seconds=1.5))
    assert _ends(int(child.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells a child there alone")
def test_a_step_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    child = tmp_path / "child"
    step = f"import os, time; open({str(child)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = (
        "import sys, threading; from pathlib import Path; "
        "from tests.experiments.gpu.process import run_limited; run_limited("
        f"[sys.executable, '-S', '-c', {step!r}], Path({str(tmp_path / 'log')!r}), 60, "
        f"threading.Event(), cwd=Path({str(tmp_path)!r}))"
    )
    run = subprocess.Popen([sys.executable, "-S", "-c", code], cwd=ROOT)
    for _ in range(400):
        if child.exists() and child.read_text():
            break
        time.sleep(0.05)
    run.kill()
    run.wait()
    assert _ends(int(child.read_text()))


def _ends(pid: int) -> bool:
    for _ in range(100):  # until the system has noticed
        if not _lives(pid):
            return True
        time.sleep(0.05)
    return False


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_step_whose_time_is_not_left_is_skipped_and_a_shorter_one_taken(tmp_path: Path) -> None:
    found = take(tmp_path, fake("long", seconds=500), fake("short"), fake("long too", seconds=61))
    assert statuses(found) == ["skipped", "done", "skipped"]
    assert "500 s" in found["long"].said
    assert not (tmp_path / "results" / "long.json").exists()


def test_an_optional_step_gives_way_to_those_that_follow(tmp_path: Path) -> None:
    wide, later = fake("extra", seconds=30, optional=True), fake("later", seconds=50)
    assert statuses(take(tmp_path, wide, later)) == ["skipped", "done"]
    # What is done, optional or missing takes nothing of the time.
    unneeded = (fake("other", seconds=50, optional=True), fake("none", seconds=50, missing="gone"))
    assert statuses(take(tmp_path, wide, later, *unneeded))[:2] == ["done", "kept"]


def test_what_a_machine_lacks_is_one_line(tmp_path: Path) -> None:
    found = take(tmp_path, fake("peer", missing="no checkout"))["peer"]
    assert (found.status, found.said) == ("skipped", "no checkout")


def test_a_step_can_depend_on_results(tmp_path: Path) -> None:
    def prepared(step: Step, results: Any) -> Step | str:
        return replace(step, settings=results["a"]) if "a" in results else "needs a"

    late = fake("late", prepare=prepared)
    assert take(tmp_path, late)["late"].said == "needs a"
    assert take(tmp_path, fake("a"), late)["late"].status == "done"
    assert read_record(tmp_path / "results" / "late.json")["settings"]["n"] == 1


def test_of_steps_that_are_not_asked_for_what_is_done_counts(tmp_path: Path) -> None:
    def prepared(step: Step, results: Any) -> Step | str:
        return step if "a" in results else "needs a"

    steps = (fake("a"), fake("b", optional=True), fake("c", prepare=prepared, seconds=59))
    assert list(take(tmp_path, *steps, only=["b"])) == ["b"]
    found = take(tmp_path, *steps, only=["c"])
    assert found["c"].said == "needs a"
    take(tmp_path, *steps, only=["a"])
    found = take(tmp_path, *steps, only=["c"])
    assert statuses(found) == ["kept", "kept", "done"]
    assert "of other sources" not in found["a"].said
    path = tmp_path / "results" / "a.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sources_sha256": "of before"}))
    assert "of other sources" in take(tmp_path, *steps, only=["a"])["a"].said


def test_a_step_begins_where_what_follows_has_its_time(tmp_path: Path) -> None:
    code = "import json, sys; json.dump({'headline': sys.argv[2]}, open(sys.argv[1], 'w'))"
    step = fake("share", code, begins_with=50.0)
    step = replace(step, command=(*step.command, LEFT))
    assert take(tmp_path, step, seconds=40.0)["share"].status == "skipped"
    assert 50 < int(take(tmp_path, step)["share"].said) <= 60


def test_a_long_step_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """As trainings do: by SIGTERM they save their state, and exit with 130."""
    code = f"""
import pathlib, signal, sys, time
state = pathlib.Path({str(tmp_path / "state")!r})
def save(*_):
    state.write_text("saved")
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
if not state.exists():
    time.sleep(60)
{WRITES}
"""
    step = fake("trains", code, seconds=100.0, resumes=1.0)
    found = take(tmp_path, step, seconds=5.0)["trains"]
    assert found.status == "unfinished" and "goes on" in found.said
    assert (tmp_path / "state").exists()
    assert take(tmp_path, step)["trains"].status == "done"


def test_an_interruption_ends_the_step_and_skips_the_others(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    sleeps = fake("sleeps", "import time; time.sleep(60)")
    found = take(tmp_path, sleeps, fake("next"), stop=stop)
    assert statuses(found) == ["unfinished", "skipped"]
    assert "interrupted" in found["next"].said
