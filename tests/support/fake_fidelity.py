"""What measures fidelity without tracing a ray: renders what `ReadsWritten` reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.fidelity import measure
from shapeshd.benchmark.fidelity.measure import FidelitySettings
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.scoring import score as scoring
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.factors import joint_bins
from shapeshd.support.distributed import Ranks, joined_ranks

from .fake_scores import ReadsWritten, Written, written_images

FEW, SAMPLES, SIDE = 150, 6_000, 32
_GRAINY = 2_048  # images that have noise: more than any test measures


class WritesFactors:
    """A renderer whose images say their factors' bins: what is read from them is written again."""

    name, digest = "writer", "1" * 64

    def __init__(self, _: str, side: int, __: torch.device) -> None:
        self.side = side

    def __call__(self, factors: np.ndarray) -> Tensor:
        return written_images(joint_bins(factors), self.side).contiguous()


class Means:
    """Features: the mean of each channel's halves; counts its images."""

    name, digest, dimension = "means", "2" * 64, 6

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: Tensor) -> np.ndarray:
        self.seen += len(images)
        values = (images.float() / 255).unflatten(3, (2, -1)).mean((2, 4))
        return values.reshape(len(images), -1).numpy()


class Grainy(Written):
    """Images with noise that hides no factor; `bad` of every ten are so."""

    def __init__(self, *arguments: Any, bad: int = 10, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.bad = bad

    def images(self, start: int, stop: int) -> Tensor:
        images = super().images(start, stop).clone()
        for number in range(start, min(stop, _GRAINY)):
            if number % 10 < self.bad:
                rng = np.random.default_rng(number)
                grain = rng.integers(0, 7, images.shape[1:], dtype=np.uint8)
                images[number - start] += torch.from_numpy(grain)
        return images


def without_figures_or_rays() -> None:
    """Replace, in this process, what takes seconds."""
    measure.Renderer = WritesFactors  # type: ignore[misc,assignment]
    scoring.write_report = lambda *_: Path()


def run(
    out: Path,
    source: Written,
    *,
    ranks: Ranks | None = None,
    progress: bool = False,
    **options: Any,
) -> Result | None:
    """Score a source with fidelity; `options` are of `ScoreSettings` and `FidelitySettings`."""
    source.side = SIDE
    options = {"samples": SAMPLES, "fidelity": FEW, "features": Means(), **options}
    images = options.pop("fidelity")
    of_images = {
        name: options.pop(name) for name in ("features", "engine", "cache") if name in options
    }
    asked = None if images is None else FidelitySettings(images, **of_images)
    settings = ScoreSettings(fidelity=asked, **options)
    return score_source(source, ReadsWritten(SIDE), out, settings, ranks=ranks, progress=progress)


def run_as_rank(out: Path, rank: int, count: int, port: int) -> None:
    """Score as one of several processes that share the work, as torchrun starts them."""
    names = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    torch.set_num_threads(1)
    without_figures_or_rays()
    with joined_ranks() as ranks:
        found = [run(out, Grainy(crowded=True), ranks=ranks) for _ in range(2)]
    assert all((result is not None) == (rank == 0) for result in found)
