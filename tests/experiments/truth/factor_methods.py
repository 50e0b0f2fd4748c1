"""The methods of Table 1 and their ablations in factor space.

    python -m tests.experiments.truth.factor_methods

Each method is trained by the phases, losses and loop that images have (`shapeshd train baseline
METHOD --config factors`), with several seeds; a sample's factors are decoded in closed form, so
that neither an image nor a recognizer stands between a method and its chi-square. Methods that
begin alike share their phases. Everything is in benchmark/results/factors.json; the figure shows
what oscillates during training (figure 1 of the paper).

Runs stay in --runs: the same command goes on where it was stopped, and more seeds are added. With
--methods, what the result holds of other methods stays. How the flow's D depends on the solver is
measured by `flow_steps`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed
from scipy import stats
from torch import nn

from shapeshd.benchmark.report.figures.style import INK, LINES, WIDE, new_figure, style
from shapeshd.models.config_file import load_config
from shapeshd.models.methods import METHODS
from shapeshd.models.training.files import ENCODER, RESULT
from shapeshd.models.training.run import TrainingRun
from shapeshd.support.checkpoint import load_checkpoint, load_weights
from shapeshd.support.progress import note
from shapeshd.support.training.loop import LOG
from tests import ROOT

RESULTS = ROOT / "benchmark" / "results" / "factors.json"
FIGURE = ROOT / "docs" / "images" / "phase-2-oscillation.png"
CONFIG = "factors"
# Phases that a method does not change: whose they are.
SHARED = {
    "aae": {"vae": "vae"},
    "ours": {"vae": "vae"},
    "contrast": {"vae": "vae"},
    "no-difference": {"vae": "vae"},
    "no-c2": {"vae": "vae"},
    "small-batch": {"vae": "vae"},
    "unpaired": {"aae": "ours"},
    "from-scratch": {"aae": "ours"},
}
# Ablations of phase 2 are evaluated by it: no phase 3 after them.
ENDS = dict.fromkeys(("no-difference", "no-c2", "small-batch"), "aae")
# Who starts from nothing, and has no other phases, is given more steps; a check of a flow takes as
# long as 300 of its steps.
CHANGES = {"stylegan2": ("gan.steps=4000",), "flow": ("checks.every=4000",)}
DRAWN = ("ours", "contrast", "aae", "no-c2")
HEADER = (
    "| method | phase | D, mean of the seeds | D of each | chi2_nu(20k) "
    "| residual | sliced Wasserstein, skewness of the codes | empty bins |\n"
    "|---|---|---|---|---|---|---|---|"
)


def train(method: str, seed: int, runs: Path, changes: tuple[str, ...]) -> None:
    """Train what is missing of a method with one seed."""
    torch.set_num_threads(1)
    config = load_config(CONFIG, (*CHANGES.get(method, ()), *changes), seed, method)
    shared = SHARED.get(method, {})
    first = next(iter(shared), None)
    start = runs / shared[first] / str(seed) if first else None
    for phase in own_phases(method):
        if (runs / method / str(seed) / phase / RESULT).exists():
            continue
        # Phases after the first that is not shared begin with this method's own.
        own = (runs / method / str(seed) / "aae" / RESULT).exists()
        run = TrainingRun(
            config, None, runs / method / str(seed), start=None if own and phase == "gan" else start
        )
        result = run.train(phase)
        divergence = result["score"]["fit"]["divergence"]["value"]
        note(f"{method}, seed {seed}, {phase}: D = {divergence:.4f}")


def own_phases(method: str) -> tuple[str, ...]:
    """Return the phases that a method trains itself."""
    phases = METHODS[method].phases
    shared = SHARED.get(method, {})
    begin = max((phases.index(name) + 1 for name in shared), default=0)
    end = phases.index(ENDS[method]) + 1 if method in ENDS else len(phases)
    return phases[begin:end]


@torch.no_grad()
def asymmetry(folder: Path, method: str, seed: int, codes: int = 200_000) -> dict[str, float]:
    """Return how asymmetric and how peaked a run's codes of data are after phase 2.

    Root mean squares, over 256 random directions, of the skewness and of the excess kurtosis of
    the codes along a direction: of N(0, I) sqrt(6 / n) and sqrt(24 / n).
    """
    run = TrainingRun(load_config(CONFIG, (), seed, method), None, folder)
    encoder = run.domain.encoder()
    load_weights(encoder, load_checkpoint(folder / "aae" / ENCODER).tensors, folder)
    rng = torch.Generator().manual_seed(seed)
    features = next(iter(run.domain.batches([torch.arange(codes)])))
    head = encoder.head
    noise = torch.randn(codes, head.noise_dim, generator=rng)
    z, _, _ = head.sample(features, noise, torch.randn(codes, head.latent_dim, generator=rng))
    along = (
        z @ nn.functional.normalize(torch.randn(z.shape[1], 256, generator=rng), dim=0)
    ).numpy()
    skewness, kurtosis = stats.skew(along), stats.kurtosis(along)
    return {
        "codes": codes,
        "skewness": float((skewness**2).mean() ** 0.5),
        "kurtosis": float((kurtosis**2).mean() ** 0.5),
    }


def collect(runs: Path, seeds: int) -> list[dict[str, Any]]:
    """Return what each method and phase gave, over the seeds."""
    table = []
    for method in METHODS:
        for phase in own_phases(method):
            paths = [runs / method / str(seed) / phase / RESULT for seed in range(seeds)]
            if not all(path.exists() for path in paths):
                continue
            found = summary(method, phase, [json.loads(p.read_text()) for p in paths])
            if phase == "aae":
                found["asymmetry"] = [
                    asymmetry(runs / method / str(s), method, s) for s in range(seeds)
                ]
            table.append(found)
    return table


def with_others(
    table: list[dict[str, Any]], methods: list[str], path: Path
) -> list[dict[str, Any]]:
    """Return a table with what an earlier result holds of methods that were not asked for."""
    earlier = json.loads(path.read_text(encoding="utf-8"))["methods"] if path.exists() else []
    kept = [one for one in earlier if one["method"] not in methods]
    new = [one for one in table if one["method"] in methods]
    return sorted(kept + new, key=lambda one: list(METHODS).index(one["method"]))


def summary(method: str, phase: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    fits = [result["score"]["fit"] for result in results]
    values = [fit["divergence"]["value"] for fit in fits]
    return {
        "method": method,
        "phase": phase,
        "seeds": len(results),
        "divergence": values,
        "intervals": [[fit["divergence"]["low"], fit["divergence"]["high"]] for fit in fits],
        "mean": statistics.fmean(values),
        "standard_error": statistics.stdev(values) / len(values) ** 0.5
        if len(values) > 1
        else None,
        "reduced_chi_square": [fit["prediction"]["reduced_chi_square"]["value"] for fit in fits],
        "residual": [result["score"]["residual"] for result in results],
        "empty_bins": [fit["empty_bins"]["observed"] for fit in fits],
        "samples": fits[0]["samples"],
        "posterior": [result.get("posterior") for result in results],
        "parts": [
            {part["name"]: part["delta"]["value"] for part in result["score"]["parts"]["parts"]}
            for result in results
        ],
        "steps": results[0]["steps"],
        "seconds": [result["seconds"] for result in results],
    }


def line(found: dict[str, Any]) -> str:
    """Return a line of the README's table."""
    error = found["standard_error"]
    chi = statistics.fmean(found["reduced_chi_square"])
    sliced = [far["sliced"] for far in found["posterior"] if far]
    skewed = ""
    if "asymmetry" in found:
        skewed = f", {statistics.fmean(one['skewness'] for one in found['asymmetry']):.3f}"
    return " | ".join(
        [
            f"| `{found['method']}`",
            found["phase"],
            f"{found['mean']:.4f}" + (f" ± {error:.4f}" if error is not None else ""),
            ", ".join(f"{value:.3f}" for value in found["divergence"]),
            f"{chi:.2f}",
            f"{statistics.fmean(found['residual']):.2f}",
            f"{statistics.fmean(sliced):.3f}{skewed}" if sliced else "–",
            f"{statistics.fmean(found['empty_bins']):,.0f} |",
        ]
    )


