"""A folder of images, searched with all its subfolders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shapeshd.errors import ShapesHDError, UsageError, one_line

from .decode import MAX_FILE_BYTES, nothing_found
from .names import is_image_name, natural_key, shown
from .numbered import EncodedImages, PackedNames


class FolderImages(EncodedImages):
    """The images under a folder, in natural order of their paths, decoded when read.

    Files and subfolders of a folder stand together in one order, so ``a1/x.png``, ``a2.png``,
    ``a10/x.png`` follow each other; hidden ones are left out. Of each image its name alone is
    kept, without an object of its own. No file stays open.

    Args:
        path: the folder.
        name: what the user called it.

    Raises:
        UsageError: if there is no image, or a folder cannot be read.
    """

    kind = "folder"

    def __init__(self, path: Path, name: str) -> None:
        self._root = os.fspath(path.absolute())
        others: Counter[str] = Counter()
        self._names = PackedNames(map(os.fsencode, _walk(self._root, others)))
        if not len(self._names) and others[".tar"]:
            raise UsageError(f"{name}: holds tar files and no images: give '{name}/*.tar'")
        if not len(self._names):
            raise nothing_found(f"{name}: holds", others)
        super().__init__(name, len(self._names))
        self._ignored = others.total()

    def describe(self) -> dict[str, Any]:
        """Return what was found and how it was read, ready for JSON."""
        return {"ignored_files": self._ignored, **super().describe()}

    def _path(self, number: int) -> str:
        return os.path.join(self._root, os.fsdecode(self._names[number]))  # noqa: PTH118

    def label(self, number: int) -> str:
        """Return the path of image `number` for messages."""
        return shown(self._path(number))

    def encoded(self, number: int) -> bytes:
        """Return the file of image `number`, for `decode_image`.

        Raises:
            UsageError: if it is larger than an image can be.
            ShapesHDError: if it cannot be read.
        """
        path = self._path(number)
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - a Path for each image costs time
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            reason = error.strerror or one_line(error)
            raise ShapesHDError(f"{shown(path)}: cannot be read ({reason})") from None
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"{shown(path)}: is larger than {MAX_FILE_BYTES // 2**20} MiB")
        return data


def _walk(
    folder: str, others: Counter[str], below: str = "", above: tuple[tuple[int, int], ...] = ()
) -> Iterator[str]:
    """Yield the images' paths, relative to the first `folder`, one folder in memory at a time.

    `above` are the folders on the way here: a link that leads back to one is not followed.
    """
    try:
        here = os.stat(folder)  # noqa: PTH116
        with os.scandir(folder) as entries:
            listed = [(entry.name, entry.is_dir()) for entry in entries if entry.name[0] != "."]
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise UsageError(f"{shown(folder)}: cannot be read ({reason})") from None
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        return
    listed.sort(key=lambda entry: natural_key(entry[0]))
    for name, is_folder in listed:
        if is_folder:
            if name != "__MACOSX":
                inner = os.path.join(folder, name)  # noqa: PTH118
                yield from _walk(inner, others, f"{below}{name}/", (*above, identity))
        elif is_image_name(name):
            yield below + name
        else:
            others[os.path.splitext(name)[1].lower()] += 1  # noqa: PTH122
