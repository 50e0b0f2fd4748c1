"""Known faults under distributions that are not uniform.

    python -m tests.experiments.truth.known_distributions

Samples are drawn from a distribution times a density that is wrong on purpose, and tested against
the distribution. No image is made: histograms are drawn at once. Of every distribution and fault
--sources histograms tell how often the interval holds the D put in, and --named of them which parts
are named; of every distribution itself, how often a source without fault is accused, with as few
samples as are allowed. Everything is in benchmark/results/known-distribution-recovery.json.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shapeshd.benchmark.statistics.chi_square import (
    chi_square,
    chi_square_p_value,
    divergence_statistic,
    predict,
)
from shapeshd.benchmark.statistics.coupled import decompose_under
from shapeshd.benchmark.statistics.decomposition import HIGHER_ORDER
from shapeshd.benchmark.statistics.histogram import min_samples_under, read_histogram
from shapeshd.distribution import Distribution
from shapeshd.factors import BIN_SHAPE, NAMES, FloatArray
from tests import ROOT

RESULTS = ROOT / "benchmark" / "results" / "known-distribution-recovery.json"
SEED = 30
ROUNDING = 1e-9  # of a term that is 0
HEADER = (
    "| distribution | fault | D put in | D found, mean | intervals that hold it "
    "| right parts named "
    "|\n|---|---|---|---|---|---|"
)


def turned(steps: int) -> FloatArray:
    """Return 1 where the second of two hues is so many bins ahead of the first, (12, 12)."""
    return np.roll(np.eye(12), steps, axis=1)


def weighted() -> Distribution:
    return Distribution.from_json(
        {"scale": {"weights": [1, 1, 2, 4]}, "shape": {"weights": [1, 2, 0, 1]},
         "object_hue": {"weights": [4] * 3 + [1] * 9}}
    )  # fmt: skip


def coupled() -> Distribution:
    pair = {"factors": ["wall_hue", "object_hue"], "weights": (1 + 6 * turned(0)).tolist()}
    return Distribution.from_json({"pair": [pair], "orientation": {"weights": [1, 2, 3, 3, 2, 1]}})


def twice_coupled() -> Distribution:
    holes = (1 + 2 * turned(1)) * (1 - turned(6))  # opposite hues never meet
    sizes = [[3, 1, 1, 1], [1, 3, 1, 0], [1, 1, 3, 1], [1, 1, 0, 3]]
    pairs = [
        {"factors": ["floor_hue", "wall_hue"], "weights": holes.tolist()},
        {"factors": ["scale", "shape"], "weights": sizes},
    ]
    return Distribution.from_json({"pair": pairs, "object_hue": {"weights": [10] * 3 + [1] * 9}})


def rare() -> Distribution:
    return Distribution.from_json(
        {"scale": {"weights": [1, 1, 1, 1000]}, "shape": {"weights": [1, 1, 1, 50]}}
    )


DISTRIBUTIONS: dict[str, Callable[[], Distribution]] = {
    "weighted": weighted,
    "coupled": coupled,
    "twice-coupled": twice_coupled,
}
NULL_DISTRIBUTIONS = {**DISTRIBUTIONS, "rare": rare}


@dataclass(frozen=True, eq=False)
class Fault:
    """A density over the distribution, and the parts that are to be named.

    Attributes:
        name: of its kind.
        density: an array that broadcasts to `BIN_SHAPE`, >= 0.
        significant: names of parts.
    """

    name: str
    density: FloatArray
    significant: tuple[str, ...]


def on_axes(values: Any, *names: str) -> FloatArray:
    """Put a table on the axes of some factors, in the order of `NAMES`."""
    shape = [bins if name in names else 1 for name, bins in zip(NAMES, BIN_SHAPE, strict=True)]
    return np.asarray(values, dtype=np.float64).reshape(shape)


def faults(distribution: Distribution) -> list[Fault]:
    """Return faults of every kind; a pair of the distribution is hit in each of its three ways."""
    noise = np.random.default_rng(SEED).standard_normal(BIN_SHAPE)
    wave = np.cos(2 * np.pi * np.arange(12) / 12)
    product = np.multiply.outer(wave, np.linspace(-1, 1, 6))
    found = [
        Fault("none", on_axes(1), ()),
        Fault("orientation tilted", on_axes(np.linspace(0.5, 1.5, 6), "orientation"),
              ("orientation",)),
        Fault("wall hue tilted", on_axes(1 + 0.5 * wave, "wall_hue"), ("wall_hue",)),
        Fault("wall hue turns with orientation",
              on_axes(1 + 0.7 * product, "wall_hue", "orientation"), ("wall_hue x orientation",)),
        Fault("every bin more or less frequent", np.exp(0.6 * noise), (HIGHER_ORDER,)),
    ]  # fmt: skip
    for pair in distribution.pairs:
        sizes = [BIN_SHAPE[axis] for axis in pair.axes]
        place = np.add.outer(np.arange(sizes[0]), 2 * np.arange(sizes[1]))
        density = 1 + 0.5 * np.cos(2 * np.pi * place / sizes[0])
        name = " x ".join(pair.names)
        text = f"another dependence of {' and '.join(pair.names)}".replace("_", " ")
        found.append(Fault(text, on_axes(density, *pair.names), (name,)))
    return found


def with_fault(distribution: Distribution, fault: Fault) -> FloatArray:
    """Return the probabilities of the joint bins, (k,)."""
    table = distribution.expected().reshape(BIN_SHAPE) * fault.density
    return (table / table.sum()).ravel()


def exact_terms(p: FloatArray, distribution: Distribution) -> dict[str, tuple[float, float]]:
    """Return the term of every part, and that by which it is tried, by projections.

    The functions of one factor, and sums of them, are projected on by weighted least squares, on
    the table of densities; `benchmark.coupled` has kernels for it instead.
    """
    units = [unit for unit in distribution.groups if (unit.table > 0).sum() > 1]
    density = np.divide(
        p, distribution.expected(), where=distribution.expected() > 0, out=np.zeros_like(p)
    )
    axes = [axis for unit in units for axis in unit.axes]
    others = tuple(axis for axis in range(6) if axis not in axes)
    table = (density * distribution.expected()).reshape(BIN_SHAPE).sum(axis=others)
    kept = sorted(axes)
    table = table.transpose([kept.index(axis) for axis in axes])
    table = table.reshape([unit.table.size for unit in units])
    cells = [np.flatnonzero(unit.table) for unit in units]
    weights = [unit.table.ravel()[c] for unit, c in zip(units, cells, strict=True)]
    ratio = table[np.ix_(*cells)] / functools.reduce(np.multiply.outer, weights)
    projections = [_projections(unit, c) for unit, c in zip(units, cells, strict=True)]
    terms: dict[str, tuple[float, float]] = {}
    for size in (1, 2):
        for chosen in itertools.combinations(range(len(units)), size):
            seen = ratio
            for unit in reversed(range(len(units))):
                if unit not in chosen:
                    seen = np.tensordot(seen, weights[unit], (unit, 0))
            q = functools.reduce(np.multiply.outer, [weights[unit] for unit in chosen])
            for parts in itertools.product(*(projections[unit] for unit in chosen)):
                names = sorted((name for part in parts for name in part[0]), key=NAMES.index)
                values = []
                for which in (1, 2):
                    total = 0.0
                    for signed in itertools.product(*(part[which] for part in parts)):
                        projected = seen
                        for axis, (_, matrix) in enumerate(signed):
                            projected = np.moveaxis(
                                np.tensordot(matrix, projected, (1, axis)), 0, axis
                            )
                        total += float(
                            np.prod([s for s, _ in signed]) * (q * seen * projected).sum()
                        )
                    values.append(total)
                terms[" x ".join(names)] = (values[0], values[1])
    for chosen in itertools.combinations(range(len(units)), 3):
        names = sorted((name for unit in chosen for name in units[unit].names), key=NAMES.index)
        value = sum(
            (-1) ** (3 - size) * _divergence_of(ratio, weights, inside)
            for size in (1, 2, 3)
            for inside in itertools.combinations(chosen, size)
        )
        terms[" x ".join(names)] = (value, value)
    joint = functools.reduce(np.multiply.outer, weights)
    whole = float((joint * ratio**2).sum()) - 1
    left = whole - sum(term for term, _ in terms.values())
    terms[HIGHER_ORDER] = (left, left)
    return terms


def _divergence_of(ratio: FloatArray, weights: list[FloatArray], units: tuple[int, ...]) -> float:
    """Return D of the marginal histogram of some units."""
    for unit in reversed(range(ratio.ndim)):
        if unit not in units:
            ratio = np.tensordot(ratio, weights[unit], (unit, 0))
    q = functools.reduce(np.multiply.outer, [weights[unit] for unit in units])
    return float((q * ratio**2).sum()) - 1


def _projections(unit: Any, cells: Any) -> list[Any]:
    """Return (names, signed projections, those of the test) of each component of a unit."""
    q = unit.table.ravel()[cells]
    places = np.unravel_index(cells, unit.table.shape)

    def onto(*columns: Any) -> FloatArray:
        design = np.concatenate([np.equal.outer(c, np.unique(c)) for c in columns], 1).astype(float)
        return design @ np.linalg.pinv(design.T @ (q[:, None] * design)) @ (design.T * q)

    one, whole = np.tile(q, (len(q), 1)), np.eye(len(q))
    if len(unit.axes) == 1:
        only = [(1.0, whole), (-1.0, one)]
        return [(unit.names, only, only)]
    a, b = map(onto, places)
    both = onto(*places)
    parts = []
    for name, mine, other in ((unit.names[0], a, b), (unit.names[1], b, a)):
        shared = [(0.5, mine), (-0.5, one), (0.5, both), (-0.5, other)]
        parts.append(((name,), shared, [(1.0, both), (-1.0, other)]))
    left = [(1.0, whole), (-1.0, both)]
    return [*parts, (unit.names, left, left)]


def measure(
    name: str, distribution: Distribution, fault: Fault, options: argparse.Namespace
) -> dict[str, Any]:
    """Draw histograms of one fault and hold what is found against what was put in."""
    p, q = with_fault(distribution, fault), distribution.expected()
    true = float((p[q > 0] ** 2 / q[q > 0]).sum()) - 1
    terms = exact_terms(p, distribution)
    rng = np.random.default_rng([SEED, sorted(DISTRIBUTIONS).index(name), len(fault.name)])
    found, held, predicted, right, accused = [], 0, 0, 0, 0
    k = distribution.bins
    inverse = float((p[q > 0] / q[q > 0]).sum())
    expected = (((20 * k - 1) * true) + inverse - 1) / (k - 1)
    for source in range(options.sources):
        counts = rng.multinomial(options.samples, p)
        histogram = read_histogram(counts, q)
        estimate = divergence_statistic(histogram.counts, histogram.weights).estimate()
        forecast = predict(histogram, estimate).reduced_chi_square
        found.append(estimate.value)
        held += estimate.low <= true + ROUNDING and true <= estimate.high
        predicted += forecast.low <= expected + ROUNDING and expected <= forecast.high
        if source < options.named:
            named = {part.name for part in decompose_under(counts, distribution).significant}
            right += set(fault.significant) <= named
            accused += any(terms[one][1] < ROUNDING for one in named)
    return {
        "distribution": name,
        "fault": fault.name,
        "divergence": true if true > ROUNDING else 0.0,
        "mean": float(np.mean(found)),
        "standard_error": float(np.std(found) / np.sqrt(len(found))),
        "held": held,
        "prediction_held": predicted,
        "significant": list(fault.significant),
        "significant_terms": [terms[one][0] for one in fault.significant],
        "named": right,
        "faultless_accused": accused,
    }


def without_fault(
    name: str, distribution: Distribution, options: argparse.Namespace
) -> dict[str, Any]:
    """Test ideal samplers of a distribution with the fewest samples that are allowed."""
    q = distribution.expected()
    n = min_samples_under(q)
    rng = np.random.default_rng([SEED, 99, sorted(NULL_DISTRIBUTIONS).index(name)])
    above, small, reduced, errors = 0, 0, [], []
    for _ in range(options.sources):
        histogram = read_histogram(rng.multinomial(n, q), q)
        estimate = divergence_statistic(histogram.counts, histogram.weights).estimate()
        x2 = chi_square(histogram)
        above += estimate.low > 0
        small += chi_square_p_value(x2, histogram) < 0.05
        reduced.append(x2 / (distribution.bins - 1))
        errors.append(estimate.value)
    return {
        "distribution": name,
        "bins": distribution.bins,
        "samples": n,
        "rarest_bin": float(q[q > 0].min()),
        "interval_above_0": above,
        "p_below_5_percent": small,
        "reduced_chi_square": float(np.mean(reduced)),
        "reduced_chi_square_error": float(np.std(reduced) / np.sqrt(len(reduced))),
        "deviation_of_D": float(np.std(errors)),
    }


def row_of(row: dict[str, Any], options: argparse.Namespace) -> str:
    named = f"{row['named']} of {options.named}" if row["significant"] else "\N{EN DASH}"
    return (
        f"| {row['distribution']} | {row['fault']} | {row['divergence']:.4f} | {row['mean']:.4f} ± "
        f"{row['standard_error']:.4f} | {row['held']} of {options.sources} | {named} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=20_000, help="of each histogram")
    parser.add_argument(
        "--sources", type=int, default=200, help="histograms of a distribution and fault"
    )
    parser.add_argument("--named", type=int, default=10, help="of these, whose parts are tried")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    began = time.perf_counter()
    ideal = [without_fault(name, make(), options) for name, make in NULL_DISTRIBUTIONS.items()]
    rows = []
    print(HEADER)
    for name, make in DISTRIBUTIONS.items():
        distribution = make()
        for fault in faults(distribution):
            rows.append(measure(name, distribution, fault, options))
            print(row_of(rows[-1], options), flush=True)
    values = {
        "command": "python -m tests.experiments.truth.known_distributions",
        "samples": options.samples,
        "sources": options.sources,
        "named_of": options.named,
        "distributions": {name: make().text for name, make in NULL_DISTRIBUTIONS.items()},
        "ideal": ideal,
        "rows": rows,
    }
    options.out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    for row in ideal:
        print(row)
    print(f"{time.perf_counter() - began:.0f} s; written to {options.out}")


if __name__ == "__main__":
    main()