def draw(runs: Path, seed: int, path: Path) -> None:
    """Draw D and the codes' mean over the steps of phase 2."""
    with style():
        figure = new_figure(WIDE, 3.0)
        left, right = figure.subplots(1, 2)
        for colour, method in zip(LINES, DRAWN, strict=False):
            log = runs / method / str(seed) / "aae" / LOG
            lines = [json.loads(text) for text in log.read_text().splitlines()]
            checks = [one for one in lines if "score" in one]
            left.plot(
                [one["step"] for one in checks], [one["score"]["divergence"] for one in checks],
                color=colour, label=method,
            )  # fmt: skip
            means = [one for one in lines if "code_mean" in one]
            right.plot(
                [one["step"] for one in means], [one["code_mean"] for one in means],
                color=colour, linewidth=0.8,
            )  # fmt: skip
        left.set(xlabel="step of phase 2", ylabel="divergence D of the averaged G", yscale="log")
        right.set(xlabel="step of phase 2", ylabel="norm of the codes' mean", yscale="log")
        left.legend(labelcolor=INK)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument(
        "--runs", type=Path, default=Path("factor-methods"), help="folder of the runs"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, a core each")
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args()
    # What others begin with comes first: the VAE, then our own method.
    waves = (["vae", "stylegan2", "flow"],
             ["ours", "contrast", "aae", "no-difference", "no-c2", "small-batch"],
             ["unpaired", "from-scratch"])  # fmt: skip
    changes = tuple(options.changes)
    for wave in waves:
        Parallel(n_jobs=options.jobs)(
            delayed(train)(method, seed, options.runs, changes)
            for seed in range(options.seeds)
            for method in wave
            if method in options.methods
        )
    table = with_others(collect(options.runs, options.seeds), options.methods, options.out)
    print(HEADER)
    for found in table:
        print(line(found))
    result = {
        "command": "python -m tests.experiments.truth.factor_methods",
        "changes": {method: list(own) for method, own in CHANGES.items()},
        "config": load_config(CONFIG, changes).to_json(),
        "torch": torch.__version__,
        "methods": table,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if all((options.runs / method / "0" / "aae" / LOG).exists() for method in DRAWN):
        draw(options.runs, 0, options.figure)


if __name__ == "__main__":
    main()
