"""Where the members of a tar file lie: its headers alone, read once, in bounded memory.

The three forms that are in use: POSIX ustar, GNU and pax. Python's own `tarfile` trusts what a
header says: it takes in an extended header of any length, follows sizes below zero, and reads a
file that is cut off between two members as a whole one. A check above it could notice these, but
not that Python 3.11 believes a record that is longer than its pax header (`BAD_TARS` in the tests,
"pax damaged"). Here a header is believed only where its checksum is right, every byte that it
claims is there, and the archive has its end (two blocks of zeros, POSIX.1-2017 pax, "ustar
Interchange Format").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .names import shown

BLOCK = 512
_MOST_EXTENDED = 2**20  # bytes of a pax header or of a long name
_MOST_PADDING = 2**26  # bytes behind the end; archivers fill up a record of some KiB
_CHUNK = 2**20
_END = bytes(BLOCK)
_PAX_FROM = 8**11  # a size that eleven octal digits do not hold: only then may pax correct it
_CHECKSUM = slice(148, 156)
_OTHER_NUMBERS = ((100, 108), (108, 116), (116, 124), (136, 148), (329, 337), (337, 345))
"""Mode, user, group, time, and two of devices."""

_KINDS = {
    b"1": "a hard link",
    b"2": "a link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"S": "a sparse file",
    b"V": "a volume label",
    b"M": "a part of a file in another archive",
    b"D": "a directory listing of GNU tar",
}
_FILES = (b"0", b"\0", b"7")


class TarError(Exception):
    """The archive cannot be read, or is not read; says what it is or holds."""


@dataclass(frozen=True)
class Member:
    """A regular file in a tar archive.

    Attributes:
        name: its path there, bytes in UTF-8 as surrogates where they are none.
        offset: of its first byte in the archive.
        size: in bytes.
    """

    name: str
    offset: int
    size: int


def tar_members(file: BinaryIO, length: int) -> Iterator[Member]:
    """Yield the regular files of a tar archive in its order; folders are passed over.

    Args:
        file: the archive, uncompressed, which can be moved in.
        length: bytes of the archive.

    Raises:
        TarError: if it is no whole archive, or holds anything but files and folders.
    """
    place = 0
    extended: dict[str, str] = {}
    while True:
        header = _read(file, place, BLOCK, "is cut off: it has no end (two blocks of zeros)")
        if header == _END:
            return _check_end(file, place, length)
        _check_sum(header, place)
        _check_numbers(header)
        kind, size = header[156:157], _number(header[124:136])
        data = place + BLOCK
        if kind in (b"x", b"g", b"L", b"K"):
            name = shown(_text(header[:100]))
            if size > _MOST_EXTENDED:
                raise TarError(f"has an extended header of {size / 2**20:,.0f} MiB ({name})")
            content = _read(file, data, size, f"is cut off in an extended header ({name})")
            _check_long_name(file, kind, content, data + size)
            _extend(extended, kind, content)
        else:
            name = extended.get("path") or _header_name(header)
            size = _agreed_size(extended, size, name)
            if kind not in _FILES and kind != b"5":
                what = _KINDS.get(kind, f"of the unknown type {kind.decode('latin-1')!a}")
                raise TarError(
                    f"holds {shown(name)}, {what}: files and folders alone are read from a tar file"
                )
            size = 0 if kind == b"5" else size
            if data + size > length:
                raise TarError(
                    f"is cut off, or lies: {shown(name)} of {size:,} bytes begins at {data:,} of "
                    f"{length:,}"
                )
            if kind != b"5" and not name.endswith("/"):
                yield Member(name, data, size)
            extended = {}
        place = data + -(-size // BLOCK) * BLOCK


def _read(file: BinaryIO, place: int, count: int, otherwise: str) -> bytes:
    file.seek(place)
    content = file.read(count)
    if len(content) < count:
        raise TarError(otherwise)
    return content


def _check_long_name(file: BinaryIO, kind: bytes, content: bytes, end: int) -> None:
    """Refuse a long name that has no end within its size: programs read on, or do not."""
    ended = b"\0" in content or not len(content) % BLOCK
    if kind in (b"L", b"K") and not ended and _read(file, end, 1, "is cut off") != b"\0":
        raise TarError("is damaged: a long name goes on behind its end")


def _check_sum(header: bytes, place: int) -> None:
    """Compare the sum of a header's bytes, its own field taken as spaces; old ones are signed."""
    bare = header[: _CHECKSUM.start] + b" " * 8 + header[_CHECKSUM.stop :]
    try:
        stated = _number(header[_CHECKSUM])
    except TarError:
        stated = -1
    total = sum(bare)
    if stated != total and stated != total - 256 * sum(byte > 127 for byte in bare):
        raise TarError(
            "is no tar file"
            if place == 0
            else f"is damaged: there is no header at byte {place:,}, where one must be"
        )


