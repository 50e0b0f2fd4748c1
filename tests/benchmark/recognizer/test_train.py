"""Training: it learns, it goes on as if nothing had happened, and it refuses what cannot be."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from shapeshd.benchmark.recognizer.data import training_batches
from shapeshd.benchmark.recognizer.find import FILE_NAME
from shapeshd.benchmark.recognizer.network import NetworkConfig
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.recognizer.train import (
    RecognizerTraining,
)
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import InterruptedRunError, ShapesHDError, UsageError
from shapeshd.factors import NAMES, uniform_factors
from shapeshd.support.checkpoint import load_checkpoint
from shapeshd.support.training.loop import ResumableTraining
from tests import ROOT
from tests.conftest import heed_ctrl_c
from tests.support.tiny_training import (
    BATCH,
    HELD_OUT,
    SPEC,
    STEPS,
    TINY,
    tiny_config,
    tiny_training,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def log_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResumableTraining, "log_steps", 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A run that nothing interrupted; tests must not change it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumableTraining, "log_steps", 1)
        tiny_training(out).run()
    return out


def steps_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def same_run(out: Path, whole: Path) -> None:
    """Compare weights, optimizer and log of two runs, bit for bit."""
    for name in (FILE_NAME, RecognizerTraining.state_file):
        ours, theirs = load_checkpoint(out / name), load_checkpoint(whole / name)
        assert ours.tensors.keys() == theirs.tensors.keys()
        for key, tensor in ours.tensors.items():
            assert torch.equal(tensor, theirs.tensors[key]), (name, key)
        assert ours.digest == theirs.digest
    ours_log, theirs_log = steps_of(out), steps_of(whole)
    assert [row["step"] for row in ours_log] == list(range(1, STEPS + 1))
    for a, b in zip(ours_log, theirs_log, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    cards = [load_checkpoint(folder / FILE_NAME).card for folder in (out, whole)]
    assert cards[0]["accuracy"] == cards[1]["accuracy"]


def start(out: Path, workers: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.tiny_training", str(out), str(workers)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, preexec_fn=heed_ctrl_c, start_new_session=True,
    )  # fmt: skip


def wait_for_step(run: subprocess.Popen[str], out: Path, step: int) -> None:
    while not (out / "log.jsonl").exists() or len(steps_of_lines(out)) < step:
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.005)


def steps_of_lines(out: Path) -> list[str]:
    return (out / "log.jsonl").read_text().splitlines()


def test_the_loss_falls_and_the_result_is_there(whole: Path) -> None:
    rows = steps_of(whole)
    losses = [row["loss"] for row in rows]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
    for row in rows:
        parts = [row[name] * (2 if name in ("scale", "orientation") else 1) for name in NAMES]
        assert row["loss"] == pytest.approx(sum(parts), abs=1e-3)
    card = load_recognizer(whole).card.to_json()
    assert card["accuracy"]["images"] == HELD_OUT
    assert card["accuracy"]["data"]["held_out_from"] == SPEC.count - HELD_OUT
    done = card["training"]
    assert (done["steps"], done["images_seen"]) == (STEPS, STEPS * BATCH)
    assert done["data"]["images"] == SPEC.count - HELD_OUT
    assert (done["data"]["seed"], done["data"]["start"]) == (SPEC.seed, 0)
    assert done["config"] == json.loads(json.dumps(tiny_config().to_json()))
    assert NetworkConfig.from_json(card["network"]) == TINY


def test_the_card_s_accuracy_is_that_of_the_saved_weights(whole: Path) -> None:
    from shapeshd.benchmark.recognizer.data import ordered_batches
    from shapeshd.benchmark.recognizer.evaluate import evaluate
    from shapeshd.dataset.shapes_hd import open_dataset

    recognizer = load_recognizer(whole)
    held_out = ordered_batches(open_dataset(SPEC), SPEC.count - HELD_OUT, SPEC.count)
    found = json.loads(json.dumps(evaluate(recognizer, held_out).to_json()))
    stored = {
        key: value for key, value in recognizer.card.to_json()["accuracy"].items() if key != "data"
    }
    assert found == stored


def test_the_seed_decides_all(whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(999)  # what happened in the process before must not matter
    tiny_training(tmp_path / "same").run()
    same_run(tmp_path / "same", whole)
    other = tiny_training(tmp_path / "other", seed=1)
    same = tiny_training(tmp_path / "new").network.state_dict()
    assert any(not torch.equal(a, same[key]) for key, a in other.network.state_dict().items())


def test_the_average_is_the_moving_average(tmp_path: Path) -> None:
    """Against the formula, from the weights after each step."""
    training = tiny_training(tmp_path / "run", images=BATCH * 12, average=0.5)
    key = "geometry.head.0.weight"
    average = training.network.state_dict()[key].double().clone()
    batches = training_batches(training._dataset, 240, BATCH, 0, 0, 12, 0)
    for step, batch in enumerate(batches, 1):
        training.take_step(batch)
        training.step = step
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * training.network.state_dict()[key].double()
    torch.testing.assert_close(training.average.state_dict()[key].double(), average, atol=1e-6,
                               rtol=1e-5)  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_ended_goes_on_bit_for_bit(
    whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """A real process and its worker, both of which get the signal, but for SIGKILL."""
    out = tmp_path / "run"
    run = start(out, workers=1)
    wait_for_step(run, out, 8)
    children = psutil.Process(run.pid).children(recursive=True)
    if number == signal.SIGKILL:
        run.send_signal(number)
    else:
        os.killpg(run.pid, number)
    _, words = run.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert run.returncode == -signal.SIGKILL
    else:
        assert run.returncode == 130
        assert "the same command goes on from there" in words
        assert f"of {STEPS} steps" in words
        assert "Traceback" not in words
    assert not psutil.wait_procs(children, timeout=20)[1]
    assert not (out / FILE_NAME).exists()
    with pytest.raises(UsageError, match="training has not ended"):
        load_recognizer(out)
    with (out / "log.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')  # a kill cuts a line, or leaves those of unsaved steps
    training = tiny_training(out, workers=1 if number == signal.SIGKILL else 0)
    assert 7 <= training.step < STEPS
    training.run()
    same_run(out, whole)


def test_steps_after_the_saved_state_are_taken_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is older than the log: the log has each step once in the end."""
    out = tmp_path / "run"
    training = tiny_training(out)
    take = training.take_step

    def dying(batch: Any) -> dict[str, Tensor]:
        if training.step == 20:
            raise KeyboardInterrupt
        if training.step == 12:
            training.save()
        return take(batch)

    monkeypatch.setattr(training, "take_step", dying)
    with pytest.raises(KeyboardInterrupt):
        training.run()
    assert steps_of(out)[-1]["step"] == 20
    again = tiny_training(out)
    assert again.step == 12
    assert steps_of(out)[-1]["step"] == 12
    again.run()
    same_run(out, whole)


