"""What ``shapeshd recognizer info`` says of a recognizer: its card, without its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shapeshd.support.checkpoint import read_card
from shapeshd.support.progress import human_bytes, human_time

from .card import Origin, RecognizerCard
from .evaluate import describe_accuracy
from .find import SHIPPED, find_recognizer
from .recognizer import KIND
from .version import recognizer_version


def describe_recognizer(name: str | Path) -> tuple[dict[str, Any], str]:
    """Return what the card of a recognizer says, as JSON values and for people.

    Args:
        name: see `find_recognizer`.

    Raises:
        UsageError: if there is none of that name, or it is something else.
        ShapesHDError: if its card is damaged.
    """
    path = find_recognizer(name)
    values = read_card(path, KIND)
    card = RecognizerCard.read(values, f"{path}: ")
    digest = str(values["sha256"])
    shown = str(name) if str(name) in SHIPPED else str(path)
    found = {
        "kind": KIND,
        "name": shown,
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": digest,
        "version": recognizer_version(digest),
        **card.to_json(),
    }
    rows = [
        ("file", f"{path}, {human_bytes(found['bytes'])}"),
        ("tensors", f"SHA-256 {digest}"),
        ("version", "not one of the program's" if found["version"] is None else found["version"]),
        ("reads", f"images of {(card.network or {}).get('size', 'an unknown number of')} pixels"),
        *_training(card),
    ]
    text = "\n".join([shown, *(f"  {label:12}  {said}" for label, said in rows)])
    if card.accuracy is not None:
        where = card.accuracy.data
        of = f", measured on {_images(where)}" if where is not None else ""
        table = describe_accuracy(card.accuracy, f"accuracy{of}", card.noise_floor)
        text = f"{text}\n{table}"
    return found, text


def _training(card: RecognizerCard) -> list[tuple[str, str]]:
    record = card.training
    if record is None:
        return [("trained on", "not known")]
    said = record.to_json()
    rows = [("trained on", "not known" if record.data is None else _images(record.data))]
    if record.data is not None and record.data.command:
        rows.append(("", record.data.command))
    if "images_seen" in said and "seconds" in said:
        spent = f"{said['images_seen']:,} in {human_time(said['seconds'])}"
        torch = said.get("versions", {}).get("torch", "unknown")
        rows.append(("images shown", f"{spent} on {said.get('device', 'unknown')}, torch {torch}"))
    if said.get("start_from"):
        rows.append(("begun with", f"the recognizer of SHA-256 {said['start_from']}"))
    rows.append(("command", record.command or "not recorded"))
    return rows


def _images(data: Origin) -> str:
    parts = [f"{data.images:,} images"]
    if data.seed is not None:
        parts.append(f"from number {data.start:,} of seed {data.seed}")
    if data.renderer is not None:
        parts.append(f"by {data.renderer}")
    return " ".join(parts)
