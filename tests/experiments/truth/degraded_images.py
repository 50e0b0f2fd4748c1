"""What degraded images leave of a known divergence, and what the score says of it.

    python -m tests.experiments.truth.degraded_images [--images 6000] [--minutes 4]

Factors are drawn from distributions that are wrong on purpose: noise over all joint bins (D = 0.5;
D = 2, where one bin of three occurs, and D = 5, one of six), a pair, and a factor. Images of them
are traced at 64 pixels, degraded, read by `lite`, and looked at as a score does it
(`check_images`). Recorded, for each degradation:

- the attenuation of noise over joint bins in truth, of pairs of images with known factors, beside
  what the score estimates without knowing them, with its interval;
- for each distribution the true D, D as it is seen, and D corrected, each with its interval, and
  whether these hold the truth.

Everything is in benchmark/results/degraded-images.json. What stands there of the same settings is
kept: a run that was stopped, or ended after `--minutes`, goes on.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from shapeshd.benchmark.image_check.check import check_images
from shapeshd.benchmark.image_check.kept_images import Kept
from shapeshd.benchmark.image_check.real_images import paired_factors
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.benchmark.statistics.decomposition import decompose
from shapeshd.benchmark.statistics.source_attenuation import (
    Share,
    corrected_divergence,
    source_attenuation,
)
from shapeshd.factors import BIN_SHAPE, NUM_BINS, FloatArray, joint_bins
from shapeshd.raytracer.tracer import trace_images
from shapeshd.support.progress import note
from tests import ROOT

from .distributions import Distribution

RESULTS = ROOT / "benchmark" / "results"
SIDE, SEED = 64, 41
Damage = Callable[[Tensor], Tensor]


def each(work: Callable[[Image.Image], Image.Image]) -> Damage:
    def damage(images: Tensor) -> Tensor:
        pictures = map(Image.fromarray, images.permute(0, 2, 3, 1).numpy())
        return torch.stack(
            [torch.from_numpy(np.array(work(picture))) for picture in pictures]
        ).permute(0, 3, 1, 2)

    return damage


def jpeg(quality: int) -> Damage:
    def work(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return each(work)


def noise(levels: float) -> Damage:
    def damage(images: Tensor) -> Tensor:
        drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(SEED))
        return (images.float() + levels * drawn).round().clamp(0, 255).byte()

    return damage


DAMAGES: dict[str, Damage] = {
    "none": lambda images: images,
    "JPEG 95": jpeg(95),
    "JPEG 75": jpeg(75),
    "JPEG 50": jpeg(50),
    "noise of 8 levels": noise(8),
    "blur of 1 pixel": each(lambda picture: picture.filter(ImageFilter.GaussianBlur(1))),
}


def distributions() -> Iterator[Distribution]:
    """Yield noise over joint bins with D = 0.5, 2 and 5, a pair and a factor."""
    rng = np.random.default_rng(SEED)
    fine = 1 + np.sqrt(0.5) * np.where(rng.random(NUM_BINS) < 0.5, -1.0, 1.0)
    pair = np.ones(BIN_SHAPE)
    signs = np.outer(np.repeat([1, -1], 6), [1, 1, -1, -1])
    pair *= (1 + 0.9 * signs)[None, None, :, None, :, None]
    factor = np.ones(BIN_SHAPE) * np.array([1.9, 1.3, 0.6, 0.2])[:, None, None]
    place = rng.permutation(NUM_BINS)
    named = (
        ("sixth", "one joint bin of six", 1.0 * (place < NUM_BINS // 6)),
        ("third", "one joint bin of three", 1.0 * (place < NUM_BINS // 3)),
        ("fine", "noise over all joint bins", fine),
        ("pair", "object hue with shape", pair),
        ("factor", "scale", factor),
    )
    for name, text, density in named:
        p = density.ravel() / density.sum()
        yield Distribution(name, text, p, ())


def true_attenuation(damage: Damage, reader: Recognizer, count: int) -> dict[str, Any]:
    """Return the attenuation from degraded images whose factors are known."""
    factors = paired_factors(count)
    read = reader(damage(trace_images(factors, SIDE)).contiguous())
    found = source_attenuation(factors, read, method_error=0)
    right = float((joint_bins(read) == joint_bins(factors)).mean())
    return {"right_bins": right, "higher_order": vars(found.higher_order)}


def measure(
    distribution: Distribution, damage: Damage, reader: Recognizer, images: int, check: int
) -> dict[str, Any]:
    """Score degraded images of a distribution."""
    true = distribution.divergence
    shown = damage(trace_images(distribution.draw(SEED, 0, images), SIDE)).contiguous()
    read: FloatArray = reader(shown)
    parts = decompose(np.bincount(joint_bins(read), minlength=NUM_BINS))
    look = check_images(Kept(np.arange(check), shown[:check], read[:check]), reader, SIDE)
    assert look is not None
    assert look.attenuation is not None
    left = look.attenuation.higher_order
    corrected = corrected_divergence(
        parts, Share(left.value, left.standard_error, left.low, left.high)
    )
    seen = parts.total
    return {
        "true": true,
        "seen": [seen.value, seen.low, seen.high],
        "corrected": [corrected.value, corrected.low, corrected.high],
        "seen_holds": seen.low <= true <= seen.high,
        "corrected_holds": corrected.low <= true <= corrected.high,
        "share_left": left.to_json(),
        "right_bins": look.right_bins,
        "looks_like_the_dataset": look.ok,
        "change": look.change,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6_000)
    parser.add_argument("--truth", type=int, default=2_000)
    parser.add_argument("--check", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "degraded-images.json")
    options = parser.parse_args()
    started, reader = time.monotonic(), load_recognizer("lite")
    settings = {
        "images": options.images, "check": options.check, "truth": options.truth, "seed": SEED,
        "recognizer": reader.digest,
    }  # fmt: skip
    found: dict[str, Any] = {**settings, "damages": {}}
    if options.out.exists():
        earlier = json.loads(options.out.read_text(encoding="utf-8"))
        if settings.items() <= earlier.items():
            found = earlier
    for distribution in (None, *distributions()):
        for name, damage in DAMAGES.items():
            row = found["damages"].setdefault(name, {})
            key = "truth" if distribution is None else distribution.name
            if key in row:
                continue
            if distribution is None:
                row[key] = true_attenuation(damage, reader, options.truth)
            else:
                row[key] = measure(distribution, damage, reader, options.images, options.check)
            note(f"{name}, {key}: {json.dumps(row[key])}")
            options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            if options.minutes and time.monotonic() - started > 60 * options.minutes:
                note("to be gone on with")
                return
    note("complete")


if __name__ == "__main__":
    main()
