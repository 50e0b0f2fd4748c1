"""Trains a method of the table and scores it, or goes on with it:
python -m tests.experiments.gpu.steps.table ours --share FILE --runs FOLDER --weights FOLDER ...

What a method has in common with `ours` it takes over from there. The generator is written in bf16
into the folder of weights, if it then has at most 16 MiB.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.result.schema import Result
from shapeshd.models.methods import METHODS
from shapeshd.models.networks.checkpoints import KIND
from shapeshd.models.training.files import GENERATOR, RESULT
from shapeshd.support.checkpoint import load_checkpoint, save_checkpoint
from tests import ROOT
from tests.experiments.gpu.step import read_record, write_record
from tests.experiments.ship import halved
from tests.support.tiny_training import save_untrained

from .command_line import shapeshd

MOST_BYTES = 16 * 2**20
SEED = 0


def train(options: argparse.Namespace, plan: dict[str, Any]) -> str:
    """Train the phases of a method that are not done; return the command."""
    data = f"render:{SEED}:{options.images},size={options.size},device={options.device}"
    words: list[object] = ["train", "baseline", options.method, data, "--config", options.config]
    for change in (
        *plan["changes"], "images.compile=false", "checks.samples=0", "checks.final_samples=0",
    ):  # fmt: skip
        words += ["--set", change]
    words += ["--seed", SEED, "--device", options.device, "--out", options.runs / options.method]
    if plan["after_ours"]:
        words += ["--from", options.runs / "ours"]
    return shapeshd(*words, "--json")


def score(options: argparse.Namespace) -> tuple[Result, str]:
    """Score the generator of the last phase; return the result and the command."""
    run, recognizer = options.runs / options.method, []
    if options.untrained:
        path = options.runs / "untrained.safetensors"
        recognizer = ["--recognizer", path if path.exists() else save_untrained(path)]
    words: list[object] = [
        "score", run, "--samples", options.samples, "--batch", options.batch, "--device",
        options.device, "--out", run / "score", *recognizer,
    ]  # fmt: skip
    if options.fidelity:
        words += ["--fidelity", options.fidelity]
    command = shapeshd(*words, "--json")
    result = read_result(run / "score")
    assert isinstance(result, Result)
    return result, command


def keep_weights(generator: Path, to: Path) -> str | None:
    """Write a generator in bf16; return the name of the file, None where it would be too large."""
    found = load_checkpoint(generator, KIND)
    to.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(to, KIND, halved(found.tensors), found.card)
    if to.stat().st_size <= MOST_BYTES:
        return to.name
    print(f"{to}: has {to.stat().st_size:,} bytes, more than {MOST_BYTES:,}: not kept")
    to.unlink()
    return None


def phases_of(run: Path, method: str) -> dict[str, Any]:
    """Return steps and seconds of each phase that was trained in a folder."""
    found = {}
    for phase in METHODS[method].phases:
        if (file := run / phase / RESULT).exists():
            result = json.loads(file.read_text(encoding="utf-8"))
            found[phase] = {key: result[key] for key in ("steps", "seconds")}
            if "posterior" in result:
                found[phase]["posterior"] = result["posterior"]
    return found


def made(options: argparse.Namespace) -> dict[str, Any]:
    """Train and score; return what came out."""
    method, run = options.method, options.runs / options.method
    share = read_record(options.share)["result"]
    plan = share["methods"][method]
    commands = [train(options, plan)]
    result, command = score(options)
    last = METHODS[method].phases[-1]
    fit = result.fit
    divergence, reduced = fit.divergence, fit.prediction.reduced_chi_square
    worst = next(iter(result.decomposition.significant), None)
    low, high = divergence.low, divergence.high
    return {
        "headline": f"D = {divergence.value:.4f} [{low:.4f}, {high:.4f}] of {result.samples:,} "
        f"samples after {plan['images']:,} images",
        "method": method,
        "share": share["share"],
        "images": plan["images"],
        "taken_over": plan["after_ours"],
        "phases": phases_of(run, method),
        "samples": result.samples,
        "divergence": {"value": divergence.value, "low": low, "high": high},
        "reduced_chi_square": {"value": reduced.value, "low": reduced.low, "high": reduced.high},
        "empty_bins": fit.empty_bins.observed,
        "mainly_wrong": worst and worst.name,
        "fidelity": None if result.fidelity is None else result.fidelity.to_json(),
        "recognizer": Path(result.recognizer.name).name,
        "precision": result.recognizer.precision,
        "score_seconds": result.run.seconds,
        "commands": [_shown(text, options.runs) for text in (*commands, command)],
        "weights": keep_weights(run / last / GENERATOR, options.weights / f"{method}.safetensors"),
    }


def _shown(command: str, runs: Path) -> str:
    """Return a command without the machine's folders."""
    return command.replace(f"{runs}/", "runs/").replace(f"{ROOT}/", "")


def main() -> None:
    """Train, score and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("method", choices=list(METHODS))
    parser.add_argument("--share", type=Path, required=True, help="result file of the share")
    parser.add_argument("--config", required=True)
    parser.add_argument("--size", type=int, required=True, help="of its images, pixels")
    parser.add_argument("--images", type=int, required=True, help="in the dataset")
    parser.add_argument("--samples", type=int, required=True, help="of the score")
    parser.add_argument("--batch", type=int, default=512, help="generated at a time in the score")
    parser.add_argument("--fidelity", type=int, default=0, help="images whose fidelity is measured")
    parser.add_argument("--untrained", action="store_true", help="score by an untrained recognizer")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, required=True, help="folder of trainings")
    parser.add_argument("--weights", type=Path, required=True, help="folder of generators in bf16")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    write_record(options.json, made(options))


if __name__ == "__main__":
    main()
