"""Tar files as sources: Python's own writer is the reference, and nothing but images gets in."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import resource
import tarfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import psutil
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.dataset.export import export_dataset
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.images import tar_file as tar_module
from shapeshd.images.tar_index import TarError, tar_members

COUNT, SIZE = 12, 8
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
WANTED = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)

Entry = tuple[tarfile.TarInfo, bytes]


def png(image: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


PNGS = [png(image) for image in IMAGES]


def entry(name: str, data: bytes = b"", **fields: Any) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def images(first: int = 0, count: int = COUNT, name: str = "{:04}.png") -> list[Entry]:
    return [entry(name.format(i), PNGS[i]) for i in range(first, first + count)]


def write_tar(
    path: Path, entries: Iterable[Entry], format: int = tarfile.GNU_FORMAT, mode: str = "w"
) -> Path:
    with tarfile.open(path, mode, format=format) as archive:  # type: ignore[call-overload]
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data) if data else None)
    return path


def webdataset() -> list[Entry]:
    entries = []
    for i in range(COUNT):
        entries += [entry(f"a/{i:04}.json", b"{}"), entry(f"a/{i:04}.png", PNGS[i])]
        entries += [entry(f"a/{i:04}.cls", b"1")]
    return entries


LONG = "d" * 90 + "/" + "e" * 120 + "/{:04}.png"
GOOD: dict[str, Callable[[Path], Path]] = {
    "gnu": lambda path: write_tar(path, images()),
    "ustar": lambda path: write_tar(path, images(name="f" * 99 + "/{}.png"), tarfile.USTAR_FORMAT),
    "pax": lambda path: write_tar(path, images(), tarfile.PAX_FORMAT),
    "gnu, long names": lambda path: write_tar(path, images(name=LONG)),
    "pax, long names": lambda path: write_tar(path, images(name=LONG), tarfile.PAX_FORMAT),
    "pax, umlauts": lambda path: write_tar(path, images(name="ä{}.png"), tarfile.PAX_FORMAT),
    "not UTF-8": lambda path: write_tar(path, images(name="\udce4{}.png")),
    "folders": lambda path: write_tar(
        path, [entry(".", type=tarfile.DIRTYPE), *images(name="./{:02}.png")]
    ),
    "webdataset": lambda path: write_tar(path, webdataset()),
    "macOS": lambda path: write_tar(path, [*images(), entry("._0000.png", b"x")]),
    "padded": lambda path: made(path, write_tar(path, images()).read_bytes() + bytes(51200)),
}


def made(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def check(text: object, **options: Any) -> dict[str, Any]:
    """The source gives the images, however they are asked for; returns its description."""
    with open_source(str(text), options=SourceOptions(**options)) as source:
        assert (source.kind, source.count, source.name) == ("tar", COUNT, str(text))
        assert torch.equal(source.images(0, COUNT), WANTED)
        assert torch.equal(source.images(7, 8), WANTED[7:8])
        assert torch.equal(source.images(2, 11), WANTED[2:11])
        said = source.describe()
    json.dumps(said)
    return said


@pytest.mark.parametrize("case", GOOD)
def test_every_form_of_tar_gives_the_same_pixels(case: str, tmp_path: Path) -> None:
    said = check(GOOD[case](tmp_path / "x.tar"))
    assert said["ignored_files"] == {"webdataset": 2 * COUNT, "macOS": 1}.get(case, 0)


def test_images_keep_the_order_of_the_archive(tmp_path: Path) -> None:
    order = random.Random(3).sample(range(COUNT), COUNT)
    write_tar(tmp_path / "x.tar", [entry(f"{i}.png", PNGS[i]) for i in order])
    with open_source(str(tmp_path / "x.tar")) as source:
        assert torch.equal(source.images(0, COUNT), WANTED[order])


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "X.TAR.GZ"])
def test_gzip(name: str, tmp_path: Path) -> None:
    check(write_tar(tmp_path / name, webdataset(), mode="w:gz"))


def test_gzip_in_two_members_and_padded(tmp_path: Path) -> None:
    plain = write_tar(tmp_path / "x.tar", images()).read_bytes()
    half = len(plain) // 2 + 13
    data = gzip.compress(plain[:half]) + gzip.compress(plain[half:]) + bytes(1000)
    check(made(tmp_path / "x.tar.gz", data))


def test_shards_by_a_range_and_by_wildcards(tmp_path: Path) -> None:
    for number, (first, count) in enumerate([(0, 5), (5, 1), (6, 6)]):
        write_tar(tmp_path / f"d-{number + 9:02}.tar", images(first, count))
    assert check(tmp_path / "d-{09..11}.tar")["archives"] == 3
    check(tmp_path / "d-*.tar")
    check(tmp_path / "d-[01]?.tar")
    with pytest.raises(UsageError, match=r"d-12\.tar: no such file.*\{09\.\.12\}"):
        open_source(str(tmp_path / "d-{09..12}.tar"))
    with pytest.raises(UsageError, match="goes backwards"):
        open_source(str(tmp_path / "d-{11..09}.tar"))
    with pytest.raises(UsageError, match="1,000,000 files; at most 100,000"):
        open_source(str(tmp_path / "d-{000000..999999}.tar"))
    with pytest.raises(UsageError, match=r"^/.*e-\*\.tar: no such files$"):
        open_source(str(tmp_path / "e-*.tar"))
    (tmp_path / "d-12.tar").mkdir()
    with pytest.raises(UsageError, match=r"d-12\.tar: is no file"):
        open_source(str(tmp_path / "d-*.tar"))


def test_natural_order_of_wildcards_and_one_message_for_a_damaged_shard(tmp_path: Path) -> None:
    for number, first in ((2, 0), (10, 6)):
        write_tar(tmp_path / f"{number}.tar", images(first, 6))
    check(tmp_path / "*.tar")
    made(tmp_path / "10.tar", (tmp_path / "10.tar").read_bytes()[:3000])
    with pytest.raises(UsageError, match=r"/10\.tar: is cut off"):
        open_source(str(tmp_path / "*.tar"))


def test_our_own_export(rendered: Path, tmp_path: Path) -> None:
    dataset = ShapesHD(rendered)
    export_dataset(dataset, tmp_path / "out", "webdataset", labels="none")
    with open_source(str(tmp_path / "out" / "*.tar")) as source:
        assert source.count == len(dataset)
        wanted = torch.stack([dataset[i][0] for i in range(3)])
        assert torch.equal(source.images(0, 3), wanted)


def test_the_field_of_a_sample_with_two_images(tmp_path: Path) -> None:
    entries = [e for i in range(COUNT) for e in (
        entry(f"{i}.mask.png", PNGS[0]), entry(f"{i}.rgb.png", PNGS[i]))]  # fmt: skip
    path = write_tar(tmp_path / "x.tar", entries)
    with pytest.raises(UsageError, match=r"sample '0', mask.png and rgb.png"):
        open_source(str(path))
    check(path, key="rgb.png")
    with pytest.raises(UsageError, match=r"field 'depth.png' \(key\)"):
        open_source(str(path), options=SourceOptions(key="depth.png"))


def test_threads_read_side_by_side(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar.gz", images(), mode="w:gz")
    with open_source(str(path)) as source, ThreadPoolExecutor(4) as pool:
        for number, image in enumerate(
            pool.map(lambda i: source.images(i % COUNT, i % COUNT + 1), range(80))
        ):
            assert torch.equal(image[0], WANTED[number % COUNT])


# --- what is refused ---------------------------------------------------------------------------


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
    with pytest.raises(UsageError, match=r"200 MiB .*more than 96"):
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
    with pytest.raises(UsageError, match=r"larger than \d+ MiB, .*100 times"):
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


def test_options_that_mean_nothing(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", images())
    with pytest.raises(UsageError, match="leave out latent_dim"):
        open_source(str(path), options=SourceOptions(latent_dim=3))


@settings(max_examples=300, deadline=None)
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


@pytest.mark.parametrize("suffix", ["bz2", "xz", "zst"])
def test_other_compression_is_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.tar.{suffix}"
    path.write_bytes(b"BZh9")
    with pytest.raises(UsageError, match=r"compressed by \w+"):
        open_source(str(path))


def test_keys_of_each_archive_may_begin_anew(tmp_path: Path) -> None:
    for number in range(2):
        part = [entry(f"{i:04}.png", PNGS[6 * number + i]) for i in range(6)]
        write_tar(tmp_path / f"{number}.tar", part)
    with open_source(str(tmp_path / "{0..1}.tar")) as source:
        assert torch.equal(source.images(0, COUNT), WANTED)
    write_tar(tmp_path / "1.tar", [*images(0, 3), *images(2, 1)])
    with pytest.raises(UsageError, match=r"holds 0002\.png twice"):
        open_source(str(tmp_path / "{0..1}.tar"))


@pytest.mark.parametrize("name", ["run1.5_step.{:06}.png", "v1.{}.png", "a.b/x.{:03}.png"])
def test_a_number_behind_a_dot_tells_samples_apart(name: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", images(name=name))
    with open_source(str(path)) as source:
        assert torch.equal(source.images(0, COUNT), WANTED)
    with pytest.raises(UsageError, match="twice"):
        open_source(str(write_tar(tmp_path / "y.tar", [*images(name=name), *images(1, 1, name)])))


def test_many_compressed_archives_take_one_descriptor(tmp_path: Path) -> None:
    for i in range(COUNT):
        write_tar(tmp_path / f"{i:02}.tar.gz", images(i, 1), mode="w:gz")
    with open_source(str(tmp_path / "00.tar.gz")) as source:
        source.images(0, 1)
        before = psutil.Process().num_fds()
    with open_source(str(tmp_path / "*.tar.gz")) as source:
        assert psutil.Process().num_fds() <= before
        assert torch.equal(source.images(0, COUNT), WANTED)
