"""How fast phase 1 learns.

    python -m tests.experiments.speed.phase1 DATASET NAME --config mini --minutes 5 --results FILE

Trains the VAE of a configuration for so many minutes of processor time (not of the wall: cores may
be shared) and measures it on held-out images: the error of reconstructions, what a recognizer reads
in them beside the truth, and how far codes are from the prior. The rate falls along the cosine of
the time that is spent, so that runs of unequal speed end alike. A line of the result is appended
to --results.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.recognizer.find import shipped_for
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.dataset.render_spec import parse_rendered
from shapeshd.factors import FloatArray
from shapeshd.images.resize import resized
from shapeshd.models.config import RunConfig
from shapeshd.models.config_file import load_config
from shapeshd.models.data.images import to_uint8
from shapeshd.models.training.posterior import posterior_distance
from shapeshd.models.training.run import TrainingRun
from shapeshd.models.training.trainer import epochs
from shapeshd.models.training.vae import VAEPhase

SHAPE = 4
CODES = 2048  # held-out images whose codes are compared with the prior
READ = 384  # of them, reconstructions that the recognizer reads
PARTS = 1  # of the time, after each of which it is measured


class TimedVAE(VAEPhase):
    """Phase 1 whose rate falls with the time that is spent.

    Attributes:
        share: of the time, that is spent.
    """

    share = 0.0

    def descend(self, name: str, loss: Tensor, step: int) -> None:
        """Take a step at the rate that the schedule has after this share of its steps."""
        super().descend(name, loss, int(self.share * self.schedule.steps))


def train(run: TrainingRun, minutes: float, sheets: Path) -> list[dict[str, Any]]:
    """Train the VAE and measure it after each part of the time; its sheets go into a folder."""
    torch.manual_seed(run.config.seed)
    config, domain = run.config, run.domain
    phase = TimedVAE(config, domain, run.group, run.device)
    rows = epochs(phase.draws, domain.count, config.vae.batch, 0, 2**30)
    found: list[dict[str, Any]] = []
    spent, wall, step = 0.0, 0.0, 0
    for part in range(1, PARTS + 1):
        while spent < 60 * minutes * part / PARTS:
            started, clock = time.process_time(), time.monotonic()
            some = next(rows)
            phase.update(step, next(iter(domain.batches([some]))), some)
            step += 1
            spent += time.process_time() - started
            wall += time.monotonic() - clock
            phase.share = spent / (60 * minutes)
        values = {
            "images": step * config.vae.batch, "core_minutes": round(spent / 60, 3),
            "wall_minutes": round(wall / 60, 3), **measure(phase),
        }  # fmt: skip
        print(json.dumps(values), flush=True)
        found.append(values)
    domain.write_sheets(sheets, step, phase.generator, phase.encoder)
    return found


@torch.no_grad()
def measure(phase: VAEPhase) -> dict[str, float]:
    """Return what the averages of the networks are worth on held-out images."""
    domain = phase.domain
    encoder, generator = phase.averages["encoder"], phase.averages["generator"]
    rng = torch.Generator().manual_seed(1)
    images, made, codes = [], [], []
    for x in domain.batches(torch.arange(domain.count, domain.count + CODES).split(64)):
        noise = torch.randn(len(x), encoder.head.noise_dim, generator=rng)
        normal = torch.randn(len(x), encoder.head.latent_dim, generator=rng)
        with domain.autocast():
            z, _, _ = encoder.head.sample(encoder.trunk(x).float(), noise, normal)
            y = generator(z).float()
        images.append(x)
        made.append(y)
        codes.append(z)
    x, y, z = torch.cat(images), torch.cat(made), torch.cat(codes)
    distance = posterior_distance(z)
    return {
        "rmse": float((x - y).square().mean().sqrt()),
        "sliced": distance.sliced,
        "sliced_floor": distance.sliced_floor,
        "covariance": distance.covariance,
        "variance": float(z.var(0).mean()),
        **readings(x[:READ], y[:READ]),
    }


def readings(x: Tensor, y: Tensor) -> dict[str, float]:
    """Return how the recognizer reads reconstructions beside how it reads the images."""
    reader = load_recognizer(shipped_for(x.shape[-1]), "cpu")
    truth, read = (_read(reader, to_uint8(images)) for images in (x, y))
    hues = np.abs((read - truth)[:, :3])
    return {
        "shape_accuracy": float((truth[:, SHAPE].round() == read[:, SHAPE].round()).mean()),
        "object_hue_error": float(np.minimum(hues, 1 - hues)[:, 2].mean()),
        "scale_error": float(np.abs(read - truth)[:, 3].mean()),
        "orientation_error": float(np.abs(read - truth)[:, 5].mean()),
    }


def _read(reader: Any, images: Tensor) -> FloatArray:
    parts = [reader(resized(some, reader.size)) for some in images.split(64)]
    return np.concatenate(parts)


def main() -> None:
    """Train, measure, and append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("name")
    parser.add_argument("--config", default="smoke")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config: RunConfig = load_config(options.config, options.changes, options.seed)
    source = parse_rendered(options.dataset) or Path(options.dataset)
    folder = options.results.parent / "phase1" / options.name
    parts = train(TrainingRun(config, source, folder), options.minutes, folder)
    line = {"name": options.name, "changes": options.changes, "config": config.to_json()}
    with options.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, "parts": parts}) + "\n")


if __name__ == "__main__":
    main()
