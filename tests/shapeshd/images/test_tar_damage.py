"""Bad tar files: each is refused in one line, and damage is noticed."""

from __future__ import annotations

import gzip
import io
import os
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shapeshd.benchmark.sources import open_source
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.images import tar_file as tar_module
from shapeshd.images.tar_index import TarError, tar_members
from tests.support.tars import (
    COUNT,
    PNGS,
    WANTED,
    Entry,
    entry,
    images,
    made,
    png,
    write_tar,
)


def raw_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header with a right checksum, whatever it says."""
    header = bytearray(512)
    header[: len(name)] = name
    header[124 : 124 + len(size)] = size
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


END = bytes(1024)


def block(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(records: bytes, name: bytes = b"x.png", size: bytes | None = None) -> bytes:
    data = PNGS[0]
    head = raw_header(b"pax", b"%011o" % len(records), b"x") + block(records)
    return head + raw_header(name, size or b"%011o" % len(data)) + block(data) + END


def linked(name: str, kind: bytes, target: str = "/etc/hostname") -> list[Entry]:
    return [*images(), entry(name, type=kind, linkname=target)]


def whole(tmp: Path) -> bytes:
    return write_tar(tmp / "whole.tar", images()).read_bytes()


BAD_TARS: dict[str, tuple[Callable[[Path], bytes | list[Entry]], str]] = {
    "no tar": (lambda _: b"not an archive" * 99, "is no tar file"),
    "too short": (lambda _: b"x", "it has no end"),
    "absolute": (lambda _: images(name="/tmp/{}.png"), "leads outside"),
    "climbs": (lambda _: images(name="a/../../{}.png"), "leads outside"),
    "backslash": (lambda _: images(name="..\\{}.png"), "leads outside"),
    "drive": (lambda _: images(name="C:{}.png"), "leads outside"),
    "a text climbs": (lambda _: [*images(), entry("../x.txt", b"x")], "leads outside"),
    "symbolic link": (lambda _: linked("x.png", tarfile.SYMTYPE), r"holds x\.png, a link"),
    "hard link": (lambda _: linked("x.png", tarfile.LNKTYPE, "0000.png"), "a hard link"),
    "character device": (lambda _: linked("x.png", tarfile.CHRTYPE), "a device"),
    "block device": (lambda _: linked("x.png", tarfile.BLKTYPE), "a device"),
    "pipe": (lambda _: linked("x.png", tarfile.FIFOTYPE), "a named pipe"),
    "sparse": (lambda _: linked("x.png", tarfile.GNUTYPE_SPARSE), "a sparse file"),
    "unknown type": (lambda _: linked("x.png", b"Q"), "unknown type 'Q'"),
    "pax sparse": (lambda _: pax(b"22 GNU.sparse.major=1\n"), "a sparse file"),
    "pax two sizes": (lambda _: pax(b"12 size=512\n"), "lies: x.png"),
    "pax no size": (lambda _: pax(b"11 size=-1\n"), r"size of x\.png is none"),
    "pax damaged": (lambda _: pax(b"99 path=x\n"), "pax header is none"),
    "pax endless": (lambda _: pax(b"0 path=x\n"), "pax header is none"),
    "pax names all": (
        lambda _: raw_header(b"g", b"%011o" % 14, b"g") + block(b"14 path=x.png\n") + END,
        "names all members alike",
    ),
    "pax climbs": (lambda _: pax(b"17 path=../a.png\n"), "leads outside"),
    "huge pax": (lambda _: raw_header(b"p", b"77777777777", b"x") + END, "header of 8,192 MiB"),
    "huge name": (lambda _: raw_header(b"n", b"77777777777", b"L") + END, "header of 8,192 MiB"),
    "cut pax": (lambda _: raw_header(b"p", b"00000010000", b"x") + END, "cut off in an extended"),
    "negative size": (
        lambda _: raw_header(b"x.png", b"\xff" * 12) + END,
        "a size below zero",
    ),
    "size no number": (lambda _: raw_header(b"x.png", b"99999999999") + END, "number that is none"),
    "size beyond end": (lambda _: raw_header(b"x.png", b"%011o" % 5000) + END, "cut off, or lies"),
    "huge size": (
        lambda _: raw_header(b"x.png", b"\x80" + (2**80).to_bytes(11, "big")) + END,
        "cut off, or lies",
    ),
    "cut in a file": (lambda tmp: whole(tmp)[:700], "cut off, or lies"),
    "cut in a header": (lambda tmp: whole(tmp)[:1200], "it has no end"),
    "cut between files": (lambda tmp: whole(tmp)[:1024], "it has no end"),
    "half an end": (lambda _: raw_header(b"a", b"0" * 11) + bytes(512), "of its end, half"),
    "two archives": (lambda tmp: 2 * whole(tmp), "behind its end"),
    "damaged header": (
        lambda tmp: whole(tmp)[:1030] + b"!" + whole(tmp)[1031:],
        "byte 1,024",
    ),
    "nothing": (lambda _: [entry("a.txt", b"x")], r"holds no images .*1 \.txt"),
    "empty archive": (lambda _: END, "holds no images"),
    "twice": (lambda _: [*images(), *images(3, 1)], r"holds 0003\.png twice"),
    "hidden alone": (lambda _: images(name=".{}.png"), "holds no images"),
}


def write_bad(case: str, tmp_path: Path, suffix: str) -> Path:
    content = BAD_TARS[case][0](tmp_path)
    path = tmp_path / f"bad{suffix}"
    if isinstance(content, list):
        content = write_tar(tmp_path / "made.tar", content).read_bytes()
    return made(path, gzip.compress(content) if suffix == ".tgz" else content)


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
@pytest.mark.parametrize("case", BAD_TARS)
def test_bad_archives_are_refused_in_one_line(case: str, suffix: str, tmp_path: Path) -> None:
    path = write_bad(case, tmp_path, suffix)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=BAD_TARS[case][1]) as caught:
        open_source(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert sorted(tmp_path.rglob("*")) == before


def test_a_named_pipe_or_a_huge_image_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with path.open("wb") as file:  # a file with a hole: 200 MB that take no disk
        file.write(raw_header(b"x.png", b"%011o" % (200 * 2**20)))
        file.seek(512 + 200 * 2**20)
        file.write(END)
    with pytest.raises(UsageError, match=r"200 MiB .*96"):
        open_source(str(path))
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(UsageError, match=r"pipe.tar: is neither"):
        open_source(str(tmp_path / "pipe.tar"))


def test_a_hole_behind_the_end_is_not_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", images())
    os.truncate(path, 2**40)
    with pytest.raises(UsageError, match="1,048,576 MiB behind"):
        open_source(str(path))


def test_a_bomb_is_stopped_and_its_disk_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gigabyte of zeros within a megabyte: ended at a hundred times its length, in little RAM."""
    monkeypatch.setattr(tar_module, "LEAST_UNPACKED", 2**20)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    piece = gzip.compress(raw_header(b"x.bin", b"%011o" % 2**30) + bytes(2**24), 9)
    path = made(tmp_path / "x.tar.gz", piece * 4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match=r"\d+ MiB, .*100 times"):
        open_source(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-20], "cannot be read"),
        (lambda data: data[:40] + bytes(20) + data[60:], "cannot be read"),
        (lambda data: data + b"rubbish", "cannot be read"),
        (lambda _: b"plain text that is longer than a block " * 20, "is no tar file"),
        (lambda _: b"BZh91AY" * 100, "is no tar file"),
    ],
    ids=["cut off", "damaged", "rubbish behind", "no gzip", "bzip2"],
)
def test_damaged_gzip(spoil: Callable[[bytes], bytes], message: str, tmp_path: Path) -> None:
    data = write_tar(tmp_path / "y.tar.gz", images(), mode="w:gz").read_bytes()
    path = made(tmp_path / "x.tar.gz", spoil(data))
    with pytest.raises(UsageError, match=message) as caught:
        open_source(str(path))
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (png(np.zeros((8, 9, 3), np.uint8)), r"x\.png .*9x8 .*0000\.png 8x8"),
        (b"", r"x\.png: is empty"),
        (PNGS[0][:50], r"x\.png: is damaged"),
        (b"GIF89a" + bytes(99), r"x\.png: is no image"),
        (png(np.zeros((8, 8, 4), np.uint8)), r"x\.png: is not opaque"),
    ],
    ids=["size", "empty", "damaged", "no image", "clear"],
)
def test_bad_images_in_a_good_archive(bad: bytes, message: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [*images(), entry("x.png", bad)])
    with open_source(str(path)) as source:
        assert torch.equal(source.images(0, COUNT), WANTED)
        with pytest.raises(ShapesHDError, match=message) as caught:
            source.images(0, COUNT + 1)
    assert "\n" not in str(caught.value)