def test_a_finished_run_only_says_its_result_again(whole: Path, tmp_path: Path) -> None:
    import shutil

    out = shutil.copytree(whole, tmp_path / "run")
    training = tiny_training(out)
    assert training.finished
    training.run()
    same_run(out, whole)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 20}, "config.batch = 16, not 20"),
        ({"seed": 4}, "config.seed = 0, not 4"),
        ({"images": 1600}, "config.images = 384, not 1600"),
        ({"learning_rate": 1e-3}, "config.learning_rate = 0.003, not 0.001"),
        ({"source": RenderSpec(4, 300, 64)}, "data.dataset = render:3:300,size=64, not render:4"),
        ({"network": NetworkConfig(**{**TINY.to_json(), "width": 16, "blocks": (1, 1, 1)})},
         "network.width = 8, not 16"),
    ],
)  # fmt: skip
def test_another_run_in_the_same_folder_is_refused(
    whole: Path, changes: dict[str, Any], words: str
) -> None:
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    with pytest.raises(UsageError) as caught:
        tiny_training(whole, **changes)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{whole}: holds another training")
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_other_first_weights_are_another_run(whole: Path) -> None:
    with pytest.raises(UsageError, match="start_from = None, not "):
        tiny_training(whole, start_from=whole)


def test_a_run_of_an_earlier_version_goes_on(whole: Path, tmp_path: Path) -> None:
    """Its state does not say how images were degraded; mild was the only way."""
    training = tiny_training(tmp_path / "run")
    config = {key: value for key, value in training.settings["config"].items()
              if key != "degradation"}  # fmt: skip
    earlier = {**training.settings, "config": config}
    assert training.saved_settings(earlier) == training.settings
    strong = tiny_training(tmp_path / "other", degradation="strong")
    assert strong.saved_settings(earlier) != strong.settings


def test_strong_degradation_trains_another_network(tmp_path: Path) -> None:
    mild, strong = (
        tiny_training(tmp_path / name, degradation=name, images=2 * BATCH, degraded=1.0)
        for name in ("mild", "strong")
    )
    for training in (mild, strong):
        training.take_steps()
    weights = [
        training.network.state_dict()["geometry.enter.weight"] for training in (mild, strong)
    ]
    assert weights[0].isfinite().all() and weights[1].isfinite().all()
    assert not torch.equal(*weights)


def test_a_damaged_state_is_said(whole: Path, tmp_path: Path) -> None:
    import shutil

    out = shutil.copytree(whole, tmp_path / "run")
    os.truncate(out / RecognizerTraining.state_file, 5000)
    with pytest.raises(ShapesHDError, match="safetensors"):
        tiny_training(out)


def test_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"300 .*290"):
        tiny_training(tmp_path / "a", held_out=290)
    with pytest.raises(UsageError, match="too few"):
        tiny_training(tmp_path / "b", held_out=1000)
    with pytest.raises(UsageError, match=r"batch .*15, not 16"):
        tiny_training(tmp_path / "c", images=15)
    assert not list(tmp_path.iterdir())


