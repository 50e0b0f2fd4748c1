"""Levels and corners of the statistic: python -m tests.experiments.truth.levels

Sources of known divergence are drawn many times, and held against what the statistic promises:

- ``ideal``: how often a faultless source fails, by D or a part, and by the verdict of both (at most
  5%); how often the interval of D holds 0 (97.5%).
- ``interval``: how often the 95% interval of D holds the truth, for much mass in few bins.
- ``rare``: the same under distributions with rare bins, and too much mass in them, evenly or not.
- ``collapsed``: independent factors with nearly all samples in one value each: how often any set
  of two, three or more is called significant (at most 2.5%).
- ``triple``: three factors that depend on each other though no two do (XOR of their halves): how
  often they, and they alone, are named.
- ``limit``: sources at the detection limit that the verdict quotes, with errors of a recognizer:
  how often D fails them (80%).
- ``copies``: true images, which repeat nothing, as `lite` reads them clean and saved as JPEG of
  quality 75: how often near copies are named (hardly ever). Factors are drawn anew in each run;
  errors are drawn from those that `lite` makes on traced images.

The result is benchmark/results/levels.json. `--runs` are for all but `collapsed` and `ideal`, which
take 0.2 s each (`--slow-runs`), and `copies` (`--copies-runs`). Takes about forty minutes on one
core.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from shapeshd.benchmark.image_check.real_images import paired_factors
from shapeshd.benchmark.recognizer.degrade import KnownDegradation
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.scoring.near_copies import describe_near_copies
from shapeshd.benchmark.scoring.seen_factors import SeenFactors
from shapeshd.benchmark.statistics.chi_square import divergence_statistic
from shapeshd.benchmark.statistics.decomposition import HIGHER_ORDER, decompose
from shapeshd.benchmark.statistics.histogram import min_samples_under
from shapeshd.benchmark.statistics.references import detection_limit
from shapeshd.factors import BIN_SHAPE, FACTORS, NAMES, NUM_BINS, SHAPE, FloatArray, uniform_factors
from shapeshd.raytracer.tracer import trace_images
from tests import ROOT

OUT = ROOT / "benchmark" / "results" / "levels.json"
SEED = 14
SMALLEST, PROTOCOL = 5_761, 20 * NUM_BINS
SPIKES = (
    (SMALLEST, 1, 0.001), (SMALLEST, 1, 0.002), (SMALLEST, 1, 0.003), (SMALLEST, 1, 0.01),
    (SMALLEST, 5, 0.003), (20_000, 1, 0.001), (20_000, 1, 0.003), (100_000, 1, 0.0005),
)  # fmt: skip
RARE = ((30.0, 6_000, 0.1), (100.0, 6_000, 0.03), (100.0, 20_000, 0.03), (1_000.0, None, 0.01))
COLLAPSED: tuple[tuple[int, tuple[str, ...], float], ...] = (
    (SMALLEST, ("floor_hue", "wall_hue"), 0.98),
    (100_000, ("floor_hue", "wall_hue"), 0.995),
    (SMALLEST, ("floor_hue", "wall_hue", "object_hue"), 0.98),
    (20_000, NAMES, 0.9),
)
EXCLUSIVE = ("object_hue", "scale", "shape")
TRIPLES = ((6_000, 0.36), (20_000, 0.05), (100_000, 0.01))
LIMITS = ((20_000, 0.0), (20_000, 0.0161), (100_000, 0.0161), (PROTOCOL, 0.0161))
DEGRADATIONS = (None, "jpeg=75")
READ_IMAGES = 2_000  # of which the errors of `lite` are taken

Row = dict[str, Any]


def share(found: int, runs: int) -> Row:
    """Return a share with Wilson's 95% interval."""
    ends = stats.binomtest(found, runs).proportion_ci(method="wilson")
    return {"share": found / runs, "low": float(ends.low), "high": float(ends.high), "runs": runs}


def on_axis(values: FloatArray, name: str) -> FloatArray:
    axis = NAMES.index(name)
    return values.reshape([-1 if other == axis else 1 for other in range(len(NAMES))])


