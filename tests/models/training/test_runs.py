"""Runs of the reference models: phases and methods, stops and restarts, and what is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import InterruptedRunError, MissingPackageError, ShapesHDError, UsageError
from shapeshd.factors import uniform_factors
from shapeshd.models.config_file import config_from, load_config, to_toml
from shapeshd.models.methods import METHODS
from shapeshd.models.training.aae import AAEPhase
from shapeshd.models.training.domains import images as image_domain
from shapeshd.models.training.dry_run import plan_of
from shapeshd.models.training.features import stored_features
from shapeshd.models.training.files import (
    CONFIG,
    ENCODER,
    FEATURES,
    GENERATOR,
    RESULT,
    SHEETS,
)
from shapeshd.models.training.gan import GANPhase
from shapeshd.models.training.run import TrainingRun
from shapeshd.models.training.trainer import Trainer
from shapeshd.models.training.vae import VAEPhase
from shapeshd.support.checkpoint import load_checkpoint, read_card
from shapeshd.support.training_loop import LOG, STATE_KIND
from tests.support.tiny_models import SPEC, STEPS, tiny, tiny_run, train_in_process

Run = Callable[..., tuple[int, str, str]]
PHASES = ("vae", "aae", "gan")
STATE = Trainer.state_file

# Its server has imported everything once, so that a process begins at once.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["tests.support.fake_scores", "tests.support.tiny_models", "torch._dynamo"]
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def log_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "log_steps", 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """Both domains' runs that nothing interrupted; tests must not change them."""
    top = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "log_steps", 1)
        for domain in ("factors", "images"):
            run = tiny_run(domain, top / domain)
            for phase in PHASES:
                torch.manual_seed(99)  # what happened in the process before must not matter
                run.train(phase)
    return top


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def without_seconds(values: Any) -> Any:
    return {key: value for key, value in values.items() if key not in ("seconds", "sha256")}


def same_phase(out: Path, whole: Path, phase: str) -> None:
    """Compare all that a phase leaves, bit for bit, but for the time it took."""
    ours, theirs = out / phase, whole / phase
    names = sorted(path.name for path in theirs.iterdir())
    assert sorted(path.name for path in ours.iterdir()) == names
    for name in names:
        if name.endswith(".safetensors"):
            first, second = load_file(ours / name), load_file(theirs / name)
            assert first.keys() == second.keys()
            for key, tensor in first.items():
                assert torch.equal(tensor, second[key]), (name, key)
            cards = [without_seconds(read_card(folder / name)) for folder in (ours, theirs)]
            assert cards[0] == cards[1]
    assert [without_seconds(row) for row in log_of(ours)] == [
        without_seconds(row) for row in log_of(theirs)
    ]
    results = [json.loads((folder / RESULT).read_text()) for folder in (ours, theirs)]
    assert without_seconds(results[0]) == without_seconds(results[1])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def begun(out: Path, whole: Path, domain: str, phase: str) -> Path:
    """Copy what `phase` begins with."""
    out.mkdir()
    for earlier in PHASES[: PHASES.index(phase)]:
        shutil.copytree(whole / domain / earlier, out / earlier)
    return out


# Phases


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("domain", ["factors", "images"])
def test_a_phase_leaves_what_the_next_one_and_people_need(
    whole: Path, domain: str, phase: str
) -> None:
    folder = whole / domain / phase
    rows = log_of(folder)
    steps = [row["step"] for row in rows if "posterior" not in row]
    assert steps == list(range(1, STEPS + 1))
    checks = [row for row in rows if "posterior" in row]
    assert [row["step"] for row in checks] == [6, 12]
    assert ["score" in row for row in checks] == [domain == "factors", False]
    for row in rows:
        for key in row.keys() - {"step", "seconds", "posterior", "score"}:
            assert np.isfinite(row[key]), (row["step"], key)
    result = json.loads((folder / RESULT).read_text())
    assert (result["phase"], result["steps"], result["seed"]) == (phase, STEPS, 3)
    assert result[phase] == tiny(domain).to_json()[phase]
    assert result["posterior"]["codes"] == 20
    assert (folder / ENCODER).exists() == (phase != "gan")
    if domain == "factors":
        assert result["score"]["fit"]["samples"] == 7000
        assert not (folder / SHEETS).exists()
    else:
        assert "score" not in result
    for name in (ENCODER, GENERATOR):
        if (folder / name).exists():
            card = read_card(folder / name)
            assert (card["phase"], card["seed"], card["steps"]) == (phase, 3, STEPS)
            averages = load_file(folder / STATE)
            kind = f"average.{name.partition('.')[0]}."
            for key, value in load_checkpoint(folder / name).tensors.items():
                assert torch.equal(value, averages[kind + key])
    origin = {"vae": {}, "aae": None, "gan": None}[phase]
    if origin is None:
        before = whole / domain / PHASES[PHASES.index(phase) - 1]
        origin = {
            "encoder": read_card(before / ENCODER)["sha256"],
            "generator": read_card(before / GENERATOR)["sha256"],
        }
    assert result["origin"] == origin


