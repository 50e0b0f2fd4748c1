"""The paper's figures 1 and 2 in images: of the runs of `mini`.

    python -m tests.experiments.truth.mini_figures steps ours=RUN contrast=RUN aae=RUN
    python -m tests.experiments.truth.mini_figures bins SCORE...

`steps` reads the logs of phase 2 of runs that were checked along the way
(``--set checks.every=300``), keeps D and the codes' mean in benchmark/results/mini-phase-2.json,
and draws them: what oscillates. `bins` draws how many bins hold exactly k samples, of folders that
``shapeshd score`` wrote. (Figure 3 is what ``shapeshd project`` draws.)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from shapeshd.benchmark.report.figures.score import bin_counts_figure
from shapeshd.benchmark.report.figures.style import INK, LINES, WIDE, new_figure, style
from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.result.schema import Result
from shapeshd.support.training.loop import LOG
from tests import ROOT

RESULTS = ROOT / "benchmark" / "results" / "mini-phase-2.json"
IMAGES = ROOT / "docs" / "images"
STEPS, BINS = IMAGES / "mini-phase-2.png", IMAGES / "mini-bin-counts.png"


def checks_of(log: Path) -> dict[str, Any]:
    """Return what a log of phase 2 tells of the codes and of D.

    Returns:
        "checks": step, D and its interval, mean and sliced Wasserstein distance of held-out codes;
        "code_mean": step and norm of the mean of a batch's codes.
    """
    lines = [json.loads(text) for text in log.read_text(encoding="utf-8").splitlines()]
    return {
        "checks": [
            {
                "step": one["step"],
                **{name: one["score"][name] for name in ("samples", "divergence", "low", "high")},
                **{name: one["posterior"][name] for name in ("mean", "sliced")},
            }
            for one in lines
            if "score" in one
        ],
        "code_mean": [[one["step"], one["code_mean"]] for one in lines if "code_mean" in one],
    }


def draw_steps(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw D with its interval, and the norm of the codes' mean, over the steps of phase 2."""
    with style():
        figure = new_figure(WIDE, 3.0)
        left, right = figure.subplots(1, 2)
        for colour, (name, run) in zip(LINES, found.items(), strict=False):
            checks = run["checks"]
            steps = [one["step"] for one in checks]
            left.fill_between(
                steps, [one["low"] for one in checks], [one["high"] for one in checks],
                color=colour, alpha=0.12, linewidth=0,
            )  # fmt: skip
            left.plot(steps, [one["divergence"] for one in checks], color=colour, label=name)
            right.plot(*zip(*run["code_mean"], strict=True), color=colour, linewidth=0.8)
        left.set(xlabel="step of phase 2", ylabel="divergence D of the averaged G")
        left.set_ylim(0, None)
        right.set(xlabel="step of phase 2", ylabel="norm of the mean of a batch's codes")
        right.set_ylim(0, None)
        left.legend(labelcolor=INK)
        figure.savefig(path, dpi=150)


def draw_bins(folders: list[Path], path: Path) -> None:
    """Draw figure 2 of scores, which are named as their sources are."""
    results = [one for one in map(read_result, folders) if isinstance(one, Result)]
    with style():
        figure = bin_counts_figure(
            [(str(one.source.name).removeprefix("model:"), one.bin_counts) for one in results],
            WIDE,
        )
        figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    steps = commands.add_parser("steps")
    steps.add_argument("runs", nargs="+", metavar="NAME=RUN")
    bins = commands.add_parser("bins")
    bins.add_argument("folders", nargs="+", type=Path, metavar="SCORE")
    options = parser.parse_args()
    if options.what == "bins":
        draw_bins(options.folders, BINS)
        return
    runs = dict(text.split("=", 1) for text in options.runs)
    found = {name: checks_of(Path(run) / "aae" / LOG) for name, run in runs.items()}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw_steps(found, STEPS)


if __name__ == "__main__":
    main()
