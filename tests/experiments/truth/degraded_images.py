"""What degraded images leave of a known divergence, and what the score says of it.

    python -m tests.experiments.truth.degraded_images [--minutes 4]

Factors are drawn from distributions that are wrong on purpose: 500 joint bins occur (D = 331), one
of six (D = 5), one of three (D = 2), noise over all joint bins (D = 0.5), a pair, and a factor.
Images of them are traced at 64 pixels, degraded, read by `lite`, and looked at as a score does it
(`check_images`).
Recorded, for each degradation:

- the attenuation of noise over joint bins in truth, of pairs of images with known factors, beside
  what the score estimates without knowing them, with its interval;
- for each distribution the true D, D as it is seen, and D corrected, each with its interval, and
  whether these hold the truth;
- how many of its images, none of which was made twice, are taken for near copies.

What is left of a divergence is a share of it, however large it is; a large one is seen as exactly
with 500 images as one of 0.5 with 50,000. `CASES` has the order, and `IMAGES` the numbers. Every
degradation has samples of its own. Everything is in benchmark/results/degraded-images.json. What
stands there of the same settings is kept: a run that was stopped, or ended after `--minutes`, goes
on.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.image_check.check import check_images
from shapeshd.benchmark.image_check.kept_images import Kept
from shapeshd.benchmark.image_check.real_images import paired_factors
from shapeshd.benchmark.recognizer.degrade import KnownDegradation
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.benchmark.scoring.near_copies import describe_near_copies
from shapeshd.benchmark.scoring.seen_factors import SeenFactors
from shapeshd.benchmark.statistics import decomposition
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
SIDE, SEED, PRECISION = 64, 41, "bf16"
NONE, TRUTH = "none", "truth"
IMAGES = {
    "few": 500, "sixth": 2_000, "third": 3_000, "fine": 12_000, "pair": 6_000, "factor": 6_000,
}  # fmt: skip
FEW_BINS = 500
_PIECE = 2_000  # images that are degraded at once, as float32
COMMON = ("jpeg=75", "noise=16", "blur=1", "brightness=0.9")
RARER = ("jpeg=50", "noise=8", "jpeg=95", NONE)
DEGRADATIONS = (*COMMON, *RARER)
CASES = (
    *itertools.product(COMMON, (TRUTH, "fine", "pair", "factor", "few")),
    *itertools.product(RARER, (TRUTH, "fine", "pair", "factor", "few")),
    *itertools.product(DEGRADATIONS, ("sixth", "third")),
)
"""Degradations and distributions, the most telling first."""


@functools.cache
def distributions() -> dict[str, Distribution]:
    """Return them by name: see the module."""
    rng = np.random.default_rng(SEED)
    fine = 1 + np.sqrt(0.5) * np.where(rng.random(NUM_BINS) < 0.5, -1.0, 1.0)
    pair = np.ones(BIN_SHAPE)
    signs = np.outer(np.repeat([1, -1], 6), [1, 1, -1, -1])
    pair *= (1 + 0.9 * signs)[None, None, :, None, :, None]
    factor = np.ones(BIN_SHAPE) * np.array([1.9, 1.3, 0.6, 0.2])[:, None, None]
    place = rng.permutation(NUM_BINS)
    named = (
        ("few", f"{FEW_BINS} joint bins", 1.0 * (place < FEW_BINS)),
        ("sixth", "one joint bin of six", 1.0 * (place < NUM_BINS // 6)),
        ("third", "one joint bin of three", 1.0 * (place < NUM_BINS // 3)),
        ("fine", "noise over all joint bins", fine),
        ("pair", "object hue with shape", pair),
        ("factor", "scale", factor),
    )
    return {
        name: Distribution(name, text, density.ravel() / density.sum(), ())
        for name, text, density in named
    }


def degraded(images: Tensor, name: str) -> Tensor:
    """Return images as a degradation leaves them; "none" changes nothing."""
    if name == NONE:
        return images
    generator = torch.Generator().manual_seed(SEED)
    degradation = KnownDegradation.parse(name)
    pieces = [degradation(piece, generator) for piece in images.split(_PIECE)]
    return torch.cat(pieces).contiguous()


def true_attenuation(degradation: str, reader: Recognizer, count: int) -> dict[str, Any]:
    """Return the attenuation from degraded images whose factors are known."""
    factors = paired_factors(count)
    read = reader(degraded(trace_images(factors, SIDE), degradation))
    found = source_attenuation(factors, read, method_error=0)
    right = float((joint_bins(read) == joint_bins(factors)).mean())
    return {"images": count, "right_bins": right, "higher_order": vars(found.higher_order)}


def measure(
    distribution: Distribution, degradation: str, reader: Recognizer, images: int, check: int
) -> dict[str, Any]:
    """Score degraded images of a distribution."""
    true, place = distribution.divergence, DEGRADATIONS.index(degradation)
    factors = distribution.draw(SEED, place * images, (place + 1) * images)
    shown = degraded(trace_images(factors, SIDE), degradation)
    read: FloatArray = reader(shown)
    parts = decomposition.decompose(np.bincount(joint_bins(read), minlength=NUM_BINS))
    look = check_images(Kept(np.arange(check), shown[:check], read[:check]), reader, SIDE)
    assert look is not None
    assert look.attenuation is not None
    left = look.attenuation.higher_order
    corrected = corrected_divergence(
        parts, Share(left.value, left.standard_error, left.low, left.high)
    )
    seen = parts.total
    once = SeenFactors()
    once.add(0, read)
    near = describe_near_copies(once)
    return {
        "images": images,
        "true": true,
        "seen": [seen.value, seen.low, seen.high],
        "corrected": [corrected.value, corrected.low, corrected.high],
        "seen_holds": seen.low <= true <= seen.high,
        "corrected_holds": corrected.low <= true <= corrected.high,
        "share_left": left.to_json(),
        "right_bins": look.right_bins,
        "looks_like_the_dataset": look.ok,
        "change": look.change,
        "near_copies": None if near is None else near.copies,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=int, default=2_000)
    parser.add_argument("--check", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "degraded-images.json")
    options = parser.parse_args()
    # A score asks for more samples; a divergence of 5 and more shows in fewer.
    decomposition.require_samples = lambda *_: None
    started, reader = time.monotonic(), load_recognizer("lite", precision=PRECISION)
    settings = {
        "check": options.check, "truth": options.truth, "images": IMAGES, "seed": SEED,
        "recognizer": reader.digest, "precision": PRECISION,
    }  # fmt: skip
    found: dict[str, Any] = {**settings, "damages": {}}
    if options.out.exists():
        earlier = json.loads(options.out.read_text(encoding="utf-8"))
        if settings.items() <= earlier.items():
            found = earlier
    for degradation, key in CASES:
        row = found["damages"].setdefault(degradation, {})
        if key in row:
            continue
        if key == TRUTH:
            row[key] = true_attenuation(degradation, reader, options.truth)
        else:
            distribution = distributions()[key]
            row[key] = measure(distribution, degradation, reader, IMAGES[key], options.check)
        note(f"{degradation}, {key}: {json.dumps(row[key])}")
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if options.minutes and time.monotonic() - started > 60 * options.minutes:
            note("to be gone on with")
            return
    note("complete")


if __name__ == "__main__":
    main()
