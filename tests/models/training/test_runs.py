"""Runs of the reference models: what each phase leaves, methods, sheets, scores."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from shapeshd.errors import MissingPackageError
from shapeshd.factors import uniform_factors
from shapeshd.models.augment.transforms import TRANSFORMS
from shapeshd.models.config_file import load_config, to_toml
from shapeshd.models.methods import METHODS
from shapeshd.models.training.domains import images as image_domain
from shapeshd.models.training.dry_run import plan_of
from shapeshd.models.training.files import (
    CONFIG,
    ENCODER,
    GENERATOR,
    RESULT,
    SHEETS,
)
from shapeshd.models.training.run import TrainingRun
from shapeshd.support.checkpoint import load_checkpoint, read_card
from tests.support.tiny_models import SPEC, STEPS, tiny, tiny_run
from tests.support.training_runs import (
    PHASES,
    STATE,
    log_of,
)

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("one_thread")


# Phases


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("domain", ["factors", "images"])
def test_a_phase_leaves_what_the_next_one_and_people_need(
    whole: Path, domain: str, phase: str
) -> None:
    folder = whole / domain / phase
    rows = log_of(folder)
    steps = [row["step"] for row in rows if not {"posterior", "score"} & row.keys()]
    assert steps == list(range(1, STEPS + 1))
    final = [row["step"] for row in rows if "score" in row and "posterior" not in row]
    assert final == [STEPS] * (domain == "factors")
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
    options = ["--set", "gan.steps=3", "--set", "checks.samples=0"]
    options += ["--set", "checks.final_samples=0"]
    if method == "small-batch":
        options += ["--set", "aae.codes=32"]
    status, words, errors = run(
        "train", "baseline", method, "--config", tmp_path / "tiny.toml", "--out", out,
        "--from", whole / "factors", "--json", "--device", "cpu", *options,
    )  # fmt: skip
    assert status == 0, errors
    results = json.loads(words)
    anew = {"contrast", "aae", "no-difference", "no-c2"}
    expected = {
        "vae": ["vae"],
        "stylegan2": ["gan"],
        "flow": ["flow"],
        **{key: ["aae", "gan"] for key in anew},
    }
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
        "flow": {"steps": 2},
    }
    run = tiny_run("images", tmp_path / "run", **changes)
    for phase in ("vae", "gan", "flow"):
        assert run.train(phase)["steps"] == 2
    assert set(compiled) == {"Trunk", "Generator", "Discriminator", "UNet2DModel"}


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


# TensorBoard


def test_the_log_goes_to_tensorboard_too(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    tiny_run("factors", out).train("vae", trackers=["tensorboard"])
    events = EventAccumulator(str(out / "vae"))
    events.Reload()
    rows = [row for row in log_of(out / "vae") if "loss" in row]
    for name in ("loss", "reconstruction", "divergence"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(row["step"], pytest.approx(row[name])) for row in rows]
    scored = [row for row in log_of(out / "vae") if "score" in row]
    assert [row["step"] for row in scored] == [6, STEPS]
    found = [(event.step, event.value) for event in events.Scalars("score/divergence")]
    assert found == [(row["step"], pytest.approx(row["score"]["divergence"])) for row in scored]
    assert {"score/low", "score/high", "posterior/sliced"} <= set(events.Tags()["scalars"])
    assert (out / "vae" / RESULT).exists()


def test_tensorboard_shows_the_sheets(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    tiny_run("images", out, vae={"steps": 2}).train("vae", trackers=["tensorboard"])
    events = EventAccumulator(str(out / "vae"))
    events.Reload()
    assert set(events.Tags()["images"]) == {"samples", "reconstructions"}
    (shown,) = events.Images("samples")
    with (
        Image.open(io.BytesIO(shown.encoded_image_string)) as found,
        Image.open(out / "vae" / SHEETS / "samples-0000002.png") as sheet,
    ):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(sheet))
    assert shown.step == 2


def test_tensorboard_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingPackageError) as caught:
        tiny_run("factors", tmp_path / "run").train("vae", trackers=["tensorboard"])
    assert str(caught.value) == (
        "tracker='tensorboard' needs tensorboard: pip install 'shapeshd[tensorboard]'"
    )


def test_every_set_of_transforms_can_be_reached(tmp_path: Path) -> None:
    found = {
        kind: tiny_run("images", tmp_path, images={"size": 32}).domain.augmentation(kind)
        for kind in ("none", "safe", "paper", "all")
    }
    assert found.pop("none") is None
    sets = [set(config.transforms) for config in found.values() if config is not None]
    assert sets[0] < sets[1] < sets[2] == set(TRANSFORMS)
