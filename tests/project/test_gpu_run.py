"""The run of all that a GPU is wanted for: its budget by fake steps, its plan, and a tiny run."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shapeshd.models.config_file import load_config
from shapeshd.models.methods import METHODS
from shapeshd.models.training.files import PHASES
from tests import ROOT
from tests.conftest import heed_ctrl_c
from tests.experiments.gpu import runner as runner_module
from tests.experiments.gpu.plan import Place, all_steps
from tests.experiments.gpu.runner import Budget, Runner
from tests.experiments.gpu.settings import ABLATIONS, FULL, SETTINGS, TABLE, TINY
from tests.experiments.gpu.step import JSON, LEFT, Outcome, Step, read_record, write_record
from tests.experiments.gpu.steps.share import SMALLEST, largest, plan
from tests.experiments.gpu.summary import page, write_summary

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
    with pytest.raises(ValueError, match="'oops'"):
        take(tmp_path, *steps, only=["oops"])


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


def place(tmp_path: Path, setting: Any = FULL, **changes: Any) -> Place:
    known: dict[str, Any] = {
        "setting": setting, "device": "cuda", "machine": MACHINE, "out": tmp_path / "out",
        "peer": None, "povray": False, "without_tests": (), **changes,
    }  # fmt: skip
    return Place(**known)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))
def test_the_plan(tmp_path: Path, setting: Any) -> None:
    steps = all_steps(place(tmp_path, setting))
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    assert names[0] == "tests" and names.index("steps") < names.index("table-ours")
    assert [name for name in names if name.startswith("table-")] == [
        f"table-{name}" for name in (*TABLE, *ABLATIONS)
    ]
    for step in steps:
        assert (ROOT / f"{step.command[2].replace('.', '/')}.py").exists()
        written = json.dumps(step.settings)
        assert str(tmp_path) not in written and str(ROOT) not in written
    named = {step.name: step.settings["command"] for step in steps}
    assert "OUT/results/share.json" in named["table-ours"]
    lacking = [step.name for step in steps if step.missing]
    assert lacking == ["evaluate-lite-povray", "evaluate-hd-povray", "steps-peer"]
    rich = all_steps(place(tmp_path, setting, peer=tmp_path, povray=True))
    assert not [step for step in rich if step.missing]


def test_required_steps_fit_into_the_default_time(tmp_path: Path) -> None:
    steps = all_steps(place(tmp_path))
    assert sum(step.seconds for step in steps if not (step.optional or step.missing)) < 25 * 60


def test_lines_of_the_timings(tmp_path: Path) -> None:
    steps = {step.name: step for step in all_steps(place(tmp_path, peer=tmp_path))}
    ratio = {"median": 1.5, "range": [1.4, 1.6]}
    found = {"size": 256, "batch": 32, "images_per_s": {"ours": 300.0, "peer": 200.0}}
    said = steps["steps-peer"].headline({"sizes": [{**found, "ratio": {"iteration": ratio}}]})
    assert "300.0 img/s" in said and "1.50 [1.40, 1.60]" in said
    score = {"score_images_per_s": 3686.4, "size": 256, "precision": "bf16", "ratio": 0.98}
    said = steps["score-256"].headline([score])
    assert "3,317,760 samples take 15.0 min" in said  # the target


def share_of(tmp_path: Path, seconds: float, each: float) -> dict[str, Any]:
    """Return the plan of a table whose steps take `each` seconds."""
    row = {"method": "ours", "seconds_per_step": each}
    phases = [{**row, "phase": phase} for phase in (*PHASES, "flow")]
    rates = {"result": {"phases": phases, "features_images_per_s": 1e5}}
    write_record(tmp_path / "rates.json", rates)
    options = argparse.Namespace(
        rates=tmp_path / "rates.json", config="lite", seconds=seconds, images=FULL.images,
        samples=FULL.samples, score_rate=1e4,
    )  # fmt: skip
    return plan(options)


def test_methods_of_the_table_see_as_many_images(tmp_path: Path) -> None:
    found = share_of(tmp_path, seconds=600.0, each=0.01)
    assert SMALLEST < found["share"] < 1
    methods = found["methods"]
    assert 0.8 * 600 < sum(methods[name]["seconds"] for name in TABLE) <= 0.85 * 600
    for name, row in methods.items():
        config = load_config("lite", row["changes"], 0, name)  # refuses what cannot be
        assert abs(row["images"] - methods["ours"]["images"]) < 128, name
        whole = load_config("lite", (), 0, name)
        for phase in METHODS[name].phases:
            assert getattr(config, phase).half_life < getattr(whole, phase).half_life
    assert methods["unpaired"]["after_ours"] == ["vae", "aae"]
    assert methods["aae"]["after_ours"] == ["vae"]
    assert methods["stylegan2"]["after_ours"] == methods["ours"]["after_ours"] == []
    assert share_of(tmp_path, seconds=1e9, each=0.01)["share"] == 1.0
    assert share_of(tmp_path, seconds=1.0, each=10.0)["share"] == pytest.approx(SMALLEST, abs=1e-3)


def test_the_largest_share_is_found() -> None:
    assert largest(lambda share: share <= 0.37) == pytest.approx(0.37, abs=2e-4)


def test_the_summary_is_a_page_and_a_file(tmp_path: Path) -> None:
    result = {
        "headline": "D", "method": "ours", "share": 0.1, "samples": 332_000, "images": 1_000,
        "divergence": {"value": 0.25, "low": 0.2, "high": 0.3},
    }  # fmt: skip
    record = {**COMMON, "result": result, "seconds": 3.0}
    outcomes = [
        Outcome("table-ours", "done", "D", 3.0, record),
        Outcome("table-aae", "skipped", "no time"),
    ]
    text = page(COMMON, outcomes, 60, 1500)
    assert "[0.2000, 0.3000]" in text and "332,000" in text and "no time" in text
    write_summary(tmp_path / "summary.json", COMMON, outcomes, 60, 1500)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["commit"] == COMMON["commit"] and found["spent_seconds"] == 60
    assert found["steps"][0]["result"] == result and "commit" not in found["steps"][0]


def begin(out: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.experiments.gpu", "--device", "cpu", "--out", str(out)]
    return subprocess.Popen(
        [*command, "--minutes", "10", *words], cwd=ROOT, text=True, preexec_fn=heed_ctrl_c,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_real_run_is_interrupted_and_goes_on(tmp_path: Path) -> None:
    words = ("--setting", "tiny", "--steps", "tracer,steps-peer,table-ours")
    run = begin(tmp_path / "out", *words)
    assert run.stdout is not None
    for line in run.stdout:
        if "tracer: about" in line:
            run.send_signal(signal.SIGINT)
            break
    said = run.communicate()[0]
    assert run.returncode == 130
    assert "tracer: unfinished" in said and "table-ours: skipped" in said
    run = begin(tmp_path / "out", *words)
    said = run.communicate()[0]
    assert run.returncode == 0, said
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    tracer, peer, table = found["steps"]
    assert tracer["status"] == "done" and len(tracer["result"]["rows"]) == len(TINY.trace)
    assert all(row["differs"] == 0 for row in tracer["result"]["rows"])
    assert peer["status"] == "skipped" and "--peer" in peer["said"]
    assert table["status"] == "skipped" and "share" in table["said"]
    assert found["machine"]["device"] == "cpu" and len(found["sources_sha256"]) == 64


def test_a_machine_without_the_packages_hears_one_line(tmp_path: Path) -> None:
    """`-S -E`: of this interpreter's packages none is seen."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-m", "tests.experiments.gpu", "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "torch" in line and "pydantic" in line
