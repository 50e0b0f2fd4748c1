"""A recognizer's training that takes seconds; as a program, one that a test can end.

``python -m tests.support.tiny_training OUT WORKERS`` trains and saves its state after every step.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from shapeshd.benchmark.recognizer.data import open_images, origin_of
from shapeshd.benchmark.recognizer.network import NetworkConfig, RecognitionNetwork
from shapeshd.benchmark.recognizer.recognizer import KIND
from shapeshd.benchmark.recognizer.train import RecognizerTraining, TrainingConfig
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import ShapesHDError
from shapeshd.support.checkpoint import save_checkpoint
from shapeshd.support.training.tracker import Tracker

TINY = NetworkConfig(width=8, blocks=(1, 1, 1), keypoints=4, hidden=16)
SPEC = RenderSpec(seed=3, count=300, size=64)
BATCH, STEPS, HELD_OUT = 16, 24, 60


def save_untrained(path: Path) -> Path:
    """Save a recognizer that is quick and has learnt nothing; return its path."""
    torch.manual_seed(0)
    config = NetworkConfig(width=2, blocks=(0, 0, 0), keypoints=2, hidden=4)
    network = RecognitionNetwork(config)
    save_checkpoint(path, KIND, network.state_dict(), {"network": config.to_json()})
    return path


def tiny_config(**changes: Any) -> TrainingConfig:
    """Return the settings of a short run, with `changes`."""
    values = {
        "images": BATCH * STEPS, "batch": BATCH, "learning_rate": 3e-3, "warm_up": 5,
        "average": 0.9, "precision": "fp32", "held_out": HELD_OUT,
    }  # fmt: skip
    return TrainingConfig(**{**values, **changes})


def tiny_training(
    out: Path,
    *,
    source: Path | RenderSpec = SPEC,
    network: NetworkConfig = TINY,
    start_from: Path | None = None,
    workers: int = 0,
    trackers: Sequence[str | Tracker] = (),
    **changes: Any,
) -> RecognizerTraining:
    """Open a short run in `out`."""
    dataset = open_images(source, network.size)
    origin = origin_of(dataset, source)
    config = tiny_config(**changes)
    return RecognizerTraining(
        dataset, origin, out, network, config, start_from=start_from, workers=workers,
        trackers=trackers,
    )  # fmt: skip


def main() -> None:
    """Train as a real process does, and exit as the command line does."""
    torch.set_num_threads(1)  # sums are cut by the number of threads: their last bits differ
    RecognizerTraining.save_seconds, RecognizerTraining.log_steps = 0.0, 1
    try:
        tiny_training(Path(sys.argv[1]), workers=int(sys.argv[2])).run()
    except ShapesHDError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
