"""How often images that repeat nothing are taken for near copies: 200 sources of each kind.

    python -m tests.experiments.truth.near_copies [--runs 200] [--minutes 4]

Factors are drawn from the uniform distribution, at each number of images, and read with the errors
of `lite`: errors that it made on images of known factors, drawn from those with factors alike (the
nearest of the shape), so that they may depend on what is seen. The images whose errors are taken
are traced as they are, as JPEG of quality 75, and with noise of 16 levels. Kinds beside those: hues
that follow from each other, a collapse onto few values, and a factor on few values.

Recorded are the runs in which a near copy was named, in benchmark/results/near-copies.json. What
stands there of the same settings is kept: a run that was stopped, or ended after `--minutes`, goes
on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from shapeshd.benchmark.recognizer.degrade import KnownDegradation
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.benchmark.scoring.near_copies import describe_near_copies
from shapeshd.benchmark.scoring.seen_factors import SeenFactors
from shapeshd.factors import FACTORS, SHAPE, FloatArray, uniform_factors
from shapeshd.raytracer.tracer import trace_images
from shapeshd.support.progress import note
from tests import ROOT

RESULTS = ROOT / "benchmark" / "results"
SIDE, SEED, KNOWN = 64, 43, 1_000
NEIGHBOURS = 8  # an error is drawn from those of so many known images
Bias = Callable[[FloatArray, np.random.Generator], FloatArray]


def _one_colour(factors: FloatArray, _: np.random.Generator) -> FloatArray:
    factors[:, 1] = factors[:, 2]
    return factors


def _collapsed(factors: FloatArray, rng: np.random.Generator) -> FloatArray:
    factors[:, 3] = 1.5
    factors[:, 4] = 2
    factors[:, 0] = rng.normal(0.3, 0.02, len(factors)) % 1
    return factors


def _few_hues(factors: FloatArray, rng: np.random.Generator) -> FloatArray:
    factors[:, 2] = rng.integers(0, 10, len(factors)) / 10
    return factors


BIASES: dict[str, Bias] = {
    "uniform": lambda factors, _: factors,
    "wall and object of one colour": _one_colour,
    "one shape and scale, floor hues close together": _collapsed,
    "ten object hues": _few_hues,
}
CASES = (
    ("none", "uniform", 6_000), ("jpeg=75", "uniform", 6_000), ("none", "uniform", 20_000),
    ("noise=16", "uniform", 6_000), *(("none", bias, 6_000) for bias in list(BIASES)[1:]),
)  # fmt: skip


class Errors:
    """Errors that a recognizer makes on images with a degradation.

    Args:
        reader: the recognizer.
        degradation: see `KnownDegradation`, or "none".
    """

    def __init__(self, reader: Recognizer, degradation: str) -> None:
        truth = uniform_factors(SEED, 0, KNOWN)
        images = trace_images(truth, SIDE)
        if degradation != "none":
            generator = torch.Generator().manual_seed(SEED)
            images = KnownDegradation.parse(degradation)(images, generator).contiguous()
        self._errors = reader(images) - truth
        hues = self._errors[:, :3]
        hues -= np.rint(hues)
        self._errors[:, SHAPE] = 0  # a wrong shape is never nearer to a copy
        self._tree = scipy.spatial.cKDTree(_places(truth))

    def read(self, factors: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return factors (n, 6) as they are read."""
        near = self._tree.query(_places(factors), k=NEIGHBOURS)[1]
        rows = near[np.arange(len(factors)), rng.integers(0, NEIGHBOURS, len(factors))]
        found = factors + self._errors[rows]
        for column, factor in enumerate(FACTORS):
            if factor.topology == "circle":
                found[:, column] %= 1
            else:
                found[:, column] = found[:, column].clip(factor.low, factor.high)
        return found


def _places(factors: FloatArray) -> FloatArray:
    """Return points whose distance says how alike scenes are; shapes are apart."""
    angles = 2 * np.pi * factors[:, :3]
    turned = (factors[:, 5] - FACTORS[5].low) / FACTORS[5].period
    rest = np.stack([2 * (factors[:, 3] - 1), 100 * factors[:, SHAPE], 2 * turned], axis=1)
    return np.concatenate([np.cos(angles), np.sin(angles), rest], axis=1)


def named(factors: FloatArray) -> bool:
    """Tell whether a score would name near copies among images of these factors."""
    seen = SeenFactors()
    seen.add(0, factors)
    found = describe_near_copies(seen)
    return found is not None and found.copies > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--out", type=Path, default=RESULTS / "near-copies.json")
    options = parser.parse_args()
    started, reader = time.monotonic(), load_recognizer("lite")
    found: dict[str, Any] = {"seed": SEED, "recognizer": reader.digest, "known": KNOWN, "cases": []}
    if options.out.exists():
        earlier = json.loads(options.out.read_text(encoding="utf-8"))
        if {**earlier, "cases": []} == found:
            found = earlier
    rows = {(row["degradation"], row["source"], row["images"]): row for row in found["cases"]}
    errors: dict[str, Errors] = {}
    for degradation, bias, images in CASES:
        row = rows.get((degradation, bias, images))
        if row is None:
            row = {"degradation": degradation, "source": bias, "images": images, "runs": 0,
                   "named": 0}  # fmt: skip
            found["cases"].append(row)
        while row["runs"] < options.runs:
            if degradation not in errors:
                errors[degradation] = Errors(reader, degradation)
            rng = np.random.default_rng((SEED, images, row["runs"]))
            factors = uniform_factors(SEED + 1 + row["runs"], 0, images)
            factors = BIASES[bias](factors, rng)
            row["named"] += named(errors[degradation].read(factors, rng))
            row["runs"] += 1
            if options.minutes and time.monotonic() - started > 60 * options.minutes:
                break
        note(f"{degradation}, {bias}, {images:,} images: {row['named']} of {row['runs']} runs")
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if options.minutes and time.monotonic() - started > 60 * options.minutes:
            note("to be gone on with")
            return
    note("complete")


if __name__ == "__main__":
    main()
