"""The steps of the GPU run: their plan, the share of a training, what is kept, and a tiny run."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shapeshd.benchmark.recognizer.find import find_recognizer
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.models.config_file import load_config
from shapeshd.models.methods import METHODS
from shapeshd.models.networks.shipped import find_shipped
from shapeshd.models.training.files import PHASES
from shapeshd.support.checkpoint import load_checkpoint
from tests import ROOT
from tests.conftest import heed_ctrl_c
from tests.experiments.gpu.plan import Place, all_steps
from tests.experiments.gpu.settings import ABLATIONS, FULL, SETTINGS, TABLE, TINY
from tests.experiments.gpu.step import Outcome, write_record
from tests.experiments.gpu.steps.share import SMALLEST, largest, plan
from tests.experiments.gpu.summary import page, write_summary

MACHINE = {"name": "a machine", "torch": "2.0"}
COMMON = {"commit": "c" * 40, "setting": "tiny", "machine": MACHINE}


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


@pytest.mark.parametrize("trained", [0.97, 0.98, 0.99])
def test_a_recognizer_is_kept_where_it_reads_better(
    trained: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.experiments.gpu.steps import recognizers

    shares = {"lite": 0.98, str(tmp_path / "recognizer-lite" / "recognizer.safetensors"): trained}
    monkeypatch.setattr(recognizers, "evaluated", lambda name, *_: {"found": shares[name]})

    def train(*words: object) -> None:
        folder = Path(str(words[3]))
        folder.mkdir()
        shutil.copy(find_recognizer("lite"), folder / "recognizer.safetensors")

    monkeypatch.setattr(recognizers, "shapeshd", train)
    weights = tmp_path / "weights"
    options = argparse.Namespace(
        name="lite", device="cpu", runs=tmp_path, images=10, count=10, weights=weights
    )
    found = recognizers.train(options)
    assert found["better"] is (trained > 0.98)
    kept = [weights / "recognizer-lite.safetensors"] if found["better"] else []
    assert list(weights.glob("*")) == kept
    for path in kept:
        assert load_recognizer(str(path)).digest == load_recognizer("lite").digest


def test_a_generator_is_kept_in_bf16_if_it_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.experiments.gpu.steps import table

    whole = find_shipped("mini/contrast").path
    to = tmp_path / "weights" / "ours.safetensors"
    assert table.keep_weights(whole, to) == "ours.safetensors"
    types = {str(value.dtype) for value in load_checkpoint(to).tensors.values()}
    assert "torch.bfloat16" in types and "torch.float32" not in types
    monkeypatch.setattr(table, "MOST_BYTES", to.stat().st_size - 1)
    assert table.keep_weights(whole, to) is None
    assert not to.exists()


def begin(out: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.experiments.gpu", "--device", "cpu", "--out", str(out)]
    return subprocess.Popen(
        [*command, "--minutes", "10", *words], cwd=ROOT, text=True, preexec_fn=heed_ctrl_c,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_step_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = begin(tmp_path / "out", "--steps", "oops")
    said = run.communicate()[0]
    assert run.returncode == 2
    assert "'oops'" in said
    assert not (tmp_path / "out").exists()


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
