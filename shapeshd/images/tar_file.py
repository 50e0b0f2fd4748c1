"""Tar files of images, WebDataset's shards among them, read without unpacking them.

In WebDataset the files of a sample follow each other and share a key: the path up to the first
dot of the file's name; what comes after is the field, such as ``png`` of ``00000000.png``. A
sample is one image, so with several images to a key (``0001.jpg``, ``0001.mask.png``) it must be
said which.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shapeshd.errors import ShapesHDError, UsageError, named, one_line

from .decode import MAX_FILE_BYTES, nothing_found
from .names import check_member_name, is_image_name, is_system_file, shown
from .numbered import EncodedImages, PackedNames
from .tar_index import Member, TarError, tar_members

MOST_UNPACKED = 100
"""How many times its compressed length an archive may have; images are hardly ever above 30."""
LEAST_UNPACKED = 64 * 2**20
"""Bytes that any compressed archive may have: small ones consist of zeros for the most part."""

_GZIP = b"\x1f\x8b"
_CHUNK = 2**20


class TarImages(EncodedImages):
    """The images of tar files in the archives' order, decoded when read.

    The headers are read once; of each image its place and its name alone are kept. Images are
    then read where they lie, in any order, from any thread or process. An archive compressed by
    gzip is unpacked into a file without a name in the folder for temporary files first.

    Args:
        paths: the archives, in order.
        name: what the user called them.
        field: of the image in each sample; None if a sample has one image.

    Raises:
        UsageError: if one is no whole tar file, holds no image, or what is not harmless: links,
            devices, sparse files, names that lead outside, sizes that no image has.
    """

    kind = "tar"

    def __init__(self, paths: Sequence[Path], name: str, field: str | None = None) -> None:
        self._paths = [path.absolute() for path in paths]  # a worker may be elsewhere
        self.name = name
        self._unpacked: BinaryIO | None = None
        self._begins: dict[int, int] = {}  # of each unpacked archive, in that file
        try:
            index = _Index(field)
            for number in range(len(self._paths)):
                with self._opened(number) as file:
                    index.add(self._label_of(number), file)
            self._names = index.packed(name)
        except BaseException:
            self._close_files()
            raise
        self._ends = np.array(index.ends, dtype=np.int64)
        self._places = np.frombuffer(index.places, dtype=np.int64).reshape(-1, 2)
        self._ignored = index.ignored
        super().__init__(name, len(self._names))

    def describe(self) -> dict[str, Any]:
        """Return what was found and how it was read, ready for JSON."""
        return {
            "archives": len(self._paths),
            "ignored_files": self._ignored,
            **super().describe(),
        }

    def close(self) -> None:
        """End the threads that decode and give back the disk that was taken."""
        super().close()
        self._close_files()

    def label(self, number: int) -> str:
        """Return the name of image `number` for messages."""
        label = self._label_of(self._archive(number))
        return f"{label}: {shown(os.fsdecode(self._names[number]))}"

    def encoded(self, number: int) -> bytes:
        """Return the file of image `number`, for `decode_image`.

        Raises:
            ShapesHDError: if it cannot be read.
        """
        archive = self._archive(number)
        offset, size = (int(value) for value in self._places[number])
        try:
            if self._unpacked is not None and archive in self._begins:
                return os.pread(self._unpacked.fileno(), size, self._begins[archive] + offset)
            with open(self._paths[archive], "rb", buffering=0) as file:  # noqa: PTH123 - speed
                return os.pread(file.fileno(), size, offset)
        except OSError as error:
            reason = error.strerror or one_line(error)
            raise ShapesHDError(f"{self.label(number)}: cannot be read ({reason})") from None

    def _archive(self, number: int) -> int:
        return int(np.searchsorted(self._ends, number, side="right"))

    def _label_of(self, archive: int) -> str:
        return self.name if len(self._paths) == 1 else shown(os.fspath(self._paths[archive]))

    @contextmanager
    def _opened(self, number: int) -> Iterator[BinaryIO]:
        """Open the archive `number`; one that is compressed is unpacked, and kept."""
        path = self._paths[number]
        label = self._label_of(number)
        unpacked = None
        try:
            file: BinaryIO = path.open("rb")
            if file.peek(2)[:2] == _GZIP:  # type: ignore[attr-defined]
                with file:
                    file = unpacked = _unpack(file, path.stat().st_size, label)
        except (OSError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise UsageError(f"{label}: cannot be read ({reason})") from None
        try:
            yield file
            if unpacked is not None:
                self._keep(number, unpacked)
        finally:
            if file is not self._unpacked:
                file.close()

    def _keep(self, number: int, unpacked: BinaryIO) -> None:
        """Put an unpacked archive behind those before it: one open file for all of them."""
        if self._unpacked is None:
            self._unpacked, self._begins[number] = unpacked, 0
            return
        self._begins[number] = self._unpacked.seek(0, os.SEEK_END)
        unpacked.seek(0)
        shutil.copyfileobj(unpacked, self._unpacked, _CHUNK)
        self._unpacked.flush()

    def _close_files(self) -> None:
        if self._unpacked is not None:
            self._unpacked.close()
        self._unpacked = None

    def __getstate__(self) -> dict[str, Any]:
        if self._unpacked is not None:
            raise TypeError("a compressed tar file is not handed to another process: unpack it")
        return self.__dict__


class _Index:
    """Where the images of all archives lie.

    Attributes:
        places: offset and size of each image.
        ends: for each archive, how many images it and those before it hold.
        ignored: files that are no images.
    """

    def __init__(self, field: str | None) -> None:
        self.places = array("q")
        self.ends: list[int] = []
        self.ignored = 0
        self._field = field
        self._names: list[PackedNames] = []
        self._hashes = array("q")  # of the keys, to find those that come twice
        self._others: Counter[str] = Counter()

    def add(self, source: str, file: BinaryIO) -> None:
        """Add the images of an archive."""
        length = file.seek(0, os.SEEK_END)
        try:
            self._names.append(PackedNames(self._images(source, file, length)))
        except TarError as error:
            raise UsageError(f"{source}: {error}") from None
        except OSError as error:
            raise UsageError(f"{source}: cannot be read ({error.strerror})") from None
        self.ends.append(len(self._hashes))

    def packed(self, name: str) -> PackedNames:
        """Return the names of all images.

        Raises:
            UsageError: if there is none, or a sample comes twice.
        """
        names = PackedNames(one[i] for one in self._names for i in range(len(one)))
        self.ignored = self._others.total()
        if not len(names):
            if self._field is not None:
                raise UsageError(
                    f"{name}: holds no image of the field {self._field!r} ({named('key')})"
                )
            raise nothing_found(f"{name}: holds", self._others)
        _check_once(names, self._hashes, self.ends, name)
        return names

    def _images(self, source: str, file: BinaryIO, length: int) -> Iterator[bytes]:
        for member in tar_members(file, length):
            check_member_name(member.name, source=source, archive="tar file")
            key, field = _key(member.name) if self._field else _sole_key(member.name)
            image = is_image_name(member.name) and not is_system_file(member.name)
            if not image or self._field not in (None, field):
                self._others[os.path.splitext(member.name)[1].lower()] += 1  # noqa: PTH122
                continue
            _check_size(member, source)
            self.places.extend((member.offset, member.size))
            self._hashes.append(hash((len(self.ends), key)))  # keys of each archive may restart
            yield os.fsencode(member.name)


def _key(name: str) -> tuple[str, str]:
    """Return the key and the field of a file: its path up to the first dot of its name."""
    folder, _, file = name.removeprefix("./").rpartition("/")
    key, _, field = file.partition(".")
    return f"{folder}/{key}", field


def _sole_key(name: str) -> tuple[str, str]:
    """Return the key and the field where no field is asked for.

    A number before the suffix, as in ``run1.5_step.000017.png``, tells samples apart, and not
    images of one sample.
    """
    folder, _, file = name.removeprefix("./").rpartition("/")
    stem, _, suffix = file.rpartition(".")
    if stem.rpartition(".")[2].isdecimal():
        return f"{folder}/{stem}", suffix
    return _key(name)


def _check_once(names: PackedNames, hashes: array[int], ends: Sequence[int], name: str) -> None:
    order = np.argsort(np.frombuffer(hashes, dtype=np.int64), kind="stable")
    sorted_hashes = np.frombuffer(hashes, dtype=np.int64)[order]
    alike = np.flatnonzero(sorted_hashes[1:] == sorted_hashes[:-1])
    for position in alike[np.argsort(order[alike])]:  # the first in the archive is named
        rows = order[position : position + 2]
        if len(np.unique(np.searchsorted(ends, rows, side="right"))) > 1:
            continue
        one, other = (os.fsdecode(names[int(row)]) for row in rows)
        if one.removeprefix("./") == other.removeprefix("./"):
            raise UsageError(f"{name}: holds {shown(one)} twice")
        if _key(one)[0] == _key(other)[0]:
            fields = f"{shown(_key(one)[1])} and {shown(_key(other)[1])}"
            raise UsageError(
                f"{name}: holds several images of the sample {shown(_key(one)[0]).strip('/')!r}, "
                f"{fields}: give {named('key', shown(_key(one)[1]))}, or unpack it if these are "
                "samples of their own"
            )


def _check_size(member: Member, source: str) -> None:
    if member.size > MAX_FILE_BYTES:
        raise UsageError(
            f"{source}: {shown(member.name)}: is {member.size / 2**20:,.0f} MiB large; no image of "
            f"more than {MAX_FILE_BYTES // 2**20} is read"
        )


def _unpack(file: BinaryIO, length: int, label: str) -> BinaryIO:
    """Unpack a gzip file of this many bytes, in bounded memory, into a file without a name.

    Raises:
        UsageError: if it is far larger than archives of images are.
        zlib.error: if it is damaged or cut off.
    """
    most = max(LEAST_UNPACKED, MOST_UNPACKED * length)
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the source
    try:
        for total in itertools.accumulate(map(unpacked.write, _inflated(file))):
            if total > most:
                raise UsageError(
                    f"{label}: becomes larger than {most / 2**20:,.0f} MiB, more "
                    f"than {MOST_UNPACKED} times its length: no archive of images (a bomb?)"
                )
        unpacked.flush()
    except BaseException:
        unpacked.close()
        raise
    return unpacked


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a gzip file, which may be several in a row, in pieces."""
    data = file.read(_CHUNK)
    while data.strip(b"\0"):  # tapes are filled up with zeros
        stream = zlib.decompressobj(wbits=31)
        while not stream.eof:
            yield stream.decompress(data, _CHUNK)
            if not stream.eof:
                data = stream.unconsumed_tail or file.read(_CHUNK)
                if not data:
                    raise zlib.error("cut off")
        data = stream.unused_data or file.read(_CHUNK)