def of_density(density: FloatArray) -> FloatArray:
    table = np.broadcast_to(density, BIN_SHAPE)
    return np.asarray(table / table.sum()).ravel()


def divergence(p: FloatArray, q: FloatArray) -> float:
    value = float((p**2 / q).sum()) - 1
    return value if abs(value) > 1e-10 else 0.0


def ideal(runs: int) -> Iterator[Row]:
    for n in (SMALLEST, 20_000, 100_000):
        rng = np.random.default_rng([SEED, 1, n])
        by_divergence = by_part = both = 0
        for _ in range(runs):
            found = decompose(rng.multinomial(n, np.full(NUM_BINS, 1 / NUM_BINS)))
            wrong, parts = found.total.low > 0, bool(found.significant)
            by_divergence, by_part, both = (
                by_divergence + wrong, by_part + parts, both + (wrong or parts),
            )  # fmt: skip
        yield {
            "samples": n,
            "fails_by_divergence": share(by_divergence, runs),
            "fails_by_a_part": share(by_part, runs),
            "fails": share(both, runs),
        }


def covered(
    draw: Callable[[np.random.Generator], FloatArray], q: FloatArray, n: int, runs: int, seed: int
) -> Row:
    rng, weights = np.random.default_rng([SEED, seed, n]), 1 / q
    below = above = 0
    truths = []
    for _ in range(runs):
        p = draw(rng)
        truths.append(divergence(p, q))
        estimate = divergence_statistic(rng.multinomial(n, p), weights).estimate()
        below += estimate.high < truths[-1] * (1 - 1e-9)
        above += estimate.low > truths[-1] * (1 + 1e-9)
    return {
        "samples": n,
        "divergence": float(np.median(truths)),
        "held": share(runs - below - above, runs),
        "interval_below": below / runs,
        "interval_above": above / runs,
    }


def interval(runs: int) -> Iterator[Row]:
    q = np.full(NUM_BINS, 1 / NUM_BINS)
    for place, (n, bins, mass) in enumerate(SPIKES):
        p = q * (1 - bins * mass)
        p[:bins] += mass
        row = covered(lambda _, p=p: p, q, n, runs, 20 + place)  # type: ignore[misc]
        yield {"bins_with_too_much": bins, "mass_in_each": mass, **row}


def rare(runs: int) -> Iterator[Row]:
    for place, (times, samples, moved) in enumerate(RARE):
        weights = np.array([1 / times, 1, 1, 1, 1, 1])  # of a sixth of all bins
        q = of_density(on_axis(weights, "orientation"))
        few = q < q.max()
        n = samples or min_samples_under(q)
        for even in (True, False):

            def draw(
                rng: np.random.Generator, q: FloatArray = q, few: Any = few, even: bool = even,
                moved: float = moved,
            ) -> FloatArray:  # fmt: skip
                count = int(few.sum())
                p = q * (1 - moved)
                p[few] += moved * (1 / count if even else rng.dirichlet(np.ones(count)))
                return p

            row = covered(draw, q, n, runs, 40 + 2 * place + even)
            yield {"times_as_rare": times, "moved": moved, "evenly": even, **row}


def collapsed(runs: int) -> Iterator[Row]:
    for place, (n, names, mass) in enumerate(COLLAPSED):
        density: FloatArray = np.ones((1,) * len(NAMES))
        for name in names:
            bins = BIN_SHAPE[NAMES.index(name)]
            density = density * on_axis(
                np.array([mass, *[(1 - mass) / (bins - 1)] * (bins - 1)]), name
            )
        p, rng = of_density(density), np.random.default_rng([SEED, 60 + place])
        wrong = named = 0
        for _ in range(runs):
            significant = decompose(rng.multinomial(n, p)).significant
            wrong += any(len(part.factors) != 1 for part in significant)
            named += {part.name for part in significant if len(part.factors) == 1} >= set(names)
        yield {
            "samples": n,
            "factors": list(names),
            "share_in_one_value": mass,
            "sets_accused": share(wrong, runs),
            "factors_named": share(named, runs),
        }


