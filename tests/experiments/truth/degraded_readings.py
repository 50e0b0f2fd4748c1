"""How well recognizers read degraded images of the real POV-Ray, side by side.

    python -m tests.experiments.truth.degraded_readings [lite lite-robust] [--minutes 4]

Recorded for each degradation and recognizer: the share of images in the right joint bin with its
standard error, and each factor's share in the right bin, mean error and bias. Everything is in
benchmark/results/degraded-readings.json. What stands there of the same recognizers and number of
images is kept: a run that was stopped, or ended after `--minutes`, goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shapeshd.benchmark.recognizer.degrade import KnownDegradation
from shapeshd.benchmark.recognizer.evaluate import EVALUATION_SEED, accuracy
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.factors import FloatArray
from shapeshd.render.plan import plan_render
from shapeshd.render.run import run_render
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import UniformSampling
from shapeshd.support.progress import note
from tests import ROOT

RESULTS = ROOT / "benchmark" / "results"
SIDE = 64
NONE = "none"
DEGRADATIONS = (
    "jpeg=75", "brightness=0.9", "jpeg=90", "noise=8", "blur=0.5", NONE, "jpeg=50", "noise=16",
    "blur=1",
)  # fmt: skip


def rendered(count: int, dataset: Path | None) -> tuple[Tensor, FloatArray]:
    """Return images of POV-Ray and their factors, freshly rendered where no dataset is given."""
    with tempfile.TemporaryDirectory(prefix="shapeshd-") as folder:
        if dataset is None:
            plan = plan_render(
                Path(folder) / "images",
                UniformSampling(EVALUATION_SEED),
                count,
                RenderOptions(SIDE),
            )
            run_render(plan, progress=True)
            dataset = plan.dataset
        items = ShapesHD(dataset).__getitems__(range(count))
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.stack(labels).numpy()


def degraded(images: Tensor, name: str) -> Tensor:
    """Return images as a degradation leaves them; "none" changes nothing."""
    if name == NONE:
        return images
    generator = torch.Generator().manual_seed(0)
    return KnownDegradation.parse(name)(images, generator).contiguous()


def measured(recognizer: Recognizer, images: Tensor, factors: FloatArray) -> dict[str, Any]:
    """Return how well a recognizer reads images."""
    found = accuracy(factors, recognizer(images))
    share = found.joint_accuracy
    assert found.factors is not None and found.gross_errors is not None
    return {
        "right_joint_bin": share,
        "standard_error": math.sqrt(share * (1 - share) / len(factors)),
        "gross_errors": found.gross_errors.count,
        "factors": {
            name: {
                "right_bin": factor.accuracy,
                "mean_absolute_error": factor.mean_absolute_error,
                "bias": factor.bias,
            }
            for name, factor in found.factors.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recognizers", nargs="*", default=["lite", "lite-robust"])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument(
        "--dataset", type=Path, help="of 64 pixels, by POV-Ray; else it is rendered"
    )
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--out", type=Path, default=RESULTS / "degraded-readings.json")
    options = parser.parse_args()
    started = time.monotonic()
    readers = {Path(name).name: load_recognizer(name) for name in options.recognizers}
    settings = {
        "images": options.images,
        "seed": EVALUATION_SEED,
        "digests": {name: reader.digest for name, reader in readers.items()},
    }
    found: dict[str, Any] = {**settings, "degradations": {}}
    if options.out.exists():
        earlier = json.loads(options.out.read_text(encoding="utf-8"))
        if settings.items() <= earlier.items():
            found = earlier
    images, factors = rendered(options.images, options.dataset)
    for degradation in DEGRADATIONS:
        rows = found["degradations"].setdefault(degradation, {})
        if rows.keys() >= readers.keys():
            continue
        shown = degraded(images, degradation)
        for name in sorted(readers.keys() - rows.keys()):
            if options.minutes and time.monotonic() - started > 60 * options.minutes:
                note("to be gone on with")
                return
            rows[name] = measured(readers[name], shown, factors)
            share = rows[name]["right_joint_bin"]
            note(f"{degradation}, {name}: {share:.4f} in the right joint bin")
            options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    note("complete")


if __name__ == "__main__":
    main()
