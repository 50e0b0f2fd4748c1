"""Entries of a leaderboard: a result without its histograms and pictures, a few KiB of JSON.

An entry holds what `shapeshd compare` shows and what repeats the score: model, source and digest
of its file, command, samples, seed, fit, the largest parts of D, recognizer, scene, versions. It
holds no folder of the machine on which it was made.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from shapeshd.benchmark.result.fidelity import FidelityRecord
from shapeshd.benchmark.result.files import ENTRY_FORMAT
from shapeshd.benchmark.result.fit import PartRecord
from shapeshd.benchmark.result.read import save_result
from shapeshd.benchmark.result.schema import Entry, Result, ScoreRecord
from shapeshd.benchmark.sources.open import known_suffixes
from shapeshd.errors import UsageError

from .compare import Comparison
from .row import model_name

_ACCURACY = ("images", "joint_accuracy")
_TIMES = ("seconds", "images_per_second")
_MOST_PARTS = 5
_FOLDERS = re.compile(r"(?<![\w./~-])~?/(?=[^\s/])(?:[^\s/:'\"=,]+/)*")


def entry_of(result: Result | Entry, model: str | None = None) -> Entry:
    """Return the entry of a result.

    Args:
        result: what result.json holds, or another entry.
        model: what to call the model; by default the source's name.
    """
    values = result.to_json()
    parts, accuracy = result.decomposition.parts, values["recognizer"]["accuracy"]
    kept = {name: value for name, value in values.items() if name in ScoreRecord.model_fields}
    return Entry.model_validate(
        {
            **kept,
            "format": ENTRY_FORMAT,
            "model": without_folders(model or model_name(result)),
            "source": _without_folders_inside(values["source"]),
            "recognizer": {
                **values["recognizer"],
                "name": PurePath(result.recognizer.name).name,
                "accuracy": accuracy and {key: accuracy[key] for key in _ACCURACY},
            },
            "fidelity": _fidelity(result.fidelity),
            "decomposition": {
                "parts": _largest(parts),
                "number_of_parts": result.decomposition.number_of_parts or len(parts),
            },
            "run": {
                "device": result.run.device,
                # The times of a run that went on are those of its last part alone.
                **{
                    key: values["run"][key]
                    for key in _TIMES
                    if key in values["run"] and not values["run"].get("resumed")
                },
                "command": command_without_folders(result.run.command),
            },
        }
    )


def _fidelity(found: FidelityRecord | None) -> dict[str, Any] | None:
    if found is None:
        return None
    kept = {key: value for key, value in found.to_json().items() if key != "examples"}
    command = command_without_folders(found.command)
    return {**_without_folders_inside(kept), "command": command}


def _largest(parts: Sequence[PartRecord]) -> list[PartRecord]:
    """Return the largest parts of D, in their order; all significant ones before any other."""
    order = sorted(
        range(len(parts)),
        key=lambda row: (not parts[row].significant, -parts[row].delta.value),
    )
    return [parts[row] for row in sorted(order[:_MOST_PARTS])]


def without_folders(text: str) -> str:
    """Cut the folders off every absolute path in a text; what is one path becomes its name."""
    if text.startswith(("/", "~/")):
        return PurePath(text).name
    return _FOLDERS.sub("", text)


def command_without_folders(command: str | None) -> str | None:
    """Return a command line without ``--out`` and the folders of this machine."""
    try:
        words = iter(shlex.split(command or ""))
    except ValueError:  # a quotation mark without its partner: no command line
        return None
    kept = []
    for word in words:
        if word == "--out":
            next(words, None)
        elif not word.startswith(("--out=", "SHAPESHD_SCORE_OUT=")):
            kept.append(without_folders(word))
    return shlex.join(kept) or None


def _without_folders_inside(value: Any) -> Any:
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, dict):
        return {key: _without_folders_inside(item) for key, item in value.items()}
    return [_without_folders_inside(item) for item in value] if isinstance(value, list) else value


def write_entry(result: Result | Entry, path: Path, model: str | None = None) -> Path:
    """Write the entry of a result as JSON.

    Args:
        result: as of `entry_of`.
        path: the file; its folder must exist.
        model: as of `entry_of`.
    """
    save_result(entry_of(result, model), path)
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
    stem = name
    for suffix in known_suffixes():
        stem = stem.removesuffix(suffix)
    return re.sub(r"[^\w.,=-]+", "-", without_folders(stem)).strip("-.") or "model"
