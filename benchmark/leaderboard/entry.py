"""Entries of a leaderboard: a result without its histograms and pictures, a few KiB of JSON.

An entry holds what `shapeshd compare` shows and what repeats the score: model, source and digest
of its file, command, samples, seed, fit, the largest parts of D, recognizer, scene, versions. It
holds no folder of the machine on which it was made.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from shapeshd.benchmark.result.files import ENTRY_FORMAT
from shapeshd.errors import UsageError
from shapeshd.support.atomic_files import replace_file

from .comparability import model_name
from .compare import Comparison

_KEPT = (
    *("format_version", "created", "versions", "images", "scene", "protocol", "samples", "seed"),
    *("distribution", "outside", "fit", "references", "detection_limit", "verdict"),
)
_TIMES = ("seconds", "images_per_second")
_MOST_PARTS = 5
_FOLDERS = re.compile(r"(?<![\w./~-])~?/(?=[^\s/])(?:[^\s/:'\"=,]+/)*")


def entry_of(result: Mapping[str, Any], model: str | None = None) -> dict[str, Any]:
    """Return the entry of a result, ready for JSON.

    Args:
        result: what result.json holds, or another entry.
        model: what to call the model; by default the source's name.
    """
    parts = result["decomposition"]["parts"]
    recognizer, run = result["recognizer"], result.get("run", {})
    accuracy = recognizer.get("accuracy")
    return {
        "format": ENTRY_FORMAT,
        "model": without_folders(model or model_name(result)),
        "source": _without_folders_inside(result["source"]),
        "recognizer": {
            "name": PurePath(recognizer["name"]).name,
            **{key: recognizer.get(key) for key in ("digest", "size", "noise_floor")},
            "accuracy": accuracy
            and {key: accuracy[key] for key in ("images", "joint_accuracy") if key in accuracy},
        },
        **{key: result[key] for key in _KEPT if key in result},
        "fidelity": _fidelity(result.get("fidelity")),
        "decomposition": {
            "parts": _largest(parts),
            "number_of_parts": result["decomposition"].get("number_of_parts", len(parts)),
        },
        "run": {
            "device": run.get("device"),
            # The times of a run that went on are those of its last part alone.
            **{key: run[key] for key in _TIMES if key in run and not run.get("resumed")},
            "command": command_words(run.get("command")),
        },
    }


def _fidelity(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not found:
        return None
    kept = {key: found[key] for key in found if key not in ("examples", "command")}
    return {**_without_folders_inside(kept), "command": command_words(found.get("command"))}


def _largest(parts: list[Any]) -> list[Any]:
    """Return the largest parts of D, in their order; all significant ones before any other."""
    order = sorted(
        range(len(parts)),
        key=lambda row: (not parts[row]["significant"], -parts[row]["delta"]["value"]),
    )
    return [parts[row] for row in sorted(order[:_MOST_PARTS])]


def without_folders(text: str) -> str:
    """Cut the folders off every absolute path in a text; what is one path becomes its name."""
    if text.startswith(("/", "~/")):
        return PurePath(text).name
    return _FOLDERS.sub("", text)


def command_words(command: str | None) -> str | None:
    """Return a command line without ``--out`` and the folders of this machine."""
    try:
        words = iter(shlex.split(command or ""))
    except ValueError:  # a quotation mark without its partner: no command line
        return None
    kept = []
    for word in words:
        if word == "--out":
            next(words, None)
        elif not word.startswith("--out="):
            kept.append(without_folders(word))
    return shlex.join(kept) or None


def _without_folders_inside(value: Any) -> Any:
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, Mapping):
        return {key: _without_folders_inside(item) for key, item in value.items()}
    return [_without_folders_inside(item) for item in value] if isinstance(value, list) else value


def write_entry(result: Mapping[str, Any], path: Path, model: str | None = None) -> Path:
    """Write the entry of a result as JSON.

    Args:
        result: as of `entry_of`.
        path: the file; its folder must exist.
        model: as of `entry_of`.
    """
    text = json.dumps(entry_of(result, model), indent=1) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def write_entries(comparison: Comparison, folder: Path) -> list[Path]:
    """Write an entry for each result into a folder; an entry of the same name is replaced.

    Raises:
        UsageError: if there is no such folder, or two results would share a file.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; make it first")
    paths = [folder / f"{_file_name(name)}.json" for name in comparison.names]
    for name, path in zip(comparison.names, paths, strict=True):
        if paths.count(path) > 1:
            raise UsageError(f"{name}: shares the file {path.name} with another result")
    listed = zip(comparison.results, paths, comparison.names, strict=True)
    return [write_entry(result, path, name) for result, path, name in listed]


def _file_name(name: str) -> str:
    """Return what a file may be called after a model: its name without folders and suffix."""
    known = (".pt", ".ts", ".pth", ".pt2", ".onnx", ".pkl", ".safetensors", ".zip", ".tar", ".npz")
    stem = name
    for suffix in known:
        stem = stem.removesuffix(suffix)
    return re.sub(r"[^\w.,=-]+", "-", without_folders(stem)).strip("-.") or "model"