def triple(runs: int) -> Iterator[Row]:
    for n, true in TRIPLES:
        halves = [on_axis(np.repeat([1.0, -1.0], BIN_SHAPE[NAMES.index(name)] // 2), name)
                  for name in EXCLUSIVE]  # fmt: skip
        p = of_density(1 + math.sqrt(true) * functools.reduce(np.multiply, halves))
        rng = np.random.default_rng([SEED, 70, n])
        named = other = higher = 0
        for _ in range(runs):
            names = {part.factors for part in decompose(rng.multinomial(n, p)).significant}
            named += EXCLUSIVE in names
            higher += () in names
            other += bool(names - {EXCLUSIVE})
        yield {
            "samples": n,
            "divergence": true,
            "named": share(named, runs),
            "others_named": share(other, runs),
            HIGHER_ORDER: share(higher, runs),
        }


def limit(runs: int) -> Iterator[Row]:
    signs = np.random.default_rng(SEED).permutation(np.resize([1.0, -1.0], NUM_BINS))
    weights = np.full(NUM_BINS, float(NUM_BINS))
    for n, error in LIMITS:
        promised = detection_limit(n, margin=(2 * error) ** 2)
        p = (1 + math.sqrt(promised.divergence) * signs) / NUM_BINS
        rng = np.random.default_rng([SEED, 80, n])
        failed = 0
        for _ in range(runs):
            estimate = divergence_statistic(rng.multinomial(n, p), weights).estimate()
            failed += estimate.low > promised.margin
        yield {
            "samples": n,
            "misread": error,
            "margin": promised.margin,
            "limit": promised.divergence,
            "fails": share(failed, runs),
        }


@functools.cache
def errors_of_lite(degradation: str | None) -> tuple[FloatArray, FloatArray]:
    """Return the true factors (m, 6) of traced images, and by how much `lite` misses them."""
    factors = paired_factors(READ_IMAGES)
    images = trace_images(factors, 64)
    if degradation is not None:
        degrade = KnownDegradation.parse(degradation)
        images = degrade(images, torch.Generator().manual_seed(SEED)).contiguous()
    return factors, load_recognizer("lite")(images) - factors


def read_by_lite(
    factors: FloatArray, degradation: str | None, rng: np.random.Generator
) -> FloatArray:
    """Return factors with errors that `lite` made on images of the same shapes."""
    known, errors = errors_of_lite(degradation)
    found = factors.copy()
    for shape in range(BIN_SHAPE[SHAPE]):
        here = np.flatnonzero(factors[:, SHAPE] == shape)
        found[here] += errors[rng.choice(np.flatnonzero(known[:, SHAPE] == shape), len(here))]
    for column, factor in enumerate(FACTORS):
        if factor.topology == "circle":
            found[:, column] %= 1
        else:
            found[:, column] = found[:, column].clip(factor.low, factor.high)
    return found


def copies(runs: int) -> Iterator[Row]:
    for place, degradation in enumerate(DEGRADATIONS):
        rng, named = np.random.default_rng([SEED, 90 + place]), 0
        for _ in range(runs):
            factors = uniform_factors(int(rng.integers(2**31)), 0, SMALLEST)
            seen = SeenFactors()
            seen.add(0, read_by_lite(factors, degradation, rng))
            found = describe_near_copies(seen)
            named += found is not None and found.copies > 0
        yield {
            "degradation": degradation,
            "samples": SMALLEST,
            "near_copies_named": share(named, runs),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sections = {"ideal": ideal, "interval": interval, "rare": rare, "collapsed": collapsed,
                "triple": triple, "limit": limit, "copies": copies}  # fmt: skip
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--slow-runs", type=int, default=1_000)
    parser.add_argument("--copies-runs", type=int, default=200)
    parser.add_argument("--sections", nargs="*", default=list(sections), choices=list(sections))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.sections:
        began, slow = time.perf_counter(), name in ("ideal", "collapsed", "triple")
        results[name] = []
        runs = options.slow_runs if slow else options.runs
        for row in sections[name](options.copies_runs if name == "copies" else runs):
            results[name].append(row)
            shown = {key: f"{value['share']:.1%}" if isinstance(value, dict) else value
                     for key, value in row.items()}  # fmt: skip
            print(name, shown, flush=True)
            options.out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
