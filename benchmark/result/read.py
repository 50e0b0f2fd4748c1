"""Reads what `shapeshd score` wrote: folders, result.json files, entries of a leaderboard."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shapeshd.benchmark.leaderboard.comparability import fidelity_of, recognizer_words, scene_words
from shapeshd.benchmark.leaderboard.row import fidelity_columns, leaderboard_row
from shapeshd.benchmark.report.table import reference_rows, source_row
from shapeshd.benchmark.report.terminal import significant_parts_text
from shapeshd.benchmark.statistics.measurement_error import distribution_words, outside_words
from shapeshd.errors import ShapesHDError, UsageError

from .files import ENTRY_FORMAT, FORMAT, FORMAT_VERSION, RESULT

_NEEDED = ("source", "images", "recognizer", "samples", "fit", "decomposition", "references")
_DAMAGE = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)
_NEEDED_OF_RESULTS = (*_NEEDED, "bin_counts")


def result_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files of results that are meant, in order.

    Args:
        paths: a file; a folder that `shapeshd score --out` wrote; or a folder of such folders and
            of entries of a leaderboard, whose other files are passed over.

    Raises:
        UsageError: if there is none, one is missing or named twice, or a folder holds none.
    """
    if not paths:
        raise UsageError("name at least one result to compare")
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _files_of(path):
            if (same := found.get(file.resolve())) is not None:
                raise UsageError(f"{file}: is the same result as {same}; name it once")
            found[file.resolve()] = file
    return list(found.values())


def _files_of(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        return [path]
    if (path / RESULT).is_file():
        return [path / RESULT]
    files = list(_inside(path))
    if not files:
        raise UsageError(
            f"{path}: holds no {RESULT}; name a folder that `shapeshd score --out` wrote, "
            "and whose run has ended, or one that holds such folders"
        )
    return files


def _inside(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (path / RESULT).is_file():
            yield path / RESULT
        elif path.suffix == ".json" and path.is_file() and _is_ours(path):
            yield path


def _is_ours(file: Path) -> bool:
    content = _json_of(file)
    return isinstance(content, dict) and content.get("format") in (FORMAT, ENTRY_FORMAT)


def _json_of(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # also what is no UTF-8
        raise UsageError(f"{file}: is no result of `shapeshd score` (not JSON)") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from None


def read_result(path: Path) -> dict[str, Any]:
    """Read a result, or an entry of a leaderboard.

    Args:
        path: a file, or the folder of one result.

    Raises:
        UsageError: if it is missing, no result, or of a newer format.
        ShapesHDError: if it is incomplete.
    """
    files = result_files([path])
    if len(files) > 1:
        raise UsageError(f"{path}: holds {len(files)} results, not one")
    (file,) = files
    result = _json_of(file)
    if not isinstance(result, dict) or result.get("format") not in (FORMAT, ENTRY_FORMAT):
        raise UsageError(f"{file}: is no result of `shapeshd score`")
    version = result.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise UsageError(f"{file}: is no result of `shapeshd score` (format version {version!r})")
    if version > FORMAT_VERSION:
        raise UsageError(
            f"{file}: has format version {version}, but this shapeshd reads up to "
            f"{FORMAT_VERSION}; install a newer one"
        )
    needed = _NEEDED if result["format"] == ENTRY_FORMAT else _NEEDED_OF_RESULTS
    missing = [key for key in needed if key not in result]
    if missing:
        raise ShapesHDError(f"{file}: is incomplete, it lacks {', '.join(missing)}")
    _try_all(file, result)
    return result


def _try_all(file: Path, result: dict[str, Any]) -> None:
    """Raise `ShapesHDError` if something is missing that the tables take."""
    takers = (
        source_row,
        reference_rows,
        significant_parts_text,
        recognizer_words,
        distribution_words,
        outside_words,
        scene_words,
        fidelity_of,
        fidelity_columns,
        leaderboard_row,
        _check_rank,
        _check_texts,
    )
    try:
        for take in takers:
            take(result)
    except _DAMAGE as error:
        raise ShapesHDError(f"{file}: is incomplete ({type(error).__name__}: {error})") from None


def _check_rank(result: dict[str, Any]) -> None:
    """Raise an error if D or its standard error, by which results are ranked, is no number."""
    divergence = result["fit"]["divergence"]
    error = divergence["standard_error"]
    if not (math.isfinite(divergence["value"]) and math.isfinite(error) and error >= 0):
        raise ValueError("D or its standard error is not a number")


def _check_texts(result: dict[str, Any]) -> None:
    """Raise an error if a text cannot be written to a file, or the command is none."""
    json.dumps(result, ensure_ascii=False).encode()
    for part in (result.get("run") or {}, result.get("fidelity") or {}):
        if not isinstance(part.get("command"), str | None):
            raise TypeError("the command is not a text")
