"""Several tar files by one name: ``data-{000..003}.tar`` or ``data-*.tar``."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from shapeshd.errors import UsageError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MOST = 100_000  # archives
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")


def expand_shards(text: str) -> list[Path] | None:
    """Return the tar files that a text with a range or wildcards means, in order; else None.

    A range ``{000..003}`` has the digits of its first number, as shells and WebDataset have it,
    and each of its files must be there. What ``*``, ``?`` and ``[...]`` find is put in natural
    order.

    Args:
        text: what the user typed, no path that exists.

    Raises:
        UsageError: if there is no such file, or too many.
    """
    from .numbered import natural_key  # which imports PyTorch

    if not text.lower().endswith(TAR_SUFFIXES):
        return None
    path = str(Path(text).expanduser())
    ranges = _RANGE.findall(path)
    if len(ranges) == 1:
        return _of_range(path, ranges[0], text)
    if not glob.has_magic(path):
        return None
    found = sorted(glob.glob(path), key=natural_key)[: _MOST + 1]  # noqa: PTH207 - absolute, too
    if not found:
        raise UsageError(f"{text}: no such files")
    _check_count(len(found), text)
    for one in map(Path, found):
        if not one.is_file():
            raise UsageError(f"{one}: is no file, though {text} means it")
    return [Path(one) for one in found]


def _of_range(path: str, ends: tuple[str, str], text: str) -> list[Path]:
    first, last = map(int, ends)
    if last < first:
        raise UsageError(
            f"{text}: {ends[0]}..{ends[1]} goes backwards: give the lower number first"
        )
    _check_count(last - first + 1, text)
    before, after = _RANGE.split(path)[0], _RANGE.split(path)[-1]
    shards = [Path(f"{before}{n:0{len(ends[0])}}{after}") for n in range(first, last + 1)]
    for shard in shards:
        if not shard.is_file():
            raise UsageError(f"{shard}: no such file, though {text} says so")
    return shards


def _check_count(count: int, text: str) -> None:
    if count > _MOST:
        raise UsageError(f"{text}: means {count:,} files; at most {_MOST:,} are read")
