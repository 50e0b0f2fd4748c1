"""Reference models whose training takes a second, and a process that a test can end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import ShapesHDError
from shapeshd.models.config import RunConfig
from shapeshd.models.config_file import config_from
from shapeshd.models.training.distributed import Group
from shapeshd.models.training.run import TrainingRun
from shapeshd.models.training.trainer import Trainer

SPEC = RenderSpec(seed=5, count=96, size=16)
STEPS = 12
_SCHEDULE = {"steps": STEPS, "batch": 8, "warm_up": 3, "half_life": 4.0}
_FACTORS: dict[str, Any] = {
    "domain": "factors",
    "seed": 3,
    "codes": {
        "latent_dim": 4, "noise_dim": 3, "head_width": 8, "head_layers": 2, "width": 8, "layers": 2,
    },
    "factors": {"images": 100, "width": 8, "layers": 2},
    "vae": {**_SCHEDULE, "learning_rate": 1e-2},
    "aae": {**_SCHEDULE, "codes": 32, "control": 0.5, "divergence": 0.1},
    "gan": {**_SCHEDULE, "augment": "none", "penalty_every": 4},
    "flow": {**_SCHEDULE, "solver_steps": 2},
    "checks": {"every": 6, "samples": 6000, "final_samples": 7000, "codes": 20, "held_out": 24},
}  # fmt: skip
_IMAGES: dict[str, Any] = {
    **{key: value for key, value in _FACTORS.items() if key != "factors"},
    "domain": "images",
    "images": {
        "size": 16, "channel_base": 64, "channel_max": 4, "feature_dim": 6, "style_dim": 6,
        "mapping_layers": 1, "mapping_rate": 0.1, "group": 4,
    },
    "unet": {"channels": [4, 8], "layers": 1, "groups": 2, "attention": 8, "head": 4},
    # An augmentation that sets in within these few steps.
    "gan": {**_SCHEDULE, "augment": "safe", "augment_kimg": 0.05, "target": -1.0,
            "penalty_every": 4},
    "checks": {"every": 6, "samples": 0, "final_samples": 0, "codes": 20, "held_out": 24},
}  # fmt: skip
TABLES = {"factors": _FACTORS, "images": _IMAGES}


def tiny(domain: str, **changes: Any) -> RunConfig:
    """Return the configuration of short runs, with changes such as ``vae={"steps": 3}``."""
    values = {
        key: {**value, **changes.pop(key, {})} if isinstance(value, Mapping) else value
        for key, value in TABLES[domain].items()
    }
    return config_from({**values, **changes})


def tiny_run(
    domain: str,
    out: Path,
    *,
    source: Path | RenderSpec | None = None,
    start: Path | None = None,
    group: Group | None = None,
    workers: int = 0,
    **changes: Any,
) -> TrainingRun:
    """Open a short run in `out`; of images, on some that are rendered as they are read."""
    if source is None and domain == "images":
        source = SPEC
    config = tiny(domain, **changes)
    return TrainingRun(config, source, out, start=start, group=group, workers=workers)


def train_in_process(out: Path, words: Path, domain: str, phase: str, workers: int) -> None:
    """Train as a real process does, slowly; exit as the command line does, its words in a file."""
    torch.set_num_threads(1)  # sums are cut by the number of threads: their last bits differ
    Trainer.save_seconds, Trainer.log_steps = 0.0, 1
    save = Trainer.save

    def save_slowly(self: Trainer) -> None:
        time.sleep(0.05)
        save(self)

    Trainer.save = save_slowly  # type: ignore[method-assign,assignment]
    try:
        tiny_run(domain, out, workers=workers).train(phase)
    except ShapesHDError as error:
        words.write_text(f"{error}\n")
        sys.exit(error.exit_code)
