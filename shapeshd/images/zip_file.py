"""A zip file of images, such as StyleGAN's datasets, read without unpacking it."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from shapeshd.errors import ShapesHDError, UsageError, one_line

from .decode import MAX_FILE_BYTES, nothing_found
from .names import check_member_name, is_image_name, is_system_file, natural_key, shown
from .numbered import EncodedImages

_ENCRYPTED = 0x1


class ZipImages(EncodedImages):
    """The images of a zip file in natural order of their names, decoded when read.

    Nothing is written to the disk. The file's directory stays in memory, about 500 bytes an
    image; all threads share one open file, and a process that inherits or unpickles the object
    opens its own.

    Args:
        path: the zip file.
        name: what the user called it.

    Raises:
        UsageError: if it is no zip file, holds no image, or a member that is not harmless:
            encrypted, with a name that leads outside, or of a size that no image has.
    """

    kind = "zip"

    def __init__(self, path: Path, name: str) -> None:
        self._path = path.absolute()  # a worker may have another working directory
        try:
            file = zipfile.ZipFile(self._path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise UsageError(f"{name}: is no whole zip file ({one_line(error)})") from None
        try:
            self._members, self._ignored = _find_images(file, name)
        except BaseException:
            file.close()
            raise
        self._file: zipfile.ZipFile | None = file
        self._process = os.getpid()
        super().__init__(name, len(self._members))

    def describe(self) -> dict[str, Any]:
        """Return what was found and how it was read, ready for JSON."""
        return {"ignored_files": self._ignored, **super().describe()}

    def close(self) -> None:
        """End the threads that decode and close the file."""
        super().close()
        if self._file is not None:
            self._file.close()

    def label(self, number: int) -> str:
        """Return the name of image `number` for messages."""
        return f"{self.name}: {shown(self._members[number].filename)}"

    def encoded(self, number: int) -> bytes:
        """Return the file of image `number`, for `decode_image`.

        Raises:
            ShapesHDError: if it cannot be read.
        """
        try:
            return self._opened().read(self._members[number])
        except Exception as error:  # zlib, lzma and bz2 have errors of their own
            raise ShapesHDError(
                f"{self.label(number)}: cannot be read ({one_line(error)})"
            ) from None

    def _opened(self) -> zipfile.ZipFile:
        """Return this process's own file: one that was inherited shares its position."""
        if self._file is None or self._process != os.getpid():
            file = zipfile.ZipFile(self._path)
            self._file, self._process = file, os.getpid()
            return file
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


def _find_images(file: zipfile.ZipFile, name: str) -> tuple[list[zipfile.ZipInfo], int]:
    """Return the images in order and how many other files there are."""
    others: Counter[str] = Counter()
    images = []
    for member in file.infolist():
        path = _path(member)
        for spelt in (path, member.orig_filename.replace("\\", "/")):
            check_member_name(spelt, source=name, archive="zip file")
        if path.endswith("/"):
            continue
        if not is_image_name(path) or is_system_file(path):
            others[PurePosixPath(path).suffix.lower()] += 1
            continue
        _check_content(member, name)
        images.append(member)
    if not images:
        raise nothing_found(f"{name}: holds", others)
    images.sort(key=lambda member: _path_key(_path(member)))
    for one, other in itertools.pairwise(images):
        if _path(one) == _path(other):
            raise UsageError(f"{name}: holds {shown(one.filename)} twice")
    return images, others.total()


def _path(member: zipfile.ZipInfo) -> str:
    """Return a member's name; PowerShell and older .NET write backslashes between its parts."""
    return member.filename.replace("\\", "/")


def _path_key(name: str) -> list[tuple[list[str | int], str]]:
    return [natural_key(part) for part in name.split("/")]


def _check_content(member: zipfile.ZipInfo, name: str) -> None:
    label = f"{name}: {shown(member.filename)}"
    if member.flag_bits & _ENCRYPTED:
        raise UsageError(f"{label}: is encrypted: unpack it and score the folder")
    if member.file_size > MAX_FILE_BYTES:
        raise UsageError(
            f"{label}: says it is {member.file_size / 2**20:,.0f} MiB large; no image of more than "
            f"{MAX_FILE_BYTES // 2**20} is read"
        )
