"""Names of image files, of archives' members, and of several tar files at once; without PyTorch."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from shapeshd.errors import UsageError

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "PPM": (".ppm",),
}
"""The formats of images that are read, by Pillow's names, and their files' suffixes."""

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
MAX_PIXELS = 2**24
"""The largest image that is read: 4096 x 4096."""

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MOST = 100_000  # archives
_DIGITS = re.compile("([0-9]+)")
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_DRIVE = 2  # where the colon of a name such as "C:/x.png" is, plus one


def is_image_name(name: str) -> bool:
    """Tell whether a file of this name is taken for an image; hidden files are not."""
    return name.lower().endswith(SUFFIXES) and not name.rpartition("/")[2].startswith(".")


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return what to sort names by so that ``img10`` comes after ``img9``.

    Texts and numbers alternate, beginning with a text; equal numbers of other spelling
    (``1``, ``01``) come in the order of their characters.
    """
    parts: list[str | int] = list(_DIGITS.split(name))
    parts[1::2] = [int(part) if len(part) < 4000 else 0 for part in _DIGITS.findall(name)]
    return parts, name


def shown(name: str) -> str:
    """Return a file's name as it can be printed: what is not UTF-8 in it is replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check_member_name(member: str, *, source: str, archive: str) -> None:
    """Refuse a member whose name leads outside of its archive on any system.

    Nothing is ever unpacked here; but such an archive was made to write into folders of whoever
    unpacks it, and is not to be trusted.

    Args:
        member: its name as the archive has it.
        source: what the user called the archive.
        archive: what it is, such as "zip file".

    Raises:
        UsageError: if the name is absolute, climbs up, or holds a backslash or a drive.
    """
    drive = member[:_DRIVE].endswith(":")
    if member.startswith("/") or ".." in member.split("/") or "\\" in member or drive:
        raise UsageError(
            f"{source}: the name {shown(member)!r} leads outside of the {archive}: such a file is "
            "not read"
        )


def is_system_file(member: str) -> bool:
    """Tell whether a member is one of those that macOS adds beside every file."""
    return "__MACOSX" in member.split("/")


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