def test_it_learns(tmp_path: Path) -> None:
    """Codes of 12 components soon carry a quarter of what embeddings vary by, and more."""
    schedule = {"steps": 600, "batch": 64, "learning_rate": 1e-2}
    checks = {"every": 600, "samples": 0, "final_samples": 0}
    changes = {"codes": {"latent_dim": 12, "head_width": 32},
               "factors": {"width": 32, "images": 1000}}  # fmt: skip
    tiny_run("factors", tmp_path, vae={**schedule, "head_rate": 1.0}, checks=checks, **changes
             ).train("vae")  # fmt: skip
    errors = [row["sigma"] ** 2 for row in log_of(tmp_path / "vae") if "sigma" in row]
    # Hues' sines and cosines vary by 1/2, scale and orientation by 1/3, the shape's four by 3/16.
    mean_alone = (6 / 2 + 2 / 3 + 4 * 3 / 16) / 12
    assert errors[0] > mean_alone
    assert np.mean(errors[-20:]) < 0.75 * mean_alone


def test_the_configuration_is_written_and_is_the_run_s(whole: Path) -> None:
    for domain in ("factors", "images"):
        assert load_config(str(whole / domain / CONFIG)) == tiny(domain)


def test_sheets_are_pictures(whole: Path) -> None:
    for phase in PHASES:
        sheets = sorted((whole / "images" / phase / SHEETS).iterdir())
        assert [path.name for path in sheets] == [
            f"{name}-00000{step}.png" for name in ("reconstructions", "samples")
            for step in ("06", "12")
        ]  # fmt: skip
        for path in sheets:
            with Image.open(path) as image:
                image.load()
                assert image.format == "PNG"
                # 6 rows of 8, or 3 of images above 3 of their reconstructions.
                assert min(image.size) >= 6 * 16
                assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 10


