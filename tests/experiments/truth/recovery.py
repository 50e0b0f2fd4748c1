"""From a known fault to the verdict.

    python -m tests.experiments.truth.recovery [--images 20000] [--size 64]

Factors are drawn from distributions that are wrong on purpose (see distributions.py), written as a
table, rendered as `shapeshd render --factors` does it, and the *images* are scored. The divergence
that the score finds is held against the exact one of the distribution; so are the parts that it
names. Beside it stands the divergence of the drawn factors themselves: what the score would find if
the recognizer never erred.

The table is printed for the README; everything is in benchmark/results/recovery-SIZE.json.
With --keep, what is rendered stays, and another run renders only what is missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.sources import open_source
from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.decomposition import HIGHER_ORDER
from shapeshd.benchmark.statistics.record import EstimateRecord
from shapeshd.dataset.manifest import load_manifest
from shapeshd.factors import NAMES, NUM_BINS, FloatArray, joint_bins
from shapeshd.render.plan import plan_render
from shapeshd.render.run import run_render
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import make_sampling
from shapeshd.support.progress import note
from tests import ROOT

from .distributions import DISTRIBUTIONS, Distribution

RESULTS = ROOT / "benchmark" / "results"
SEED = 20
HEADER = (
    "| fault | D | of the factors | D of the images, 95% | holds D | D / attenuation | named "
    "| p-value |\n|---|---|---|---|---|---|---|---|"
)


def write_table(distribution: Distribution, count: int, path: Path) -> FloatArray:
    """Write the first `count` rows of factors, every digit of them, and return them."""
    factors = distribution.draw(SEED, 0, count)
    np.savetxt(path, factors, fmt="%.17g", delimiter=",", header=",".join(NAMES), comments="")
    return factors


def render(distribution: Distribution, folder: Path, options: argparse.Namespace) -> FloatArray:
    """Render the images into `folder`, unless they are there; return their factors."""
    count = options.images
    if folder.exists():
        count = max(count, load_manifest(folder).count)
    table = folder.with_suffix(".csv")
    factors = write_table(distribution, count, table)
    plan = plan_render(
        folder,
        make_sampling("table", table=table),
        count,
        RenderOptions(options.size),
        engine=options.engine,
    )
    run_render(plan, jobs=options.jobs, progress=True)
    return factors[: options.images]


def interval(estimate: EstimateRecord) -> list[float]:
    return [estimate.reported, estimate.low, estimate.high]


def names_fit(named: list[str], distribution: Distribution) -> bool:
    """Whether what was named is what is wrong: all of it, and nothing that is in order."""
    true = distribution.parts()
    return set(distribution.significant) <= set(named) and all(true[name] > 0 for name in named)


def measure(
    distribution: Distribution, work: Path, recognizer: Recognizer, options: argparse.Namespace
) -> dict[str, Any]:
    """Render one distribution, score its images and compare."""
    folder = work / f"{distribution.name}-{options.engine}-{options.size}"
    factors = render(distribution, folder, options)
    drawn = goodness_of_fit(np.bincount(joint_bins(factors), minlength=NUM_BINS))
    out = work / f"{folder.name}-score"
    if out.exists():  # of an earlier run, whose programs may have been other ones
        shutil.rmtree(out)
    with open_source(str(folder)) as source:
        result = score_source(
            source, recognizer, out, ScoreSettings(samples=options.images), progress=True
        )
    assert result is not None
    found = result.fit.divergence
    kept = (result.attenuation and result.attenuation.of_this_source) or 1.0
    named = [part.name for part in result.decomposition.significant]
    true = distribution.divergence
    of_factors = drawn.divergence
    return {
        "distribution": distribution.name,
        "fault": distribution.text,
        "images": options.images,
        "divergence": true,
        "parts": {name: term for name, term in distribution.parts().items() if term > 0},
        "of_factors": [of_factors.reported, of_factors.low, of_factors.high],
        "of_images": interval(found),
        "holds": found.low <= true <= found.high,
        "of_factors_holds": of_factors.low <= true <= of_factors.high,
        "attenuation": kept,
        "corrected": [value / kept for value in interval(found)],
        "corrected_holds": found.low / kept <= true <= found.high / kept,
        "significant": list(distribution.significant),
        "named": named,
        "names_fit": names_fit(named, distribution),
        "terms": {
            part.name: interval(part.delta)
            for part in result.decomposition.parts
            if part.significant or part.name in distribution.significant
        },
        "p_value": result.fit.p_value,
        "predicted_reduced_chi_square": interval(result.fit.prediction.reduced_chi_square),
        "expected_reduced_chi_square": distribution.reduced_chi_square(20 * NUM_BINS),
        "verdict": result.verdict.to_json(),
        "misread_at_least": measurement_error(out, factors),
    }


def measurement_error(out: Path, factors: FloatArray) -> float:
    """Return the least share of images that lie in a bin of the images and not of the factors."""
    seen = np.load(out / "histogram.npy").ravel()
    drawn = np.bincount(joint_bins(factors), minlength=NUM_BINS)
    return float(np.abs(seen - drawn).sum() / 2 / len(factors))


def shown(names: list[str]) -> str:
    """Return the first names for a cell of the table."""
    listed = ", ".join(name.replace("_", " ").replace(" x ", " × ") for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (listed + more) or "nothing"


def row_of(row: dict[str, Any]) -> str:
    value, low, high = row["of_images"]
    p_value = f"{row['p_value']:.2g}" if row["p_value"] > 1e-99 else "< 1e-99"
    return (
        f"| {row['fault']} | {row['divergence']:.3g} | {row['of_factors'][0]:.3g} "
        f"| {value:.3g} [{low:.3g}, {high:.3g}] | {'yes' if row['holds'] else 'no'} "
        f"| {row['corrected'][0]:.3g} | {shown(row['named'])}"
        f"{'' if row['names_fit'] else ' (wrong)'} | {p_value} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000, help="of each distribution")
    parser.add_argument("--size", type=int, default=64, help="width and height, pixels")
    parser.add_argument("--engine", choices=["povray", "torch"], default="povray")
    parser.add_argument(
        "--kinds", nargs="+", choices=list(DISTRIBUTIONS), default=list(DISTRIBUTIONS)
    )
    parser.add_argument("--recognizer", help="lite, hd or a path; by default by the size")
    parser.add_argument("--device", default="cpu", help="where the recognizer computes")
    parser.add_argument("--jobs", type=int, help="shards side by side; by default all cores")
    parser.add_argument("--keep", type=Path, help="folder of what is rendered and scored")
    parser.add_argument("--out", type=Path, help="by default benchmark/results/recovery-SIZE.json")
    options = parser.parse_args()
    name = options.recognizer or ("hd" if options.size >= 128 else "lite")
    recognizer = load_recognizer(name, options.device)
    out = options.out or RESULTS / f"recovery-{options.size}.json"
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="shapeshd-recovery-") as temporary:
        work = options.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for kind in options.kinds:
            note(f"{kind}: {options.images:,} images of {options.size} pixels")
            rows.append(measure(DISTRIBUTIONS[kind](), work, recognizer, options))
            note(row_of(rows[-1]))
            write(out, rows, recognizer, options)
    print(HEADER)
    print("\n".join(map(row_of, rows)))
    print(
        f"\n{sum(row['holds'] for row in rows)} of {len(rows)} intervals hold D as they are, "
        f"{sum(row['corrected_holds'] for row in rows)} divided by the attenuation; the right "
        f"parts are named in {sum(row['names_fit'] for row in rows)}. Four factors and more at "
        f"a time are called {HIGHER_ORDER}. {time.perf_counter() - began:.0f} s; written to {out}"
    )


def write(
    out: Path, rows: list[dict[str, Any]], recognizer: Recognizer, options: argparse.Namespace
) -> None:
    values = {
        "images": options.images,
        "size": options.size,
        "engine": options.engine,
        "seed": SEED,
        "recognizer": {
            "name": recognizer.name if options.recognizer in (None, "lite", "hd") else "own",
            "digest": recognizer.digest,
            "joint_accuracy": recognizer.card.accuracy and recognizer.card.accuracy.joint_accuracy,
        },
        "rows": rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
