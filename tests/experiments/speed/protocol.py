"""Does 100,000 samples' prediction hold? ``python -m tests.experiments.speed.protocol``

The whole protocol, 20 samples for each of 165,888 bins, runs through `score` on a source whose
distribution is known exactly. Its images carry the bin and the place in it of every factor in their
first pixels, and the recognizer reads them there: what is tested is the counting and the
statistics, 3,317,760 images long, and not the networks. Then independent runs of 100,000 samples
predict the protocol's reduced chi-square; their intervals are held against its exact expectation
and against what the full run gave. Takes a few minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.statistics.chi_square import PER_BIN, PROTOCOL
from shapeshd.factors import BIN_SHAPE, NUM_BINS, FloatArray, bin_indices, from_unit
from tests import ROOT
from tests.experiments.truth.distributions import DISTRIBUTIONS, Distribution, uniform_numbers

OUT = ROOT / "benchmark" / "results" / "protocol.json"
SIDE = 32  # the smallest that a score accepts
_FULL_SEED, _FIRST_SEED = 0, 1
_STEPS = 256  # places in a bin


class Carrier:
    """A `Source` of images that carry factors: six bytes of bins, then six of places in them."""

    kind = "carrier"
    count: int | None = None

    def __init__(self, distribution: Distribution, seed: int) -> None:
        self.name = distribution.name
        self._distribution, self._seed = distribution, seed

    def images(self, start: int, stop: int) -> Tensor:
        """Return uint8 (n, 3, SIDE, SIDE); image i depends on (distribution, seed, i) alone."""
        unit = uniform_numbers(self._seed, start, stop)
        joint = self._distribution.bins(unit[:, 0])
        images = np.zeros((stop - start, 3 * SIDE * SIDE), dtype=np.uint8)
        images[:, :6] = np.stack(np.unravel_index(joint, BIN_SHAPE), axis=1)
        images[:, 6:12] = unit[:, 1:7] * _STEPS
        return torch.from_numpy(images).view(-1, 3, SIDE, SIDE)

    def describe(self) -> dict[str, Any]:
        return {"seed": self._seed}

    def __enter__(self) -> Carrier:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is open."""


class CarriedFactors:
    """A recognizer that reads what `Carrier` wrote."""

    name = "carried factors"
    size = SIDE
    digest = ""
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.card: dict[str, Any] = {}

    def __call__(self, images: Tensor) -> FloatArray:
        """Return factors (n, 6)."""
        written = images.flatten(1)[:, :12].numpy().astype(np.float64)
        place = (written[:, 6:] + 0.5) / _STEPS
        return from_unit((written[:, :6] + place) / BIN_SHAPE)


def check_carrier(distribution: Distribution) -> None:
    """Raise unless what is read lies in the bins that the distribution drew."""
    images = Carrier(distribution, _FULL_SEED).images(0, 4096)
    bins = distribution.bins(uniform_numbers(_FULL_SEED, 0, 4096)[:, 0])
    read = bin_indices(CarriedFactors()(images))
    assert (np.ravel_multi_index(tuple(read.T), BIN_SHAPE) == bins).all()


def run(distribution: Distribution, seed: int, samples: int | None, folder: Path) -> Result:
    """Score a distribution, by the protocol or with so many samples."""
    protocol = PROTOCOL if samples is None else None
    source, reader = Carrier(distribution, seed), CarriedFactors()
    result = score_source(
        source, reader, folder, ScoreSettings(samples=samples, protocol=protocol, seed=seed)
    )
    assert result is not None
    return result


