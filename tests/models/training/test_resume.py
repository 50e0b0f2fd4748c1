"""Runs that are stopped or ended go on bit for bit."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import InterruptedRunError, ShapesHDError, UsageError
from shapeshd.models.training.evaluator import Evaluator, brief
from shapeshd.models.training.files import (
    ENCODER,
    GENERATOR,
    RESULT,
    SHEETS,
)
from shapeshd.models.training.trainer import Trainer
from shapeshd.models.training.vae import VAEPhase
from shapeshd.support.checkpoint import load_checkpoint, read_card
from shapeshd.support.training.loop import LOG
from tests.support.tiny_models import STEPS, tiny_run, train_in_process
from tests.support.training_runs import (
    STATE,
    TRAINED,
    begun,
    contents,
    log_of,
    same_phase,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# Its server has imported everything once, so that a process begins at once.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["tests.support.fake_scores", "tests.support.tiny_models", "torch._dynamo"]
)


def test_a_finished_phase_says_its_result_again(whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole / "factors", tmp_path / "run")
    run = tiny_run("factors", out)
    for phase in TRAINED:
        before = log_of(out / phase)
        result = run.train(phase)
        assert log_of(out / phase) == before
        assert json.loads(json.dumps(result)) == json.loads((out / phase / RESULT).read_text())
        same_phase(out, whole / "factors", phase)


def test_a_finished_phase_is_not_measured_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    finish = Evaluator.finish

    def counted(self: Evaluator, step: int) -> dict[str, Any]:
        measured.append(self._phase.name)
        return finish(self, step)

    monkeypatch.setattr(Evaluator, "finish", counted)
    for domain in ("factors", "images"):
        out = shutil.copytree(whole / domain, tmp_path / domain)
        for phase in TRAINED:
            tiny_run(domain, out).train(phase)
    assert measured == []
    out = tmp_path / "factors"
    result = tiny_run("factors", out, checks={"final_samples": 5800}).train("vae")
    assert (result["score"]["fit"]["samples"], measured) == (5800, ["vae"])
    assert log_of(out / "vae")[-1]["score"] == brief(result["score"])
    rows = log_of(out / "vae")
    assert tiny_run("factors", out, checks={"final_samples": 5800}).train("vae") == result
    assert log_of(out / "vae") == rows
    result = tiny_run("factors", out, checks={"final_samples": 0, "codes": 7}).train("vae")
    assert "score" not in result and result["posterior"]["codes"] == 7
    measured.clear()
    # What was cut short, is another training's, or lacks a network.
    spoiled: list[Callable[[Path], Any]] = [
        lambda folder: (folder / RESULT).write_text("{"),
        lambda folder: (folder / RESULT).write_text("[]"),
        lambda folder: (folder / RESULT).write_text("{}"),
        lambda folder: (folder / ENCODER).unlink(),
        lambda folder: (folder / GENERATOR).unlink(),
        lambda folder: (folder / RESULT).write_text(
            json.dumps({**json.loads((folder / RESULT).read_text()), "seconds": 1e6})
        ),
    ]
    for spoil in spoiled:
        spoil(out / "vae")
        measured.clear()
        tiny_run("factors", out, checks={"final_samples": 0}).train("vae")
        assert measured == ["vae"]
        assert (out / "vae" / ENCODER).exists() and (out / "vae" / GENERATOR).exists()


@pytest.mark.parametrize(
    ("domain", "phase", "number"),
    [
        ("factors", "vae", signal.SIGTERM),
        ("factors", "aae", signal.SIGKILL),
        ("images", "vae", signal.SIGKILL),
        ("images", "aae", signal.SIGTERM),
        ("images", "gan", signal.SIGTERM),
        ("factors", "gan", signal.SIGKILL),
        ("factors", "flow", signal.SIGKILL),
        ("images", "flow", signal.SIGTERM),
    ],
)
def test_a_run_that_was_ended_goes_on_bit_for_bit(
    whole: Path, tmp_path: Path, domain: str, phase: str, number: signal.Signals
) -> None:
    out = begun(tmp_path / "run", whole, domain, phase)
    words = tmp_path / "words"
    process = processes.Process(target=train_in_process, args=(out, words, domain, phase, 0))
    process.start()
    log = out / phase / LOG
    while not log.exists() or len(log.read_text().splitlines()) < 4:
        assert process.is_alive() or process.exitcode is None, process.exitcode
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert not (out / phase / RESULT).exists()
    if number == signal.SIGTERM:
        assert f"of {STEPS} steps; the same command goes on from there" in words.read_text()
    with log.open("a") as file:
        file.write('{"step": 11, "lo')  # a kill cuts a line, or leaves those of unsaved steps
    again = tiny_run(domain, out)
    assert 3 <= read_card(out / phase / STATE)["step"] < STEPS
    again.train(phase)
    shutil.rmtree(out / phase / SHEETS, ignore_errors=True)
    if domain == "images":
        shutil.copytree(whole / domain / phase / SHEETS, out / phase / SHEETS)
    same_phase(out, whole / domain, phase)


def test_the_log_does_not_tell_where_a_run_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop between two lines of the log, in this process; SIGTERM comes while a step runs."""
    monkeypatch.setattr(Trainer, "log_steps", 5)
    tiny_run("factors", tmp_path / "whole").train("vae")
    update, out = VAEPhase.update, tmp_path / "run"

    def stopping(self: Any, step: int, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, step, x, rows)

    with monkeypatch.context() as patch:
        patch.setattr(VAEPhase, "update", stopping)
        with pytest.raises(InterruptedRunError, match="8 of 12 steps"):
            tiny_run("factors", out).train("vae")
    assert [row["step"] for row in log_of(out / "vae")] == [5, 6, 6]
    tiny_run("factors", out).train("vae")
    assert [row["step"] for row in log_of(out / "vae")] == [5, 6, 6, 10, 12, 12, 12]
    same_phase(out, tmp_path / "whole", "vae")


