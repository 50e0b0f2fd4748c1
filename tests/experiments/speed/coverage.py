"""How often the 95% intervals hold the truth: python -m tests.experiments.speed.coverage

Sources of known divergence, of several kinds, are drawn at random; n samples of each are
counted, and every interval (of the divergence and of all its 42 parts) is held against the
truth. The result is benchmark/results/coverage.json. Beside it: how often a faultless part is
accused, and how often the significant one is named. Takes seven minutes on one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from shapeshd.benchmark.statistics.decomposition import HIGHER_ORDER, decompose
from shapeshd.factors import BIN_SHAPE, NAMES, NUM_BINS
from tests import ROOT

Table = npt.NDArray[np.float64]
Rng = np.random.Generator

SAMPLES = (20_000, 100_000, 332_000)
OUT = ROOT / "benchmark" / "results" / "coverage.json"
ALL = tuple(range(len(BIN_SHAPE)))
DETECTABLE = 0.02  # a term of this size is to be named
ROUNDING = 1e-10  # of a truth that is 0


def uniform(rng: Rng) -> tuple[Table, set[str]]:
    return np.ones(BIN_SHAPE), set()


def tilted(rng: Rng) -> tuple[Table, set[str]]:
    """One factor, each of its values more or less frequent; D of about 0.002 to 0.5."""
    axis = int(rng.integers(len(BIN_SHAPE)))
    strength = np.exp(rng.uniform(np.log(0.05), np.log(0.7)))
    density = np.exp(strength * rng.standard_normal(BIN_SHAPE[axis]))
    return spread(density, (axis,)), {NAMES[axis]}


def coupled(rng: Rng) -> tuple[Table, set[str]]:
    """A pair whose every combination is more or less frequent, its margins kept uniform."""
    axes = tuple(sorted(int(axis) for axis in rng.choice(len(BIN_SHAPE), 2, replace=False)))
    strength = np.exp(rng.uniform(np.log(0.05), np.log(0.7)))
    density = np.exp(strength * rng.standard_normal([BIN_SHAPE[axis] for axis in axes]))
    for _ in range(200):  # iterative proportional fitting
        density /= density.mean(axis=0)
        density /= density.mean(axis=1, keepdims=True)
    return spread(density, axes), {" x ".join(NAMES[axis] for axis in axes)}


def dropped(rng: Rng) -> tuple[Table, set[str]]:
    """No sample has one value of a factor; or one combination of two factors is missing."""
    table = np.ones(BIN_SHAPE)
    count = int(rng.integers(1, 3))
    chosen = sorted(int(axis) for axis in rng.choice(len(BIN_SHAPE), count, replace=False))
    where: list[Any] = [slice(None)] * len(BIN_SHAPE)
    for axis in chosen:
        where[axis] = int(rng.integers(BIN_SHAPE[axis]))
    table[tuple(where)] = 0
    significant = [NAMES[axis] for axis in chosen]
    return table, {*significant, " x ".join(significant)}  # the same name if it is one


def memorised(rng: Rng) -> tuple[Table, set[str]]:
    """A training set of 50,000 to 2,000,000 images, repeated; D of about 3.3 to 0.08."""
    images = int(np.exp(rng.uniform(np.log(5e4), np.log(2e6))))
    counts = rng.multinomial(images, np.full(NUM_BINS, 1 / NUM_BINS))
    return counts.reshape(BIN_SHAPE).astype(np.float64), {HIGHER_ORDER}


def noise(rng: Rng) -> tuple[Table, set[str]]:
    """Every joint bin more or less frequent, log-normally; D of about 0.01 to 1.7."""
    strength = np.exp(rng.uniform(np.log(0.1), np.log(1.0)))
    return np.exp(strength * rng.standard_normal(BIN_SHAPE)), {HIGHER_ORDER}


def mixed(rng: Rng) -> tuple[Table, set[str]]:
    """All factors tilted a little, two pairs coupled, noise: as a trained model may be."""
    table = noise(rng)[0] ** 0.3
    significant = {HIGHER_ORDER}
    for axis in ALL:
        table = table * spread(np.exp(0.1 * rng.standard_normal(BIN_SHAPE[axis])), (axis,))
        significant.add(NAMES[axis])
    for _ in range(2):
        table = table * coupled(rng)[0]
    return table, significant | {f"{a} x {b}" for a, b in itertools.combinations(NAMES, 2)}


KINDS: tuple[Callable[[Rng], tuple[Table, set[str]]], ...] = (
    uniform, tilted, coupled, dropped, memorised, noise, mixed,
)  # fmt: skip


def spread(density: Table, axes: tuple[int, ...]) -> Table:
    """Repeat a density of some factors over all the others."""
    shape = [BIN_SHAPE[axis] if axis in axes else 1 for axis in ALL]
    return np.broadcast_to(density.reshape(shape), BIN_SHAPE)


def divergence(p: Table) -> float:
    return float(p.size * (p**2).sum() - 1)


def truth(p: Table) -> dict[str, float]:
    """Return D, and Delta of all parts, by their definition."""
    joint = divergence(p)
    parts: dict[str, float] = {}
    for axis, name in enumerate(NAMES):
        parts[name] = divergence(p.sum(axis=tuple(b for b in ALL if b != axis)))
    for a, b in itertools.combinations(ALL, 2):
        both = divergence(p.sum(axis=tuple(c for c in ALL if c not in (a, b))))
        parts[f"{NAMES[a]} x {NAMES[b]}"] = both - parts[NAMES[a]] - parts[NAMES[b]]
    for axes in itertools.combinations(ALL, 3):
        names = [NAMES[axis] for axis in axes]
        whole = divergence(p.sum(axis=tuple(b for b in ALL if b not in axes)))
        lower = [*names, *map(" x ".join, itertools.combinations(names, 2))]
        parts[" x ".join(names)] = whole - sum(parts[name] for name in lower)
    parts = {"total": joint, **parts, HIGHER_ORDER: joint - sum(parts.values())}
    return {name: 0.0 if abs(value) < ROUNDING else value for name, value in parts.items()}


def group(name: str) -> str:
    if name in ("total", HIGHER_ORDER):
        return name
    return ("main effects", "pairs", "triples")[name.count(" x ")]


def measure(kind: Callable[[Rng], tuple[Table, set[str]]], n: int, sources: int) -> dict[str, Any]:
    covered: dict[str, list[bool]] = {}
    widths, errors, divergences = [], [], []
    accused = named = could = 0
    for index in range(sources):
        rng = np.random.default_rng([KINDS.index(kind), n, index])
        table, significant = kind(rng)
        p = np.asarray(table / table.sum())
        found = decompose(rng.multinomial(n, p.ravel()))
        wanted = truth(p)
        estimates = {"total": found.total, **{part.name: part.delta for part in found.parts}}
        for name, estimate in estimates.items():
            true = wanted[name]
            covered.setdefault(group(name), []).append(estimate.low <= true <= estimate.high)
        names = {part.name for part in found.significant}
        accused += any(wanted[name] == 0 for name in names)
        detectable = {name for name in significant if wanted[name] > DETECTABLE}
        could += bool(detectable)
        named += bool(detectable & names)
        divergences.append(wanted["total"])
        widths.append(found.total.high - found.total.low)
        errors.append(found.total.value - wanted["total"])
    return {
        "kind": kind.__name__,
        "samples": n,
        "sources": sources,
        "divergence": [min(divergences), float(np.median(divergences)), max(divergences)],
        "mean_error": float(np.mean(errors)),
        "mean_width": float(np.mean(widths)),
        "coverage": {name: share(holds) for name, holds in covered.items()},
        "sources_with_a_faultless_part_accused": accused / sources,
        "sources_with_the_significant_part_named": named / could if could else None,
    }


def share(holds: list[bool]) -> dict[str, float | int]:
    """Return how many hold, with Wilson's 95% interval (for parts too wide: they correlate)."""
    result = stats.binomtest(sum(holds), len(holds)).proportion_ci(method="wilson")
    return {
        "share": sum(holds) / len(holds),
        "low": float(result.low),
        "high": float(result.high),
        "trials": len(holds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=200)
    parser.add_argument("--kinds", nargs="*", default=[kind.__name__ for kind in KINDS])
    parser.add_argument("--samples", nargs="*", type=int, default=SAMPLES)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    rows = []
    groups = ("total", "main effects", "pairs", "triples", HIGHER_ORDER)
    print(f"| source | n | D, median | {' | '.join(groups)} | accused | named |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    started = time.perf_counter()
    for kind in KINDS:
        if kind.__name__ not in options.kinds:
            continue
        for n in options.samples:
            row = measure(kind, n, options.sources)
            rows.append(row)
            cells = [f"{row['coverage'][name]['share']:.1%}" for name in groups]
            significant = row["sources_with_the_significant_part_named"]
            print(
                f"| {row['kind']} | {n:,} | {row['divergence'][1]:.3g} | {' | '.join(cells)} "
                f"| {row['sources_with_a_faultless_part_accused']:.1%} "
                f"| {'-' if significant is None else f'{significant:.0%}'} |",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps({"bins": NUM_BINS, "confidence": 0.95, "rows": rows}, indent=1) + "\n"
    )
    print(f"{time.perf_counter() - started:.0f} s; written to {options.out}")


if __name__ == "__main__":
    main()