def measure(distribution: Distribution, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Run the protocol once and the short runs by their seeds."""
    check_carrier(distribution)
    full_samples = PER_BIN * NUM_BINS
    expected = distribution.reduced_chi_square(full_samples)
    began = time.perf_counter()
    full = run(distribution, _FULL_SEED, options.full, work / f"{distribution.name}-full")
    seconds = time.perf_counter() - began
    fit = full.fit
    # At 20 samples per bin this is the reduced chi-square itself, but for its floor of 1.
    observed = fit.prediction.reduced_chi_square.reported
    rows = []
    for seed in range(_FIRST_SEED, _FIRST_SEED + options.seeds):
        part = run(distribution, seed, options.samples, work / f"{distribution.name}-{seed}")
        predicted = part.fit.prediction.reduced_chi_square
        low, high = predicted.low, predicted.high
        rows.append(
            {
                "seed": seed,
                "predicted": predicted.reported,
                "low": low,
                "high": high,
                "holds_expectation": low <= expected <= high,
                "holds_full_run": low <= observed <= high,
            }
        )
    errors = [row["predicted"] - expected for row in rows]
    return {
        "distribution": distribution.name,
        "fault": distribution.text,
        "divergence": distribution.divergence,
        "expected_reduced_chi_square": expected,
        "full_run": {
            "samples": full.samples,
            "reduced_chi_square": fit.reduced_chi_square,
            "p_value": fit.p_value,
            "divergence": fit.divergence.to_json(),
            "holds_divergence": (
                fit.divergence.low <= distribution.divergence <= fit.divergence.high
            ),
            "significant": [part.name for part in full.decomposition.significant],
            "seconds": round(seconds, 1),
            "images_per_second": full.run.images_per_second,
        },
        "prediction": {
            "samples": options.samples,
            "mean": float(np.mean([row["predicted"] for row in rows])),
            "mean_error": float(np.mean(errors)),
            "mean_width": float(np.mean([row["high"] - row["low"] for row in rows])),
            "holds_expectation": share([bool(row["holds_expectation"]) for row in rows]),
            "holds_full_run": share([bool(row["holds_full_run"]) for row in rows]),
            "runs": rows,
        },
    }


def share(holds: list[bool]) -> dict[str, Any]:
    """Return how many hold, with Wilson's 95% interval."""
    limits = stats.binomtest(sum(holds), len(holds)).proportion_ci(method="wilson")
    return {
        "count": sum(holds), "of": len(holds), "low": float(limits.low), "high": float(limits.high)
    }  # fmt: skip


def report(row: dict[str, Any]) -> str:
    full, short = row["full_run"], row["prediction"]
    divergence = full["divergence"]
    return (
        f"| {row['distribution']} | {row['divergence']:.4g} "
        f"| {divergence['reported']:.4g} [{divergence['low']:.4g}, {divergence['high']:.4g}] "
        f"| {row['expected_reduced_chi_square']:.4f} | {full['reduced_chi_square']:.4f} "
        f"| {short['mean']:.4f}, {short['mean_width']:.2f} wide "
        f"| {short['holds_expectation']['count']} of {short['holds_expectation']['of']} "
        f"| {short['holds_full_run']['count']} of {short['holds_full_run']['of']} "
        f"| {full['seconds']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--distributions", nargs="+", choices=list(DISTRIBUTIONS), default=["unbiased", "mixture"]
    )
    parser.add_argument("--samples", type=int, default=100_000, help="of a short run")
    parser.add_argument("--seeds", type=int, default=20, help="short runs")
    parser.add_argument("--full", type=int, help="samples of the full run, to try this out")
    parser.add_argument("--out", type=Path, nargs="?", const=OUT, help=f"JSON; alone: {OUT.name}")
    options = parser.parse_args()
    rows = []
    print("| distribution | D | D of the full run | expected chi2 | full run | predicted, mean "
          "| holds expected | holds full run | full run, s |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="shapeshd-protocol-") as work:
        for name in options.distributions:
            rows.append(measure(DISTRIBUTIONS[name](), options, Path(work)))
            print(report(rows[-1]), flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        values = {"protocol": PROTOCOL, "bins": NUM_BINS, "confidence": 0.95, "rows": rows}
        options.out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        print(f"written to {options.out}")


if __name__ == "__main__":
    main()