def test_images_stand_above_their_reconstructions(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where held-out images are no multiple of a row: the rest is left out."""
    drawn: list[tuple[Tensor, int, int]] = []

    def keep(images: Tensor, rows: int, path: Path, columns: int | None = None) -> None:
        drawn.append((images, rows, columns or 8))

    monkeypatch.setattr(image_domain, "_draw", keep)
    for held_out, pairs, columns in ((24, 24, 8), (11, 8, 8), (5, 5, 5)):
        drawn.clear()
        domain: Any = tiny_run("images", tmp_path, checks={"held_out": held_out}).domain
        encoder, generator = domain.encoder(), domain.generator()
        domain.write_sheets(tmp_path, 3, generator, encoder)
        images, rows, found = drawn[1]
        assert (len(images), rows, found) == (2 * pairs, 2 * pairs // columns, columns)
        first = torch.cat([images[i : i + columns] for i in range(0, 2 * pairs, 2 * columns)])
        data = next(iter(domain.batches([torch.arange(96 - held_out, 96)])))
        assert torch.equal(first, image_domain.to_uint8(data[:pairs]))
    assert len(drawn[0][0]) == 48


def test_a_finished_phase_says_its_result_again(whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole / "factors", tmp_path / "run")
    run = tiny_run("factors", out)
    for phase in PHASES:
        before = log_of(out / phase)
        result = run.train(phase)
        assert log_of(out / phase) == before
        assert json.loads(json.dumps(result)) == json.loads((out / phase / RESULT).read_text())
        same_phase(out, whole / "factors", phase)


@pytest.mark.parametrize("known", [True, False])
def test_images_are_scored_where_their_distribution_is_known(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reader:
        name, size, read = "fake", 32, 0

        def __call__(self, images: Tensor) -> Any:
            assert images.dtype == torch.uint8
            assert images.shape[1:] == (3, 32, 32)
            self.read += len(images)
            return uniform_factors(0, self.read - len(images), self.read)

    reader, source = Reader(), SPEC if known else tmp_path / "pictures"
    if not known:
        rng = np.random.default_rng(0)
        (tmp_path / "pictures").mkdir()
        for i in range(40):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i:03}.png")
    monkeypatch.setattr(image_domain, "load_recognizer", lambda *_: reader)
    monkeypatch.setattr(image_domain, "_SCORED", 1000)
    changes = {
        "vae": {"steps": 2},
        "images": {"size": 32},
        "checks": {"final_samples": 5800, "samples": 5761, "every": 1},
    }
    result = tiny_run("images", tmp_path / "run", source=source, **changes).train("vae")
    checks = [row for row in log_of(tmp_path / "run" / "vae") if "posterior" in row]
    assert ["score" in row for row in checks] == [known, False]
    assert (result["data"]["kind"] == "folder") == (not known)
    if known:
        assert reader.read == 5761 + 5800
        assert checks[0]["score"]["samples"] == 5761
        fit = result["score"]["fit"]
        assert (fit["samples"], result["score"]["recognizer"]) == (5800, "fake")
        low, high = fit["divergence"]["low"], fit["divergence"]["high"]
        assert low == 0 < high  # the distribution is met
        too_small = tiny_run("images", tmp_path / "small", checks={"final_samples": 5800}).domain
        assert not too_small.known_distribution
        assert "16x16 pixels, too few to read the factors" in str(too_small.why_no_score)
    else:
        assert "score" not in result
        assert "\n" not in result["why_no_score"]


# Methods


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method: str, whole: Path, tmp_path: Path, run: Run) -> None:
    """In factor space, by the command; what `--from` has with the same table is taken."""
    (tmp_path / "tiny.toml").write_text(to_toml(tiny("factors")))
    out = tmp_path / "run"
    # Codes for the method small-batch, which has 64.
    options = ["--set", "gan.steps=3", "--set", "checks.final_samples=0"]
    if method == "small-batch":
        options += ["--set", "aae.codes=32"]
    status, words, errors = run(
        "train", "baseline", method, "--config", tmp_path / "tiny.toml", "--out", out,
        "--from", whole / "factors", "--json", "--device", "cpu", *options,
    )  # fmt: skip
    assert status == 0, errors
    results = json.loads(words)
    anew = {"contrast", "aae", "no-difference", "no-c2"}
    expected = {"vae": ["vae"], "stylegan2": ["gan"], **{key: ["aae", "gan"] for key in anew}}
    assert list(results) == expected.get(method, ["gan"])
    assert ("trained anew" in errors) == (method in anew)
    config = load_config(str(tmp_path / "tiny.toml"), method=method, changes=options[1::2])
    for phase, result in results.items():
        assert result["steps"] == getattr(config, phase).steps
        assert result[phase] == config.to_json()[phase]
        assert (out / phase / GENERATOR).exists()
    if "gan" in results:
        coupled = out if "aae" in results else whole / "factors"
        digest = read_card(coupled / "aae" / ENCODER)["sha256"]
        assert results["gan"]["origin"].get("encoder") == (
            None if method == "stylegan2" else digest
        )


@pytest.mark.parametrize("method", ["aae", "contrast", "stylegan2", "unpaired"])
def test_methods_train_on_images(method: str, whole: Path, tmp_path: Path) -> None:
    config = tiny("images", aae={"steps": 2}, gan={"steps": 2, "path_every": 1})
    (tmp_path / "tiny.toml").write_text(to_toml(config))
    config = load_config(str(tmp_path / "tiny.toml"), method=method)
    start = whole / "images"
    run = TrainingRun(config, SPEC, tmp_path / "run", start=start)
    for phase in ("aae", "gan") if method in ("aae", "contrast") else ("gan",):
        assert run.train(phase)["steps"] == 2
    assert run.has("vae")
    judge = load_file(tmp_path / "run" / "gan" / STATE)
    channels = [v.shape[1] for k, v in judge.items() if k.startswith("network.discriminator")
                and v.ndim == 4]  # fmt: skip
    assert (6 in channels) == (method in ("aae", "contrast"))


# Stops


@pytest.mark.parametrize(
    ("domain", "phase", "number"),
    [
        ("factors", "vae", signal.SIGTERM),
        ("factors", "aae", signal.SIGKILL),
        ("images", "vae", signal.SIGKILL),
        ("images", "aae", signal.SIGTERM),
        ("images", "gan", signal.SIGTERM),
        ("factors", "gan", signal.SIGKILL),
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
        with pytest.raises(InterruptedRunError, match="interrupted after 8 of 12 steps"):
            tiny_run("factors", out).train("vae")
    assert [row["step"] for row in log_of(out / "vae")] == [5, 6, 6]
    tiny_run("factors", out).train("vae")
    assert [row["step"] for row in log_of(out / "vae")] == [5, 6, 6, 10, 12, 12]
    same_phase(out, tmp_path / "whole", "vae")


# What goes wrong


def poisoned(at: int) -> Callable[..., dict[str, Tensor]]:
    """Return an update after whose step `at` a weight of G is no number."""
    update = VAEPhase.update

    def poison(self: Any, step: int, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
        values = update(self, step, x, rows)
        if step == at:
            with torch.no_grad():
                self.networks["generator"].body.first.weight[0, 0] = float("nan")
        return values

    return poison


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (7, ["loss is nan", "step 9", "vae.learning_rate", "after step 6 stays in {folder}"]),
        (2, ["loss is nan", "step 4", "vae.learning_rate", "nothing had been saved"]),
        # The loss of the last step is still a number.
        (11, ["generator.body.first.weight", "step 12", "vae.learning_rate", "step 6 stays"]),
    ],
)  # fmt: skip
def test_what_is_no_number_ends_a_run_and_is_not_saved(
    at: int, words: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(VAEPhase, "update", poisoned(at))
        with pytest.raises(ShapesHDError) as caught:
            tiny_run("factors", out).train("vae")
    assert all(word.format(folder=out / "vae") in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
    assert (out / "vae" / STATE).exists() == (at != 2)
    if at != 2:
        state = load_checkpoint(out / "vae" / STATE, STATE_KIND)
        assert state.card["step"] == 6
        assert all(bool(torch.isfinite(value).all()) for value in state.tensors.values())
    tiny_run("factors", out).train("vae")
    same_phase(out, whole / "factors", "vae")


OOM = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 1 GiB"


@pytest.mark.parametrize(
    ("phase", "error", "words"),
    [
        ("vae", torch.OutOfMemoryError(OOM), "lower vae.batch (8) with --set"),
        ("aae", torch.OutOfMemoryError(OOM), "lower aae.batch (8) or aae.codes (32) with --set"),
        ("gan", RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate "
                             "9 bytes. Error code 12"), "lower gan.batch (8) with --set"),
    ],
)  # fmt: skip
def test_out_of_memory(
    phase: str,
    error: Exception,
    words: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise error

    kind = {"vae": VAEPhase, "aae": AAEPhase, "gan": GANPhase}[phase]
    monkeypatch.setattr(kind, "update", full)
    with pytest.raises(ShapesHDError) as caught:
        tiny_run("factors", begun(tmp_path / "run", whole, "factors", phase)).train(phase)
    assert str(caught.value).startswith("out of memory at step 0 (")
    assert str(caught.value).endswith(words)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_another_error_is_not_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("unsupported memory format option Preserve")

    monkeypatch.setattr(VAEPhase, "update", broken)
    with pytest.raises(RuntimeError, match="unsupported memory format"):
        tiny_run("factors", tmp_path / "run").train("vae")


@pytest.mark.parametrize(
    ("domain", "phase", "changes", "words"),
    [
        ("factors", "vae", {"vae": {"batch": 16}}, "vae.batch = 8, not 16"),
        ("factors", "vae", {"vae": {"steps": 13}}, "vae.steps = 12, not 13"),
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


@pytest.mark.parametrize(
    ("domain", "phase", "changes", "words"),
    [
        ("factors", "aae", {"codes": {"head_width": 9}},
         "encoder.safetensors: head.body.first.weight has the shape (8, 15), not (9, 15)"),
        ("factors", "aae", {"codes": {"head_layers": 3}},
         "encoder.safetensors: lacks the tensor head.body.hidden.1.weight"),
        ("factors", "aae", {"codes": {"head_layers": 1}},
         "encoder.safetensors: holds the tensor head.body.hidden.0.bias, which this network"),
        ("factors", "gan", {"factors": {"width": 9}},
         "generator.safetensors: body.first.weight has the shape (8, 4), not (9, 4)"),
        ("images", "gan", {"images": {"style_dim": 7}},
         "generator.safetensors: mapping.average has the shape (6,), not (7,)"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_architecture(
    whole: Path, tmp_path: Path, domain: str, phase: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        tiny_run(domain, tmp_path / "run", start=whole / domain, **changes).train(phase)
    before = PHASES[PHASES.index(phase) - 1]
    assert str(caught.value).startswith(str(whole / domain / before / words))
    assert "\n" not in str(caught.value)


def test_an_earlier_phase_is_missing(whole: Path, tmp_path: Path) -> None:
    run = tiny_run("factors", tmp_path / "run")
    for phase, before in (("aae", "vae"), ("gan", "aae")):
        folder = tmp_path / "run" / before
        with pytest.raises(UsageError) as caught:
            run.train(phase)
        assert str(caught.value) == (
            f"{folder}: holds no finished phase {before}: train it first (shapeshd train {before})"
            ", or name a run that has it with --from"
        )
    start = begun(tmp_path / "start", whole, "factors", "aae")
    run = tiny_run("factors", tmp_path / "run", start=start)
    assert run.has("vae")
    assert not run.has("aae")
    with pytest.raises(UsageError, match=f"{start / 'aae'}: holds no finished phase aae"):
        run.train("gan")
    run.train("aae")
    # The GAN begins with the AAE that has just been trained beside it, not with `start`'s.
    assert run.train("gan")["origin"]["encoder"] == read_card(run.out / "aae" / ENCODER)["sha256"]


@pytest.mark.parametrize(
    ("domain", "changes", "words"),
    [
        ("images", {"vae": {"batch": 80}}, "72 images to train on are too few: a batch of vae "
         "takes 80"),
        ("factors", {"factors": {"images": 7}}, "7 images to train on are too few: a batch of vae "
         "takes 8"),
        ("images", {"checks": {"held_out": 96}}, "render:5:96,size=16: 96 images are too few: 96 "
         "are held out (checks.held_out)"),
    ],
)  # fmt: skip
def test_too_few_images(tmp_path: Path, domain: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        tiny_run(domain, tmp_path / "run", **changes).train("vae")
    assert str(caught.value) == words


def test_codes_stand_in_rings(whole: Path, tmp_path: Path) -> None:
    def run(**aae: Any) -> Any:
        return tiny_run("factors", tmp_path / "run", start=whole / "factors", aae=aae)

    with pytest.raises(UsageError, match=r"aae\.codes must be a multiple of 16, not 24: it is"):
        run(codes=24).train("aae")
    run(codes=24, discriminator="plain", steps=1).train("aae")


def test_a_damaged_state_is_said(whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole / "factors", tmp_path / "run")
    os.truncate(out / "vae" / STATE, 500)
    with pytest.raises(ShapesHDError, match="safetensors"):
        tiny_run("factors", out).train("vae")


# Features


def test_features_are_those_of_the_trunk_and_kept(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = begun(tmp_path / "run", whole, "images", "aae")
    kept = np.load(whole / "images" / "aae" / FEATURES)
    run = tiny_run("images", out)
    domain = run.domain
    encoder = domain.encoder()
    encoder.load_state_dict(load_file(out / "vae" / ENCODER))
    with torch.no_grad():
        x = next(iter(domain.batches([torch.arange(96)])))
        torch.testing.assert_close(torch.from_numpy(kept), encoder.trunk(x), rtol=1e-4, atol=1e-5)
    digest = read_card(out / "vae" / ENCODER)["sha256"]
    cache = tmp_path / "kept" / FEATURES
    made = domain.features(encoder.trunk, cache, digest)
    assert torch.equal(made, torch.from_numpy(kept))

    class Forbidden(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("computed again")

    assert torch.equal(domain.features(Forbidden(), cache, digest), made)
    spoiled: list[Callable[[], Any]] = [
        cache.unlink,
        cache.with_suffix(".json").unlink,
        lambda: cache.with_suffix(".json").write_text("{"),
    ]
    for spoil in spoiled:
        spoil()
        with pytest.raises(AssertionError, match="computed again"):
            domain.features(Forbidden(), cache, digest)
        assert torch.equal(domain.features(encoder.trunk, cache, digest), made)
    # Another encoder's: computed anew, and kept in their place.
    for value in encoder.trunk.parameters():
        value.data.mul_(1.5)
    changed = domain.features(encoder.trunk, cache, "1" * 64)
    assert not torch.equal(changed, made)
    assert torch.equal(domain.features(Forbidden(), cache, "1" * 64), changed)
    assert torch.equal(torch.from_numpy(np.load(cache)), changed)


def test_features_without_a_cache_leave_no_file(tmp_path: Path) -> None:
    parts = [torch.ones(2, 3), torch.zeros(1, 3)]
    made = stored_features(iter(parts), (3, 3), None, "x", torch.device("cpu"))
    assert torch.equal(made, torch.cat(parts))
    assert not list(tmp_path.iterdir())


# Compiled networks


def test_compiled_networks_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what torch.compile does before it generates code: it refuses second gradients."""
    compile_, compiled = nn.Module.compile, []

    def without_code(self: nn.Module, *_: Any, **__: Any) -> None:
        compiled.append(type(self).__name__)
        compile_(self, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", without_code)
    changes: dict[str, Any] = {
        "images": {"size": 8, "channel_base": 16, "compile": True},
        "vae": {"steps": 2},
        "gan": {"steps": 2, "paired": False, "from_autoencoder": False},
    }
    run = tiny_run("images", tmp_path / "run", **changes)
    for phase in ("vae", "gan"):
        assert run.train(phase)["steps"] == 2
    assert set(compiled) == {"Trunk", "Generator", "Discriminator"}


# The command line


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(to_toml(tiny("factors")))
    return path


def test_the_commands_say_what_came_out(tiny_file: Path, tmp_path: Path, run: Run) -> None:
    common = ["--config", tiny_file, "--out", tmp_path / "run", "--device", "cpu"]
    for phase in PHASES:
        status, words, errors = run("train", phase, *common)
        assert status == 0, errors
        assert words.startswith(f"{phase}: 12 steps in ")
        assert "reduced chi-square" in words
        assert "codes of held-out data: mean" in words
        assert words.endswith(f"{tmp_path / 'run' / phase / GENERATOR}\n")
    status, words, errors = run("train", "gan", *common, "--json")
    assert status == 0
    assert json.loads(words) == {"gan": json.loads((tmp_path / "run" / "gan" / RESULT).read_text())}
    assert "gan: all 12 steps are taken; evaluated again" in errors


def test_a_dry_run_prints_all_and_writes_nothing(tiny_file: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    common = ["--config", tiny_file, "--out", out, "--device", "cpu", "--dry-run",
              "--set", "vae.batch=64", "--set", "factors.layers=1"]  # fmt: skip
    status, words, _ = run("train", "baseline", "ours", *common, "--json")
    assert status == 0
    found = json.loads(words)
    config = load_config(str(tiny_file), ["vae.batch=64", "factors.layers=1"], method="ours")
    assert config_from(found["config"]) == config
    plan = found["plan"]
    assert list(plan) == list(PHASES)
    # By hand. E: 12 features and 3 numbers of noise to 8, to 8, to 2 x 4; G: 4 to 8 to 12.
    head, decoder = 15 * 8 + 8 + 8 * 8 + 8 + 8 * 8 + 8, 4 * 8 + 8 + 8 * 12 + 12
    judge = 24 * 8 + 8 + 8 + 1
    assert plan["vae"]["parameters"] == {"encoder": head, "generator": decoder}
    c1 = 4 * 8 + 8 + 8 * 8 + 8 + 8 + 1
    assert plan["aae"]["parameters"] == {
        "encoder": head, "generator": decoder, "c1": c1, "c2": 5,
    }  # fmt: skip
    assert plan["gan"]["parameters"] == {
        "generator": decoder, "discriminator": judge, "fixed encoder": head,
        "fixed generator": decoder,
    }  # fmt: skip
    # Of E and G: weights, averages, gradients, two moments, each 4 bytes; beside them Adam's
    # count of steps for each tensor, and the head's buffers (centre, deviation) twice.
    tensors = 6 + 4
    assert plan["vae"]["state_bytes"] == 4 * (5 * (head + decoder) + tensors + 2 * (4 + 1))
    assert plan["aae"]["features_bytes"] == 4 * 12 * (100 + 24)
    assert (plan["vae"]["steps"], plan["vae"]["batch"]) == (12, 64)
    # A product of n x a by a x b: 2 n a b forward, as much for each of the two gradients; the
    # first layers of E see data, whose gradient nobody needs.
    products = 15 * 8 + 8 * 8 + 8 * 8 + 4 * 8 + 8 * 12
    assert plan["vae"]["flops"] == 2 * 64 * (3 * products - 15 * 8)
    status, words, _ = run("train", "baseline", "ours", *common)
    assert status == 0
    text, _, table = words.partition("\nvae: ")
    tiny_file.write_text(text)
    assert load_config(str(tiny_file)) == config
    assert table.startswith("12 steps of 64 samples")
    for name, count in plan["gan"]["parameters"].items():
        assert f"  {name:<15} {count:>12,} parameters" in table
    assert not out.exists()


def test_memory_of_the_activations_by_hand(tmp_path: Path) -> None:
    """What autograd keeps for D's step, which keeps more than that of G'."""
    changes = {"gan": {"paired": False, "from_autoencoder": False, "penalty": 0.0, "path": 0.0,
                       "batch": 64}}  # fmt: skip
    plan = plan_of(tiny_run("factors", tmp_path / "run", **changes), ("gan",))["gan"]
    # Of D, with two layers of width 8, and 64 real and as many fake samples: its input of 12, two
    # hidden vectors before and after SiLU, the logit; and the weights of all layers but the first.
    assert plan["activation_bytes"] == 4 * (2 * 64 * (12 + 4 * 8 + 1) + 8 * 8 + 8)
    # A head start of D's hides nothing of what comes after it.
    changes["gan"]["head_start"] = 5
    assert plan_of(tiny_run("factors", tmp_path / "run", **changes), ("gan",))["gan"] == plan


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vae", "render:0:50", "--config", "factors"], "draws its data from the seed: leave the"),
        (["vae", "--config", "smoke"], "which images to train on? Give DATASET or render:SEED:"),
        (["vae", "--config", "smokey"], "there is no configuration 'smokey'; there are factors"),
        (["vae", "--config", "factors", "--set", "vae.batch=0"], "vae.batch must be between 1"),
        (["gan", "--config", "factors", "--from", "nowhere"], "--from nowhere: no such folder"),
        (["gan", "--config", "factors", "--set", "gan.augment=safe", "--set",
          "gan.paired=false", "--set", "gan.from_autoencoder=false", "--set",
          "factors.images=2000", "--set", "checks.held_out=2"], "gan.augment = 'safe': embeddings"),
        (["vae", "render:0:50", "--config", "smoke"], "50 images are too few: 1,000 are held out"),
        (["baseline", "theirs", "--config", "factors"], "'theirs' is not one of 'ours'"),
        (["vae", "nothing.h5", "--config", "smoke"], "nothing.h5: no such file or folder"),
    ],
)  # fmt: skip
def test_commands_that_cannot_be(
    arguments: list[str], words: str, tmp_path: Path, run: Run
) -> None:
    status, out, errors = run("train", *arguments, "--out", tmp_path / "run", "--device", "cpu")
    assert (status, out) == (2, "")
    assert words in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


# TensorBoard


def test_the_log_goes_to_tensorboard_too(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    tiny_run("factors", out).train("vae", tensorboard=True)
    events = EventAccumulator(str(out / "vae"))
    events.Reload()
    rows = [row for row in log_of(out / "vae") if "loss" in row]
    for name in ("loss", "reconstruction", "divergence"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(row["step"], pytest.approx(row[name])) for row in rows]
    assert (out / "vae" / RESULT).exists()


def test_tensorboard_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingPackageError) as caught:
        tiny_run("factors", tmp_path / "run").train("vae", tensorboard=True)
    assert str(caught.value) == (
        "--tensorboard needs tensorboard: pip install 'shapeshd[tensorboard]'"
    )
