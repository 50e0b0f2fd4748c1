"""What ``shapeshd info model:NAME`` says of a trained generator."""

from __future__ import annotations

from typing import Any

from shapeshd.models.networks.shipped import find_shipped
from shapeshd.support.progress import human_bytes, human_time

_COLUMNS = ("name", "pixels", "images shown", "time", "D", "samples")


def describe_shipped(name: str) -> tuple[dict[str, Any], str]:
    """Return what the card of a generator says, as JSON values and for people.

    Args:
        name: without ``model:``; empty for all that there are.

    Raises:
        UsageError: if there is none of this name.
    """
    model = find_shipped(name) if name else None  # before PyTorch is imported

    from shapeshd.models.networks.model_card import describe_model, describe_models

    if model is None:
        found = describe_models()
        return {"kind": "models", "models": found}, _table(found)
    values = describe_model(model)
    return values, _card(values)


def _table(models: list[dict[str, Any]]) -> str:
    from shapeshd.benchmark.report.terminal import table

    rows = [
        (
            model["name"],
            f"{model['size']}x{model['size']}",
            f"{model['images']:,}",
            human_time(model["seconds"]),
            _divergence(model["score"]),
            f"{model['score']['samples']:,}" if model["score"] else "",
        )
        for model in models
    ]
    return "\n".join(line.rstrip() for line in table(_COLUMNS, rows))


def _card(found: dict[str, Any]) -> str:
    data, score = found["data"], found["score"]
    rows = [
        ("network", f"{found['architecture']}, {found['size']}x{found['size']} pixels"),
        ("file", f"{found['path']}, {human_bytes(found['bytes'])}"),
        ("tensors", f"SHA-256 {found['sha256']}"),
        ("score", "none" if score is None else f"D = {_divergence(score)}"),
    ]
    if score is not None:
        worst = f"; mainly wrong: {score['mainly_wrong']}" if score["mainly_wrong"] else ""
        rows += [
            ("", f"{score['samples']:,} samples, recognizer {score['recognizer']}{worst}"),
            ("", score["command"]),
        ]
    rows += [
        ("trained on", f"{data['images']:,} images, the last {found['held_out']:,} held out"),
        ("", data["command"]),
        ("seed", str(found["seed"])),
        ("images shown", f"{found['images']:,} in {human_time(found['seconds'])}"),
    ]
    for phase in found["training"]:
        shown = f"{phase['images']:,} images, {human_time(phase['seconds'])} on {phase['device']}"
        rows += [
            (f"phase {phase['phase']}", f"{shown}, torch {phase['torch']}"),
            ("", f"commit {phase['commit']}: {phase['command']}"),
        ]
    return "\n".join([found["name"], *(f"  {name:12}  {text}" for name, text in rows)])


def _divergence(score: dict[str, Any] | None) -> str:
    if score is None:
        return "not scored"
    return f"{score['divergence']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