@settings(max_examples=300)
@example([(1132, b"\x13M")], tarfile.USTAR_FORMAT)  # a user's number, with the same sum
@example([(108, b"\x13M")], tarfile.USTAR_FORMAT)
@example([(1659, b"\1" * 4)], tarfile.GNU_FORMAT)  # a long name whose end is overwritten
@given(
    st.lists(st.tuples(st.integers(0, 8000), st.binary(min_size=1, max_size=12)), max_size=4),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_damage_is_noticed_or_harmless(changes: list[tuple[int, bytes]], format: int) -> None:
    """Of a changed archive, what is believed agrees with the reference, or it is refused."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for number, name in enumerate(("a.png", "b/" * 60 + "c.png", "d.txt")):
            info, data = entry(name, PNGS[number])
            archive.addfile(info, io.BytesIO(data))
    content = bytearray(buffer.getvalue())
    for place, values in changes:
        content[place : place + len(values)] = values
    length = len(content)
    try:
        members = list(tar_members(io.BytesIO(content), length))
    except TarError as error:
        assert "\n" not in str(error)
        return
    assert all(0 < m.offset <= m.offset + m.size <= length for m in members)
    with tarfile.open(fileobj=io.BytesIO(content)) as reference:
        expected = [(m.name, m.offset_data, m.size) for m in reference if m.isreg()]
    assert [(m.name, m.offset, m.size) for m in members] == expected
