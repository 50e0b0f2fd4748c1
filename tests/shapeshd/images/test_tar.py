"""Tar files as sources: Python's own writer is the reference, and nothing but images gets in."""

from __future__ import annotations

import gzip
import json
import random
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.dataset.export import export_dataset
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.errors import UsageError
from tests.support.tars import (
    COUNT,
    PNGS,
    WANTED,
    entry,
    images,
    made,
    webdataset,
    write_tar,
)

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
    with pytest.raises(UsageError, match=r"1,000,000 files; .*100,000"):
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
    with pytest.raises(UsageError, match=r"'0', mask.png and rgb.png"):
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


def test_options_that_mean_nothing(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", images())
    with pytest.raises(UsageError, match="leave out latent_dim"):
        open_source(str(path), options=SourceOptions(latent_dim=3))


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
