"""The flow's divergence against the steps of its solver, in factor space.

    python -m tests.experiments.truth.factor_methods --methods flow --runs RUNS    # trains it
    python -m tests.experiments.truth.flow_steps --runs RUNS

For each seed's flow, each solver and each number of steps, samples are drawn and scored as at the
end of a training: D with its interval, the residual, and the processor time of the samples. Euler's
method takes up to 64 steps, the others, which ask for the velocity twice in a step, up to 32. The
latents of a seed are the same for all of them. Everything is in benchmark/results/flow-steps.json,
which is written after each seed: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shapeshd.benchmark.report.figures.style import INK, LINES, WIDE, new_figure, style
from shapeshd.models.config_file import load_config
from shapeshd.models.networks.flow import EVALUATIONS, SOLVERS, PerceptronFlow
from shapeshd.models.training.domains.factors import KIND
from shapeshd.models.training.files import GENERATOR
from shapeshd.models.training.run import TrainingRun
from shapeshd.support.checkpoint import load_checkpoint, load_weights
from shapeshd.support.progress import note
from tests import ROOT

RESULTS = ROOT / "benchmark" / "results" / "flow-steps.json"
FIGURE = ROOT / "docs" / "images" / "flow-steps.png"
MOST = 64  # evaluations of the velocity for a sample
PIECE = 4096  # samples whose hidden layers stay in a core's cache
HEADER = (
    "| solver | steps | evaluations | D, mean of the seeds | residual | samples per core-second |"
)


class Clock:
    """Adds up the processor time of a network's forward passes.

    Attributes:
        seconds: spent since it was set to 0.
    """

    def __init__(self, network: nn.Module) -> None:
        self.seconds, self._started = 0.0, 0.0
        network.register_forward_pre_hook(self._start)
        network.register_forward_hook(self._stop)

    def _start(self, *_: Any) -> None:
        self._started = time.process_time()

    def _stop(self, *_: Any) -> None:
        self.seconds += time.process_time() - self._started


def measure(folder: Path, seed: int, samples: int) -> list[dict[str, Any]]:
    """Score a seed's flow with every solver and number of steps."""
    torch.set_num_threads(1)
    run = TrainingRun(load_config("factors", (), seed, "flow"), None, folder)
    domain: Any = run.domain
    flow: PerceptronFlow = domain.flow()
    load_weights(flow, load_checkpoint(folder / "flow" / GENERATOR, KIND).tensors, folder)
    clock, found = Clock(flow), []
    for solver in SOLVERS:
        for steps in (2**k for k in range(7) if 2**k * EVALUATIONS[solver] <= MOST):
            flow.solver, flow.steps, clock.seconds = solver, steps, 0.0
            score = domain.score(flow, samples, seed)
            divergence = score["fit"]["divergence"]
            found.append(
                {
                    "solver": solver,
                    "steps": steps,
                    "evaluations": steps * EVALUATIONS[solver],
                    "divergence": divergence["value"],
                    "interval": [divergence["low"], divergence["high"]],
                    "residual": score["residual"],
                    "seconds": round(clock.seconds, 3),
                }
            )
            note(f"seed {seed}, {solver}, {steps} steps: D = {divergence['value']:.4f}")
    return found


def summaries(seeds: list[list[dict[str, Any]]], samples: int) -> list[dict[str, Any]]:
    """Return the means over the seeds of what `measure` found."""
    table = []
    for same in zip(*seeds, strict=True):
        values = [one["divergence"] for one in same]
        seconds = sum(one["seconds"] for one in same)
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
        table.append(
            {
                **{key: same[0][key] for key in ("solver", "steps", "evaluations")},
                "mean": statistics.fmean(values),
                "standard_error": error,
                "residual": statistics.fmean(one["residual"] for one in same),
                "samples_per_core_second": samples * len(same) / seconds,
            }
        )
    return table


def line(found: dict[str, Any]) -> str:
    """Return a line of the table on the page Factor space."""
    error = found["standard_error"]
    return (
        f"| `{found['solver']}` | {found['steps']} | {found['evaluations']} | {found['mean']:.4f}"
        + (f" ± {error:.4f}" if error is not None else "")
        + f" | {found['residual']:.2f} | {found['samples_per_core_second']:,.0f} |"
    )


def draw(table: list[dict[str, Any]], path: Path) -> None:
    """Draw D and the residual over the evaluations of the velocity."""
    with style():
        figure = new_figure(WIDE, 3.0)
        axes = figure.subplots(1, 2)
        for colour, solver in zip(LINES, SOLVERS, strict=False):
            rows = [one for one in table if one["solver"] == solver]
            for place, key in zip(axes, ("mean", "residual"), strict=True):
                x = [one["evaluations"] for one in rows]
                place.plot(x, [one[key] for one in rows], "o-", color=colour, label=solver)
        axes[0].set(ylabel="divergence D, mean of the seeds")
        axes[1].set(ylabel="residual")
        for place in axes:
            place.set(xlabel="evaluations of the velocity for a sample", yscale="log")
            place.set_xscale("log", base=2)
        axes[0].legend(labelcolor=INK)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)


def main() -> None:
    """Measure the seeds that are missing, write the result, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("factor-methods"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args()
    seeds: list[list[dict[str, Any]]] = []
    if options.out.exists():
        earlier = json.loads(options.out.read_text(encoding="utf-8"))
        if earlier["samples"] == options.samples:
            seeds = earlier["seeds"][: options.seeds]
    while len(seeds) < options.seeds:
        number = len(seeds)
        seeds.append(measure(options.runs / "flow" / str(number), number, options.samples))
        result = {
            "command": "python -m tests.experiments.truth.flow_steps",
            "samples": options.samples,
            "config": load_config("factors", method="flow").to_json(),
            "torch": torch.__version__,
            "summary": summaries(seeds, options.samples),
            "seeds": seeds,
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = summaries(seeds, options.samples)
    print(HEADER)
    for found in table:
        print(line(found))
    draw(table, options.figure)


if __name__ == "__main__":
    main()
