"""A few steps of every phase and of the flow at the sizes of the configuration `mini`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.models.config_file import load_config
from shapeshd.models.methods import METHODS
from shapeshd.models.networks.checkpoints import load_generator
from shapeshd.models.training.files import GENERATOR, RESULT, SHEETS
from shapeshd.models.training.run import TrainingRun
from shapeshd.support.checkpoint import read_card
from tests.support.training_runs import TRAINED, log_of

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 2
HELD_OUT = 24
IMAGES = RenderSpec(seed=4, count=160, size=32)


def train_few(
    method: str | None, phases: tuple[str, ...], out: Path, start: Path | None = None
) -> None:
    """Take steps of phases, and check what they leave.

    Batches, networks and precision are mini's; only steps and what is measured are fewer.
    """
    fewer = [f"{phase}.steps={STEPS}" for phase in TRAINED]
    fewer += ["checks.final_samples=0", "checks.samples=0", "checks.codes=24", "gan.head_start=0"]
    config = load_config("mini", [*fewer, f"checks.held_out={HELD_OUT}"], method=method)
    assert config.images.precision == "bf16"
    run = TrainingRun(config, IMAGES, out, start=start, workers=0)
    for phase in phases:
        result = run.train(phase)
        assert result["steps"] == STEPS
        assert json.loads((out / phase / RESULT).read_text())["phase"] == phase
        (row,) = [row for row in log_of(out / phase) if "seconds" in row][:1]
        losses = [value for key, value in row.items() if key.startswith("loss")]
        assert losses
        assert all(math.isfinite(loss) for loss in losses)
        assert (out / phase / SHEETS / f"samples-{STEPS:07d}.png").exists()
        assert load_generator(out / phase / GENERATOR)[1] == (
            3 * 32 * 32 if phase == "flow" else config.codes.latent_dim
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini")
    train_few(None, TRAINED, folder)
    return folder


def test_every_phase_and_the_flow_train_at_the_sizes_of_mini(trained: Path) -> None:
    assert {path.parent.name for path in trained.rglob(GENERATOR)} == set(TRAINED)


@pytest.mark.parametrize("method", ["contrast", "aae"])
def test_phase_2_of_other_methods_begins_with_the_same_phase_1(
    trained: Path, tmp_path: Path, method: str
) -> None:
    train_few(method, ("aae",), tmp_path, trained)
    card, first = read_card(tmp_path / "aae" / GENERATOR), read_card(trained / "vae" / GENERATOR)
    assert card["origin"]["generator"] == first["sha256"]


def test_a_plain_stylegan2_trains(tmp_path: Path) -> None:
    """Its discriminator sees single images, and no autoencoder comes before it."""
    train_few("stylegan2", METHODS["stylegan2"].phases, tmp_path)
    card = read_card(tmp_path / "gan" / GENERATOR)
    assert not card["gan"]["paired"] and card["origin"] == {}
