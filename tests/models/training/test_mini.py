"""A few steps of every phase and of the flow at the sizes of the configuration `mini`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.models.config_file import load_config
from shapeshd.models.networks.checkpoints import load_generator
from shapeshd.models.training.files import GENERATOR, RESULT, SHEETS
from shapeshd.models.training.run import TrainingRun
from tests.support.training_runs import TRAINED, log_of

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 2
HELD_OUT = 24
IMAGES = RenderSpec(seed=4, count=160, size=32)


def test_mini_trains_at_its_own_sizes(tmp_path: Path) -> None:
    """Batches, networks and precision are mini's; only steps and what is measured are fewer."""
    fewer = [f"{phase}.steps={STEPS}" for phase in TRAINED]
    fewer += ["checks.final_samples=0", "checks.samples=0", "checks.codes=24", "gan.head_start=0"]
    config = load_config("mini", [*fewer, f"checks.held_out={HELD_OUT}"])
    assert config.images.precision == "bf16"
    run = TrainingRun(config, IMAGES, tmp_path, workers=0)
    for phase in TRAINED:
        result = run.train(phase)
        assert result["steps"] == STEPS
        assert json.loads((tmp_path / phase / RESULT).read_text())["phase"] == phase
        (row,) = [row for row in log_of(tmp_path / phase) if "seconds" in row][:1]
        losses = [value for key, value in row.items() if key.startswith("loss")]
        assert losses
        assert all(math.isfinite(loss) for loss in losses)
        assert (tmp_path / phase / SHEETS / f"samples-{STEPS:07d}.png").exists()
        assert load_generator(tmp_path / phase / GENERATOR)[1] == (
            3 * 32 * 32 if phase == "flow" else config.codes.latent_dim
        )
