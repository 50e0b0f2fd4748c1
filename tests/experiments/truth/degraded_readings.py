"""How well recognizers read degraded images of the real POV-Ray, side by side.

    python -m tests.experiments.truth.degraded_readings lite RUN [--images 4000] [--dataset FOLDER]

Recorded for each degradation and recognizer: the share of images in the right joint bin with its
standard error, each factor's share in the right bin, mean error and bias; and, of traced images in
pairs of one joint bin, the share of a fine divergence (noise over all joint bins) that survives the
reading. Everything is in benchmark/results/degraded-readings.json.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from shapeshd.benchmark.image_check.real_images import paired_factors
from shapeshd.benchmark.recognizer.degrade import jpeg
from shapeshd.benchmark.recognizer.evaluate import EVALUATION_SEED, accuracy
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.benchmark.statistics.source_attenuation import source_attenuation
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.factors import FloatArray
from shapeshd.raytracer.tracer import trace_images
from shapeshd.render.plan import plan_render
from shapeshd.render.run import run_render
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import UniformSampling
from shapeshd.support.progress import note
from tests import ROOT

RESULTS = ROOT / "benchmark" / "results"
SIDE, SEED = 64, 41
Degrade = Callable[[Tensor], Tensor]


def compressed(quality: int) -> Degrade:
    """Return what compresses images as JPEG, chroma halved as by default."""
    return lambda images: torch.stack([jpeg(image, quality) for image in images])


def noisy(levels: float) -> Degrade:
    """Return what adds normal noise of a standard deviation in levels of 8 bits."""

    def work(images: Tensor) -> Tensor:
        drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(SEED))
        return (images.float() + levels * drawn).round().clamp(0, 255).byte()

    return work


def blurry(sigma: float) -> Degrade:
    """Return what blurs images by a Gaussian of a standard deviation in pixels."""

    def work(images: Tensor) -> Tensor:
        found = gaussian_filter(images.numpy().astype(np.float32), (0, 0, sigma, sigma))
        return torch.from_numpy(np.rint(found).clip(0, 255).astype(np.uint8))

    return work


def gained(gain: float) -> Degrade:
    """Return what multiplies sRGB values."""
    return lambda images: (images.float() * gain).round().clamp(0, 255).byte()


DEGRADATIONS: dict[str, Degrade] = {
    "none": lambda images: images,
    "JPEG 95": compressed(95),
    "JPEG 90": compressed(90),
    "JPEG 75": compressed(75),
    "JPEG 50": compressed(50),
    "noise of 8 levels": noisy(8),
    "noise of 16 levels": noisy(16),
    "blur of 0.5 pixels": blurry(0.5),
    "blur of 1 pixel": blurry(1),
    "brightness x 0.9": gained(0.9),
    "brightness x 1.1": gained(1.1),
}


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


def measured(
    recognizer: Recognizer,
    images: Tensor,
    factors: FloatArray,
    pairs: Tensor,
    pair_factors: FloatArray,
) -> dict[str, Any]:
    """Return how well a recognizer reads images, and what is left of a divergence, of pairs."""
    found = accuracy(factors, recognizer(images.contiguous()))
    read = recognizer(pairs.contiguous())
    left = source_attenuation(pair_factors, read, method_error=0).higher_order
    share = found.joint_accuracy
    assert found.factors is not None and found.gross_errors is not None
    return {
        "right_joint_bin": share,
        "standard_error": math.sqrt(share * (1 - share) / len(factors)),
        "fine_divergence_left": left.value,
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
    parser.add_argument("recognizers", nargs="+")
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument(
        "--dataset", type=Path, help="of 64 pixels, by POV-Ray; else it is rendered"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "degraded-readings.json")
    options = parser.parse_args()
    images, factors = rendered(options.images, options.dataset)
    pair_factors = paired_factors(options.images)
    pairs = trace_images(pair_factors, SIDE)
    readers = [load_recognizer(name) for name in options.recognizers]
    rows: dict[str, Any] = {}
    for name, degrade in DEGRADATIONS.items():
        shown, shown_pairs = degrade(images), degrade(pairs)
        rows[name] = {}
        for reader in readers:
            row = rows[name][Path(reader.name).name] = measured(
                reader, shown, factors, shown_pairs, pair_factors
            )
            note(
                f"{name}, {reader.name}: {row['right_joint_bin']:.4f} in the right joint bin, "
                f"{row['fine_divergence_left']:.3f} of a fine divergence is left"
            )
    found = {
        "images": options.images,
        "seed": EVALUATION_SEED,
        "digests": {Path(reader.name).name: reader.digest for reader in readers},
        "degradations": rows,
    }
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
