"""Images that cannot be trained on are refused in one line."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch

from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError
from shapeshd.models.data import encoded as pictures
from shapeshd.models.data.images import batches, open_training_images
from tests.support.noise_dataset import write_noise_dataset
from tests.support.training_images import (
    KINDS,
    PICTURES,
    PNG,
    SIZE,
    WANTED,
    WRITERS,
    Source,
    encoded,
    write_lmdb,
)

# ------------------------------------------------------------------ bad inputs


@pytest.mark.parametrize("size", [0, 3, 4097, -16, 16.0, "64", True])
def test_an_impossible_size_is_refused(source: Source, size: Any) -> None:
    with pytest.raises(UsageError, match="size must be"):
        open_training_images(source("folder"), size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", [-1, 10_000])
def test_an_image_that_is_not_there(source: Source, kind: str, index: int) -> None:
    data = open_training_images(source(kind), SIZE)
    with pytest.raises(IndexError, match=rf"image {index} of .*{data.name}"):
        data.batch([0, index])


def test_an_unknown_number_of_workers_is_refused(source: Source) -> None:
    data = open_training_images(source("folder"), SIZE)
    with pytest.raises(UsageError, match="workers must be"):
        batches(data, [[0]], -1)


def nothing(tmp: Path) -> Path:
    return tmp / "nothing"


def text_folder(tmp: Path) -> Path:
    (tmp / "x").mkdir()
    (tmp / "x" / "a.txt").write_text("a")
    return tmp / "x"


def written(name: str, data: bytes) -> Callable[[Path], Path]:
    def write(tmp: Path) -> Path:
        path = tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return write


def junk_lmdb(tmp: Path) -> Path:
    return written("x/data.mdb", bytes(range(256)) * 100)(tmp).parent


def empty_zip(tmp: Path) -> Path:
    with zipfile.ZipFile(tmp / "x.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    return tmp / "x.zip"


def incomplete(tmp: Path) -> Path:
    write_noise_dataset(tmp / "x", 23, SIZE, missing=(1,))
    return tmp / "x"


def a_pipe(tmp: Path) -> Path:
    os.mkfifo(tmp / "x")
    return tmp / "x"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (nothing, "nothing: no such file"),
    "no user": (lambda tmp: Path("~nobody-of-this-name/x"), "x: cannot be read"),
    "no images": (text_folder, r"x: holds no images .*1 .txt"),
    "zip of text": (empty_zip, r"x.zip: holds no images .*1 .txt"),
    "no zip": (written("x.zip", b"PK\3\4"), "x.zip: is no whole zip"),
    "single image": (written("x.png", PNG[0]), "x.png: is nothing to train"),
    "empty file": (written("x", b""), "x: is nothing to train"),
    "pipe": (a_pipe, "x: is neither"),
    "cut shard": (written("shard-000001.h5", b"\x89HDF"), "shard-000001.h5: cannot be opened"),
    "no hdf5": (written("x.h5", b"abc"), "x.h5: .*whole HDF5"),
    "incomplete": (incomplete, "x: .*18 of 23"),
    "lmdb file": (written("data.mdb", b"abc"), "data.mdb: .*give the folder"),
    "empty lmdb": (lambda tmp: write_lmdb(tmp / "x", {}), "x: .*LMDB is empty"),
    "no lmdb": (junk_lmdb, r"x: .*data.mdb is no LMDB"),
    "lmdb of text": (
        lambda tmp: write_lmdb(tmp / "x", {b"length\n\xff": b"17"}),
        r"x: length\\n\\xff: is no image \(PNG, .*\), or damaged",
    ),
    "clear": (
        lambda tmp: written("x/g.png", encoded(PICTURES[0][:, :, [0, 1, 2, 0]]))(tmp).parent,
        "x/g.png: is not opaque",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_trained_on_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    make, message = BAD[case]
    with pytest.raises(ShapesHDError, match=message) as caught:
        open_training_images(make(tmp_path), SIZE)
    assert "\n" not in str(caught.value)


def test_an_lmdb_that_was_cut_short_does_not_kill_the_process(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    path = write_lmdb(tmp_path / "x", {bytes([n]): noise.bytes(2**20) for n in range(4)})
    os.truncate(path / "data.mdb", 2**21)
    with pytest.raises(ShapesHDError, match=r"x: .*data.mdb .*2,1..,... bytes"):
        open_training_images(path, SIZE)


def test_an_lmdb_that_ends_before_its_last_page_is_whole(tmp_path: Path) -> None:
    """What is put and deleted in one transaction can leave pages that are never written."""
    path, random = write_lmdb(tmp_path / "x", {b"\0": PNG[0]}), np.random.default_rng(4)
    keys: list[bytes] = []
    sizes = [500, 9000, 40_000]
    with lmdb.open(str(path), map_size=2**26, sync=False) as database:
        for _ in range(5):
            with database.begin(write=True) as change:
                for _ in range(60):
                    if keys and random.random() < 0.45:
                        change.delete(keys.pop(int(random.integers(len(keys)))))
                    else:
                        keys.append(random.bytes(20))
                        change.put(keys[-1], random.bytes(int(random.choice(sizes))))
        pages, page = database.info()["last_pgno"] + 1, database.stat()["psize"]
    if pages * page <= (path / "data.mdb").stat().st_size:
        pytest.skip("this version of LMDB has written all its pages")
    assert len(open_training_images(path, SIZE)) == len(keys) + 1


def test_an_lmdb_that_changes_under_the_reader_is_noticed(tmp_path: Path) -> None:
    path = write_lmdb(tmp_path / "x", {b"a": PNG[0], b"b": PNG[1]})
    data = open_training_images(path, SIZE)
    with lmdb.open(str(path)) as database, database.begin(write=True) as change:
        change.delete(b"b")
    with pytest.raises(ShapesHDError, match=r"x: b: .*no longer"):
        data.batch([1])
    (path / "data.mdb").unlink()
    with pytest.raises(ShapesHDError, match=r"x: cannot be read"):
        data.batch([0])


def test_an_lmdb_needs_the_package(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    path = source("lmdb")  # written by the package, so before it is gone
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingPackageError, match=r"church_lmdb: .*pip .*\[lsun"):
        open_training_images(path, SIZE)


def test_images_of_several_sizes_need_to_be_told_one(source: Source) -> None:
    data = open_training_images(source("folder"), None)
    assert torch.equal(data.batch([0, 1, 2]), WANTED[:3])
    with pytest.raises(UsageError, match=r"img3.png: .*48x32 .*16x16"):
        data.batch([0, 3])


@pytest.mark.parametrize("kind", WRITERS)
def test_without_a_crop_only_squares_are_taken(source: Source, kind: str) -> None:
    data = open_training_images(source(kind), SIZE, crop=False)
    assert torch.equal(data.batch([0, 4]), WANTED[[0, 4]])
    assert data.describe()["cropped"] is None
    with pytest.raises(UsageError, match=r"1(\.png)?: .*21x16"):
        data.batch([0, 1])


@pytest.mark.parametrize("what", ["cut off", "a byte flipped", "empty", "transparent"])
def test_a_bad_image_among_many_is_found_before_training(tmp_path: Path, what: str) -> None:
    for number in range(300):
        (tmp_path / f"{number:03d}.png").write_bytes(PNG[0])
    open_training_images(tmp_path, SIZE).check()
    flipped = bytearray(PNG[0])
    flipped[len(flipped) // 2] ^= 1
    bad = {
        "cut off": PNG[0][:-50],
        "a byte flipped": bytes(flipped),
        "empty": b"",
        "transparent": encoded(np.full((8, 8, 4), 128, np.uint8)),
    }
    (tmp_path / "151.png").write_bytes(bad[what])
    with pytest.raises(ShapesHDError, match=r"151\.png: "):
        open_training_images(tmp_path, SIZE).check()


def test_of_very_many_images_some_are_decoded_and_more_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        (tmp_path / f"{number:02d}.png").write_bytes(PNG[0])
    data = open_training_images(tmp_path, SIZE)
    decoded: list[str] = []
    looked_at: list[str] = []
    decode = pictures.decode_image
    monkeypatch.setattr(pictures, "_HEADERS", 20)
    monkeypatch.setattr(pictures, "_DECODED", 5)
    monkeypatch.setattr(
        pictures, "decode_image", lambda data, name: decoded.append(name) or decode(data, name)
    )
    monkeypatch.setattr(pictures, "check_image", lambda _, name: looked_at.append(name))
    data.check()
    numbers = [[int(Path(name).stem) for name in names] for names in (decoded, looked_at)]
    assert numbers[0] == [0, 8, 16, 24, 32]
    assert sorted([*numbers[0], *numbers[1]]) == list(range(0, 40, 2))
    monkeypatch.setattr(pictures, "_BYTES", 0)
    decoded.clear()
    data.check()
    assert len(decoded) == 1
