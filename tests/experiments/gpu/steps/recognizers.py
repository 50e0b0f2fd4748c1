"""Evaluates shipped recognizers on images that the device traces, or trains one anew:
python -m tests.experiments.gpu.steps.recognizers evaluate lite --device cuda --json FILE
python -m tests.experiments.gpu.steps.recognizers train lite --runs FOLDER --weights FOLDER ...

A recognizer that is trained here is kept, in the folder of weights, where it reads more of the
same images right than the shipped one; that one is never replaced.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from shapeshd.benchmark.recognizer.evaluate import EVALUATION_SEED, evaluate_recognizer
from shapeshd.benchmark.recognizer.precision import computes_bf16
from shapeshd.benchmark.recognizer.reader import card_of
from shapeshd.benchmark.recognizer.recognizer import KIND, load_recognizer
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.support.checkpoint import load_checkpoint, save_checkpoint
from tests.experiments.gpu.step import write_record

from .command_line import shapeshd

SEED = 6_401  # of the images that `lite` was trained on


def evaluated(
    name: str, device: str, engine: str, count: int, floor: int, precision: str
) -> dict[str, Any]:
    """Return how well a recognizer reads the images of its card's seed."""
    card = card_of(load_recognizer(name, "cpu", precision))
    known: dict[str, Any] = {"count": count, "engine": engine}
    if engine == "torch":  # traced on the device, as they are read
        size = load_recognizer(name, "cpu").size
        known = {"source": RenderSpec(EVALUATION_SEED, count, size, device=device)}
    found = evaluate_recognizer(
        name, device=device, precision=precision, noise_floor=floor or None, **known
    )
    values = found.to_json()
    values["recognizer"]["name"] = Path(name).name
    for factor in values["accuracy"]["factors"].values():
        del factor["confusion"]
    said = card.measured(precision).accuracy
    return {
        "precision": precision,
        "card": None if said is None else said.joint_accuracy,
        "found": found.accuracy.joint_accuracy,
        "gross_errors": values["accuracy"].pop("gross_errors")["count"],
        **values,
    }


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate a shipped recognizer in each precision that the device computes in."""
    precisions = ["fp32"]
    if computes_bf16(torch.device(options.device)):
        precisions.append("bf16")
    rows = [
        evaluated(
            options.name, options.device, options.engine, options.count, options.floor, precision
        )
        for precision in precisions
    ]
    said = [
        f"{row['precision']} {row['found']:.2%}"
        + (f" (its card: {row['card']:.2%})" if row["card"] is not None else "")
        for row in rows
    ]
    images = {"torch": "traced images", "povray": "images of POV-Ray"}[options.engine]
    headline = f"{options.name} reads {options.count:,} {images}: " + ", ".join(said)
    return {"headline": headline, "engine": options.engine, "rows": rows}


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Train a recognizer by the recipe of the shipped one, and keep it if it reads better."""
    name, device = options.name, options.device
    folder, count = options.runs / f"recognizer-{name}", options.images
    size = load_recognizer(name, "cpu").size
    data = f"render:{SEED}:{count},size={size},device={device}"
    shapeshd(
        "train", "recognizer", data, folder, "--size", name, "--images", count, "--device", device
    )
    path = folder / "recognizer.safetensors"
    rows = {
        which: evaluated(read, device, "torch", options.count, 0, "fp32")
        for which, read in (("shipped", name), ("trained", str(path)))
    }
    shipped, trained = rows["shipped"]["found"], rows["trained"]["found"]
    better, kept = trained > shipped, None
    if better:
        options.weights.mkdir(parents=True, exist_ok=True)
        found = load_checkpoint(path, KIND)
        card = {**found.card, "traced": rows["trained"]}
        kept = options.weights / f"recognizer-{name}.safetensors"
        save_checkpoint(kept, KIND, found.tensors, card)
    end = f"kept as {kept.name}" if kept else "not kept"
    return {
        "headline": f"{name} trained anew reads {trained:.2%} of the images that the shipped one "
        f"reads {shipped:.2%} of: {end}",
        "better": better,
        **rows,
    }


def main() -> None:
    """Evaluate, or train, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", choices=["evaluate", "train"])
    parser.add_argument("name", help="a recognizer that comes with the program")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engine", choices=["torch", "povray"], default="torch")
    parser.add_argument("--count", type=int, default=10_000, help="images to evaluate it on")
    parser.add_argument("--floor", type=int, default=0, help="images of the noise floor")
    parser.add_argument("--images", type=int, default=700_000, help="to train on")
    parser.add_argument("--runs", type=Path, help="folder of trainings")
    parser.add_argument("--weights", type=Path, help="folder of what is worth keeping")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    write_record(options.json, {"train": train, "evaluate": evaluate}[options.work](options))


if __name__ == "__main__":
    main()