def test_images_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"32x32 .*64x64"):
        tiny_training(tmp_path / "a", source=RenderSpec(0, 300, 32))


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 0.0}, {"learning_rate": 1.0}, {"learning_rate": math.nan},
     {"degraded": -0.1}, {"degraded": 1.1}, {"degraded": math.nan},
     {"degradation": "no"}, {"batch": 0}, {"batch": 1.5},
     {"held_out": 0}, {"seed": -1}, {"seed": 2**63}],
    ids=str,
)  # fmt: skip
def test_impossible_settings(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        tiny_config(**changes)
    assert next(iter(changes)).replace("_", " ") in str(caught.value).replace("_", " ")


@pytest.mark.parametrize("log_steps", [1, 50])
def test_a_loss_that_diverges_is_said_and_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_steps: int
) -> None:
    """Also where it happens after the last step that is logged."""
    monkeypatch.setattr(ResumableTraining, "log_steps", log_steps)
    training = tiny_training(tmp_path / "run", learning_rate=0.999, warm_up=0, images=BATCH * 8)
    with torch.no_grad():  # so that its first step does it
        for weight in training.network.geometry.head.parameters():
            weight.mul_(1e15)
    with pytest.raises(ShapesHDError, match=r"diverged.*lower learning rate") as caught:
        training.run()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / RecognizerTraining.state_file).exists()
    assert not (tmp_path / "run" / FILE_NAME).exists()


def test_an_interrupt_does_not_save_a_diverged_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = tiny_training(tmp_path / "run")
    monkeypatch.setattr(ResumableTraining, "log_steps", 10_000)
    take = training.take_step

    def stopping(batch: Any) -> dict[str, Tensor]:
        if training.step == 2:
            with torch.no_grad():
                training.network.geometry.head[4].weight.fill_(math.nan)
            os.kill(os.getpid(), signal.SIGTERM)
        return take(batch)

    monkeypatch.setattr(training, "take_step", stopping)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ShapesHDError, match="diverged"):
        training.run()
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / "run" / RecognizerTraining.state_file).exists()


def test_an_interrupt_ends_after_a_whole_step(tmp_path: Path) -> None:
    training = tiny_training(tmp_path / "run")
    take = training.take_step

    def stopping(batch: Any) -> dict[str, Tensor]:
        os.kill(os.getpid(), signal.SIGTERM)
        return take(batch)

    training.take_step = stopping  # type: ignore[method-assign]
    with pytest.raises(InterruptedRunError, match=f"1 of {STEPS} steps") as caught:
        training.run()
    assert caught.value.exit_code == 130
    assert tiny_training(tmp_path / "run").step == 1


@pytest.mark.parametrize("what", ["nothing", "damaged", "generator"])
def test_start_from_something_unreadable(tmp_path: Path, what: str, whole: Path) -> None:
    from shapeshd.support.checkpoint import save_checkpoint

    path = tmp_path / "old.safetensors"
    words = "no such recognizer"
    if what == "damaged":
        save_checkpoint(path, "recognizer", {"a": torch.zeros(3)}, {})
        os.truncate(path, 10)
        words = "safetensors"
    elif what == "generator":
        save_checkpoint(path, "generator", {"a": torch.zeros(3)}, {})
        words = "is a generator"
    with pytest.raises(ShapesHDError, match=words) as caught:
        tiny_training(tmp_path / "run", start_from=path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_start_from_another_network(whole: Path, tmp_path: Path) -> None:
    wide = NetworkConfig(**{**TINY.to_json(), "width": 16, "blocks": (1, 1, 1)})
    with pytest.raises(UsageError, match=r"tensor .* fit"):
        tiny_training(tmp_path / "run", network=wide, start_from=whole)


def test_start_from_takes_the_weights_over(whole: Path, tmp_path: Path) -> None:
    training = tiny_training(tmp_path / "run", start_from=whole)
    old = load_checkpoint(whole / FILE_NAME)
    for network in (training.network, training.average):
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, old.tensors[key])
    assert training.settings["start_from"] == old.digest


def test_start_from_a_recognizer_of_smaller_images(whole: Path, tmp_path: Path) -> None:
    """At first the network for large images reads what the small one reads of their averages."""
    from shapeshd.raytracer.tracer import trace_images

    large = NetworkConfig(**{**TINY.to_json(), "size": 256, "blocks": (1, 1, 1)})
    training = tiny_training(
        tmp_path / "run", source=RenderSpec(3, 300, 256), network=large, start_from=whole
    )
    images = trace_images(uniform_factors(8, 0, 4), 256)
    small = torch.nn.functional.avg_pool2d(images.float() / 255, 4)
    with torch.inference_mode():
        ours = training.network.eval()(images)
        theirs = load_recognizer(whole).network(small)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