@pytest.mark.parametrize("at", [6, 12])
def test_a_stop_during_a_check_is_heard_after_it(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    check, out = Trainer.check, tmp_path / "run"

    def stopping(self: Any, *, last: bool) -> dict[str, Any]:
        if self.step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return check(self, last=last)

    words = "evaluates" if at == STEPS else "goes on from there"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "check", stopping)
        with pytest.raises(InterruptedRunError, match=f"{at} of 12 steps; .* command {words}"):
            tiny_run("factors", out).train("vae")
    assert read_card(out / "vae" / STATE)["step"] == at
    assert not (out / "vae" / GENERATOR).exists()
    tiny_run("factors", out).train("vae")
    same_phase(out, whole / "factors", "vae")


@pytest.mark.parametrize(
    ("domain", "phase", "changes", "words"),
    [
        ("factors", "vae", {"vae": {"batch": 16}}, "vae.batch = 8, not 16"),
        ("factors", "vae", {"vae": {"steps": 11}}, "vae.steps = 12, not 11"),
        ("factors", "vae", {"seed": 4}, "seed = 3, not 4"),
        ("factors", "vae", {"codes": {"latent_dim": 5}}, "codes.latent_dim = 4, not 5"),
        ("factors", "vae", {"factors": {"width": 9}}, "factors.width = 8, not 9"),
        ("factors", "vae", {"factors": {"images": 99}}, "data.images = 100, not 99"),
        ("factors", "vae", {"checks": {"held_out": 25}}, "held_out = 24, not 25"),
        ("factors", "aae", {"aae": {"second": "none"}}, "aae.second = affine, not none"),
        ("factors", "gan", {"gan": {"paired": False}}, "gan.paired = True, not False"),
        ("images", "vae", {"images": {"channel_max": 3}}, "images.channel_max = 4, not 3"),
        ("images", "vae", {"source": RenderSpec(6, 96, 16)}, "data.name = render:5:96,size=16, not "
         "render:6:96,size=16"),
    ],
)  # fmt: skip
def test_another_run_in_the_same_folder_is_refused(
    whole: Path, domain: str, phase: str, changes: dict[str, Any], words: str
) -> None:
    out = whole / domain
    before = contents(out)
    with pytest.raises(UsageError) as caught:
        tiny_run(domain, out, **changes).train(phase)
    assert str(caught.value).startswith(f"{out / phase}: holds another training, with {words}; go")
    assert contents(out) == before


@pytest.mark.parametrize("first", [6, 7])
def test_a_finished_phase_can_be_trained_longer(tmp_path: Path, first: int) -> None:
    """It ends as one that was to take all steps from the beginning, as its rate is constant."""
    whole, longer = tmp_path / "whole", tmp_path / "longer"
    table = {"final_rate": 1.0}
    tiny_run("factors", whole, vae=table).train("vae")
    result = tiny_run("factors", longer, vae={**table, "steps": first}).train("vae")
    assert result["steps"] == first
    again = tiny_run("factors", longer, vae=table).train("vae")
    assert again["steps"] == STEPS
    assert json.loads((longer / "vae" / RESULT).read_text())["steps"] == STEPS
    for name in (STATE, GENERATOR, ENCODER):
        ours, theirs = (load_checkpoint(out / "vae" / name).tensors for out in (longer, whole))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    ours, theirs = (
        [row["loss"] for row in log_of(out / "vae") if "loss" in row] for out in (longer, whole)
    )
    assert ours == theirs
    with pytest.raises(UsageError, match=r"vae\.steps = 12, not 11"):
        tiny_run("factors", longer, vae={**table, "steps": 11}).train("vae")


def test_a_damaged_state_is_said(whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole / "factors", tmp_path / "run")
    os.truncate(out / "vae" / STATE, 500)
    with pytest.raises(ShapesHDError, match=r"safetensors.*; or remove it to begin"):
        tiny_run("factors", out).train("vae")
    (out / "vae" / STATE).unlink()
    assert tiny_run("factors", out).train("vae")["steps"] == STEPS


def test_a_damaged_log_stops_nothing(whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole / "factors", tmp_path / "run")
    wanted = log_of(out / "vae")
    with (out / "vae" / LOG).open("ab") as file:
        file.write(b"\xff\xfe garbage\n")
    tiny_run("factors", out).train("vae")
    assert log_of(out / "vae") == wanted


def test_a_run_of_an_older_version_goes_on(whole: Path, tmp_path: Path) -> None:
    """Its state is a pair of files, and calls the ray tracer by its old name."""
    out = shutil.copytree(whole / "images", tmp_path / "run")
    path = out / "vae" / STATE
    state = load_checkpoint(path)
    save_file(state.tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    data = {**state.card["data"], "renderer": "twin"}
    card = {**state.card, "format_version": 1, "sha256": digest, "data": data}
    path.with_suffix(".json").write_text(json.dumps(card))
    assert tiny_run("images", out).train("vae")["steps"] == STEPS
