"""What the commands about recognizers do with their options, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shapeshd.benchmark.recognizer.data import origin_of
from shapeshd.benchmark.recognizer.evaluate import Accuracy
from shapeshd.benchmark.recognizer.real_images import evaluate_fresh, evaluate_on, noise_floor
from shapeshd.benchmark.recognizer.recognizer import KIND, SHIPPED, find_recognizer, load_recognizer
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import open_dataset
from shapeshd.errors import UsageError
from shapeshd.support.checkpoint import load_checkpoint, save_checkpoint
from shapeshd.support.progress import note

from .options import pick_device


def evaluate_recognizer(
    name: str,
    source: Path | RenderSpec | None,
    count: int,
    seed: int,
    engine: str,
    floor: int | None,
    device: str,
    write_card: bool,
) -> dict[str, Any]:
    """Evaluate as the command line's options say; errors as `evaluate_fresh`."""
    if write_card and name in SHIPPED:
        raise UsageError(f"the card of the shipped {name} stays as it is: copy it, or give a path")
    recognizer = load_recognizer(name, pick_device(device))
    if source is not None:
        dataset = open_dataset(source)
        found = evaluate_on(recognizer, dataset, progress=True)
        data = origin_of(dataset, source).to_json()
    else:
        found = evaluate_fresh(recognizer, count, seed, engine, progress=True)
        data = {"renderer": engine, "seed": seed, "start": 0, "images": count}
    result: dict[str, Any] = {
        "recognizer": {"name": recognizer.name, "digest": recognizer.digest},
        "accuracy": {**found.to_json(), "data": data},
    }
    if floor is not None:
        result["noise_floor"] = noise_floor(recognizer, floor, progress=True)
    if write_card:
        _write_card(name, result)
    return result


def _write_card(name: str, result: dict[str, Any]) -> None:
    path = find_recognizer(name)
    checkpoint = load_checkpoint(path, KIND)
    measured = {key: value for key, value in result.items() if key != "recognizer"}
    save_checkpoint(path, KIND, checkpoint.tensors, {**checkpoint.card, **measured})
    note(f"{path}: card written")


def describe_accuracy(found: Accuracy, name: str) -> str:
    """Return a table of an evaluation, for people."""
    return describe_evaluation({"accuracy": found.to_json()}, name)


def describe_evaluation(result: dict[str, Any], name: str) -> str:
    """Return what `evaluate_recognizer` found, for people."""
    found = result["accuracy"]
    lines = [
        f"{name}: {found['joint_accuracy']:.2%} of {found['images']:,} images in the right joint "
        f"bin, {found['gross_errors']['count']} gross errors",
        f"  {'factor':12} {'right bin':>9} {'mean error':>11} {'99% below':>10} "
        f"{'largest':>9} {'at borders':>10} {'gross_errors':>8}",
    ]
    for factor, row in found["factors"].items():
        keys = ("mean_absolute_error", "p99_absolute_error", "largest_error")
        sizes = ["-" if row[key] is None else f"{row[key]:.4f}" for key in keys]
        lines.append(
            f"  {factor:12} {row['accuracy']:9.2%} {sizes[0]:>11} {sizes[1]:>10} {sizes[2]:>9} "
            f"{row['border_errors']:10,} {row['gross_errors']:8,}  {row['unit'] or ''}"
        )
    if floor := result.get("noise_floor"):
        value = floor["divergence"]
        lines.append(
            f"  {floor['images']:,} real images: D = {value['value']:+.4f} "
            f"[{value['low']:.4f}, {value['high']:.4f}]"
        )
    return "\n".join(lines)
