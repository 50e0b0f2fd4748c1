"""Reads and writes results and entries: folders of `shapeshd score`, result.json, entries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shapeshd.benchmark.statistics.record import Record, encodable
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.support.atomic_files import replace_file
from shapeshd.support.progress import warn
from shapeshd.support.schema import first_problem

from .files import ENTRY_FORMAT, FORMAT, FORMAT_VERSION, RESULT
from .migrate import migrated
from .schema import Entry, Result

_ANEW = {
    FORMAT: "the same `shapeshd score` into a new --out writes it anew",
    ENTRY_FORMAT: "`shapeshd compare RESULT --entry FOLDER` writes it anew",
}


def result_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files of results that are meant, in order.

    Args:
        paths: a file; a folder that `shapeshd score --out` wrote; or a folder of such folders and
            of entries of a leaderboard, whose other files are passed over, with a
            warning if a .json is no JSON.

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
    try:
        content = _json_of(file)
    except _NotJSONError:  # of another program, or an entry that was damaged
        warn(f"{file}: passed over, not JSON")
        return False
    return isinstance(content, dict) and content.get("format") in (FORMAT, ENTRY_FORMAT)


class _NotJSONError(UsageError):
    """A file holds no JSON."""


def _json_of(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # also what is no UTF-8
        raise _NotJSONError(f"{file}: is no result of `shapeshd score` (not JSON)") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from None


def read_result(path: Path) -> Result | Entry:
    """Read a result, or an entry of a leaderboard, of this format version or an earlier one.

    Args:
        path: a file, or the folder of one result.

    Raises:
        UsageError: if it is missing, no result, or of a newer format.
        ShapesHDError: if a field is missing, unknown or of the wrong type; the message names it.
    """
    files = result_files([path])
    if len(files) > 1:
        raise UsageError(f"{path}: holds {len(files)} results, not one")
    (file,) = files
    content = _json_of(file)
    kind = content.get("format") if isinstance(content, dict) else None
    if kind not in (FORMAT, ENTRY_FORMAT):
        raise UsageError(f"{file}: is no result of `shapeshd score`")
    version = content.get("format_version")
    if type(version) is not int or version < 1:
        raise UsageError(f"{file}: is no result of `shapeshd score` (format_version {version!r})")
    if version > FORMAT_VERSION:
        raise UsageError(
            f"{file}: has format_version {version}, but this shapeshd reads up to "
            f"{FORMAT_VERSION}; install a newer one"
        )
    try:
        return parse_result(content)
    except ShapesHDError as error:
        raise ShapesHDError(f"{file}: {error}; {_ANEW[kind]}") from None


def parse_result(content: dict[str, Any]) -> Result | Entry:
    """Return what a mapping says that a file of any known version holds.

    Raises:
        ShapesHDError: naming the field that is missing, unknown or of the wrong type.
    """
    schema: type[Entry | Result] = Entry if content.get("format") == ENTRY_FORMAT else Result
    try:
        content = encodable(content)
        if content.get("format_version") == 1:
            content = migrated(content)
        return schema.model_validate(content)
    except ValidationError as error:
        raise ShapesHDError(first_problem(error, schema)) from None
    except RecursionError:
        raise ShapesHDError("is nested too deeply") from None


def save_result(result: Record, path: Path) -> None:
    """Write a result, an entry or a sweep as JSON; a reader finds the old file or the new one."""
    text = json.dumps(result.to_json(), indent=1) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