def _check_numbers(header: bytes) -> None:
    """Refuse fields that nothing here needs, but at which other programs end the archive."""
    for start, stop in _OTHER_NUMBERS:
        if header[start] not in (0x80, 0xFF):  # binary, such as a time before 1970
            _number(header[start:stop])


def _number(field: bytes) -> int:
    """Return a number of a header: octal digits, or binary where the highest bit is set."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise TarError("is damaged: a header has a size below zero, or of more than 88 bits")
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise TarError("is damaged: a header has a number that is none")
    return int(digits or b"0", 8)


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _header_name(header: bytes) -> str:
    name, prefix = _text(header[:100]), ""
    if header[257:263] == b"ustar\0":  # GNU's own form has other things there
        prefix = _text(header[345:500])
    return f"{prefix}/{name}" if prefix else name


def _extend(extended: dict[str, str], kind: bytes, content: bytes) -> None:
    if kind == b"L":
        extended["path"] = _text(content)
    elif kind == b"x":
        extended.update(_pax_records(content))
    elif kind == b"g" and {"path", "size"} & _pax_records(content).keys():
        raise TarError("has a header that names all members alike")


def _pax_records(content: bytes) -> dict[str, str]:
    """Return the records of a pax header, each "LENGTH KEY=VALUE\\n"."""
    records: dict[str, str] = {}
    place = 0
    while place < len(content) and content[place : place + 1] != b"\0":
        digits, space, _ = content[place : place + 20].partition(b" ")
        if not space or not digits.isdigit():
            raise TarError("is damaged: a pax header is none")
        stop = place + int(digits)
        record = content[place + len(digits) + 1 : stop]
        key, equals, value = record.partition(b"=")
        if stop > len(content) or not equals or not value.endswith(b"\n"):
            raise TarError("is damaged: a pax header is none")
        if key.startswith(b"GNU.sparse."):
            raise TarError("holds a sparse file, which is not read")
        records[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
        place = stop
    return records


def _agreed_size(extended: dict[str, str], size: int, name: str) -> int:
    """Return a member's size, refusing two that differ: programs disagree on which one counts."""
    text = extended.get("size")
    if text is None:
        return size
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise TarError(f"is damaged: the size of {shown(name)} is none")
    stated = int(text)
    if stated != size and not (stated >= _PAX_FROM and size == 0):
        raise TarError(f"lies: {shown(name)} is said to have {size:,} bytes and {stated:,}")
    return stated


def _check_end(file: BinaryIO, place: int, length: int) -> None:
    """Refuse what lies behind the end: other programs would read it, or read on."""
    second = _read(file, place + BLOCK, BLOCK, "is cut off: of its end, half is there")
    rest = length - place - 2 * BLOCK
    if rest > _MOST_PADDING:
        raise TarError(f"has {rest / 2**20:,.0f} MiB behind its end")
    while second:
        if second.strip(b"\0"):
            raise TarError(
                "goes on behind its end (archives put together?): pack its files again, or give "
                "each archive"
            )
        second = file.read(_CHUNK)
