"""Images to train on: each kind gives its pixels by number, in any process; bad ones refuse."""

from __future__ import annotations

import io
import itertools
import json
import multiprocessing
import os
import pickle
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import lmdb
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError
from shapeshd.factors import uniform_factors
from shapeshd.models.data.images import ImageData, batches, open_training_images, to_float, to_uint8
from shapeshd.scene.sampling import GridSampling
from tests.conftest import render_small
from tests.support.noise_dataset import noise_images, write_3dshapes_file, write_noise_dataset

SIZE = 16
# Height and width: as they are, to be cut (odd, even), to be averaged, to be interpolated.
SHAPES = [(16, 16), (16, 21), (19, 16), (32, 48), (32, 32), (25, 40), (12, 12)]
COUNT = len(SHAPES)


def picture(number: int) -> np.ndarray:
    """A smooth picture, so that JPEG changes little of it; no two alike."""
    height, width = SHAPES[number]
    y, x = np.mgrid[:height, :width] / 16
    waves = [np.sin(y + number), np.cos(x * 1.3 + number), np.sin(x - y + 2 * number)]
    return (127.5 + 120 * np.stack(waves, 2)).round().astype(np.uint8)


PICTURES = [picture(number) for number in range(COUNT)]


def encoded(pixels: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


PNG = [encoded(pixels) for pixels in PICTURES]


def squared(pixels: np.ndarray, size: int) -> Tensor:
    """Crop and resize by torchvision and NumPy: (3, size, size)."""
    image = torch.tensor(pixels).permute(2, 0, 1)
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    image = vision.crop(image, top, left, side, side)
    if side % size:
        return vision.resize(image, [size, size], vision.InterpolationMode.BICUBIC, antialias=True)
    blocks = image.numpy().reshape(3, size, side // size, size, side // size)
    return torch.from_numpy(np.floor(blocks.mean((2, 4)) + 0.5).astype(np.uint8))


WANTED = torch.stack([squared(pixels, SIZE) for pixels in PICTURES])


def write_folder(folder: Path) -> Path:
    for number, data in enumerate(PNG):
        path = folder / f"part{number // 4}" / f"img{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "readme.txt").write_text("of whom they are")
    return folder


def write_zip(path: Path) -> Path:
    """As StyleGAN's tool lays it out."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, data in enumerate(PNG):
            archive.writestr(f"00000/img{number:08}.png", data)
        archive.writestr("dataset.json", '{"labels": null}')
    return path


def write_lmdb(folder: Path, values: dict[bytes, bytes]) -> Path:
    with (
        lmdb.open(str(folder), map_size=2**26, sync=False) as database,
        database.begin(write=True) as change,
    ):
        for key, value in values.items():
            change.put(key, value)
    return folder


def write_lsun(folder: Path) -> Path:
    """WebP values under keys that are put out of order."""
    data = [encoded(pixels, "WEBP", lossless=True) for pixels in PICTURES]
    keys = [f"{number:040x}".encode() for number in range(COUNT)]
    order = np.random.default_rng(0).permutation(COUNT)
    return write_lmdb(folder, {keys[number]: data[number] for number in order})


WRITERS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda tmp: write_folder(tmp / "ffhq"),
    "zip": lambda tmp: write_zip(tmp / "ffhq.zip"),
    "lmdb": lambda tmp: write_lsun(tmp / "church_lmdb"),
}
Source = Callable[[str], "Path | RenderSpec"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Where images of each kind are; tests must not change them."""
    made: dict[str, Path | RenderSpec] = {"render": RenderSpec(3, 64, 32, start=10)}

    def find(kind: str) -> Path | RenderSpec:
        if kind not in made:
            tmp = tmp_path_factory.mktemp(kind)
            if kind == "dataset":
                write_noise_dataset(tmp / "noise", 23, SIZE)
                made[kind] = tmp / "noise"
            else:
                made[kind] = WRITERS[kind](tmp)
        return made[kind]

    return find


KINDS = ("render", "dataset", *WRITERS)


# ------------------------------------------------------------------ pixels


@pytest.mark.parametrize("kind", WRITERS)
def test_pictures_are_cut_to_their_middle_and_resized(source: Source, kind: str) -> None:
    path = source(kind)
    assert isinstance(path, Path)
    data = open_training_images(path, SIZE)
    assert (len(data), data.size, data.name, data.kind) == (COUNT, SIZE, path.name, kind)
    images = data.batch(range(COUNT))
    assert (images.dtype, images.shape) == (torch.uint8, (COUNT, 3, SIZE, SIZE))
    assert images.is_contiguous()
    # torchvision's rounding of an interpolated half may differ.
    assert (images.int() - WANTED.int()).abs().max() <= 1
    exact = [row for row, shape in enumerate(SHAPES) if min(shape) % SIZE == 0]
    assert torch.equal(images[exact], WANTED[exact])
    order = [4, 0, 6, 4]
    assert torch.equal(data.batch(order), images[order])
    assert torch.equal(data.batch(np.array(order)), images[order])


def test_lsun_s_lossy_values_are_what_pillow_makes_of_them(tmp_path: Path) -> None:
    values = {
        b"a": encoded(PICTURES[0], "WEBP", quality=75),
        b"b": encoded(PICTURES[0], "JPEG", quality=75),
    }
    images = open_training_images(write_lmdb(tmp_path / "x", values), SIZE).batch([0, 1])
    for image, value in zip(images, values.values(), strict=True):
        pixels = np.asarray(PIL.Image.open(io.BytesIO(value)).convert("RGB"))
        np.testing.assert_array_equal(image.permute(1, 2, 0), pixels)
        assert 0 < np.abs(pixels.astype(int) - PICTURES[0]).max() < 30  # it is that picture


def test_jpeg_files_and_a_size_of_their_own(tmp_path: Path) -> None:
    """Without a size the images are as they are, once they are square."""
    for number, pixels in enumerate((PICTURES[0], PICTURES[1])):
        (tmp_path / f"{number}.jpg").write_bytes(encoded(pixels, "JPEG", quality=95))
    data = open_training_images(tmp_path, None)
    assert data.size == 16
    assert (data.batch([0, 1]).int() - WANTED[:2].int()).abs().max() < 25
    assert data.describe()["resized"] is None


def test_rendered_images_and_their_factors(source: Source) -> None:
    spec = source("render")
    assert isinstance(spec, RenderSpec)
    data = open_training_images(spec, None)
    rendered = ShapesHD.rendered(3, 10, 64, 32)
    rows = [63, 0, 17]
    wanted = torch.stack([rendered[row][0] for row in rows])
    assert torch.equal(data.batch(rows), wanted)
    factors = data.factors(rows)
    np.testing.assert_array_equal(factors, uniform_factors(3, 10, 74)[rows])
    assert (len(data), data.size, data.known_distribution, data.why_no_score) == (
        64,
        32,
        True,
        None,
    )
    half = open_training_images(spec, 16).batch(rows)
    blocks = wanted.numpy().reshape(3, 3, 16, 2, 16, 2).mean((3, 5))
    np.testing.assert_array_equal(half, np.floor(blocks + 0.5))
    assert data.describe() == {
        "name": "render:3:64,size=32,start=10", "kind": "dataset", "images": 64, "size": 32,
        "renderer": "twin", "seed": 3, "start": 10,
        "cropped": None, "resized": None, "enlarged": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("part", "start", "count"),
    [("", 0, 23), ("dataset.h5", 0, 23), ("shards/shard-000002.h5", 10, 5)],
)
def test_a_dataset_in_each_of_its_forms(source: Source, part: str, start: int, count: int) -> None:
    folder = source("dataset")
    assert isinstance(folder, Path)
    data = open_training_images(folder / part, SIZE)
    rows = [4, 1, 3]
    images = torch.from_numpy(noise_images(23, SIZE)).permute(0, 3, 1, 2)
    assert torch.equal(data.batch(rows), images[start : start + count][rows])
    factors = uniform_factors(0, start, start + count)
    np.testing.assert_array_equal(data.factors(rows), factors[rows])
    said = data.describe()
    assert (said["images"], said["seed"], said["start"]) == (count, 0, start)
    assert data.known_distribution
    assert data.name == (Path(part).name or "noise")


# ------------------------------------------------------------------ what is said of them


@pytest.mark.parametrize("kind", WRITERS)
def test_pictures_have_no_factors_and_say_what_is_done(source: Source, kind: str) -> None:
    path = source(kind)
    assert isinstance(path, Path)
    data = open_training_images(path, SIZE)
    assert not data.known_distribution
    assert data.factors([0]) is None
    assert data.why_no_score == (
        f"{path.name}: is no dataset of shapeshd, so there are no factors whose "
        "distribution is known"
    )
    said = data.describe()
    assert said == {
        "name": path.name, "kind": kind, "images": COUNT, "size": SIZE, "first_image": "16x16",
        "cropped": "to the central square, where not square",
        "resized": "where not 16x16: pixels averaged by a whole ratio, else antialiased bicubic "
        "splines",
        "enlarged": False,
    }  # fmt: skip
    assert json.loads(json.dumps(said)) == said


@pytest.mark.parametrize("kind", ["render", "folder"])
def test_to_enlarge_is_allowed_and_said(source: Source, kind: str) -> None:
    data = open_training_images(source(kind), 64)
    assert data.batch([0]).shape == (1, 3, 64, 64)
    assert data.describe()["enlarged"] is True


def test_how_a_dataset_is_resized_is_said(source: Source) -> None:
    for size, how in ((16, "pixels averaged"), (24, "antialiased bicubic splines")):
        assert open_training_images(source("render"), size).describe()["resized"] == (
            f"from 32x32: {how}"
        )


def test_a_file_like_3dshapes_has_factors_of_an_unknown_distribution(tmp_path: Path) -> None:
    write_3dshapes_file(tmp_path / "3dshapes.h5")
    data = open_training_images(tmp_path / "3dshapes.h5", None)
    np.testing.assert_array_equal(data.factors([7, 2]), uniform_factors(1, 0, 30)[[7, 2]])
    assert not data.known_distribution
    assert data.why_no_score == (
        "3dshapes.h5: does not say how its factors were drawn, so their distribution is not known"
    )
    assert data.describe()["seed"] is None


def test_a_grid_is_not_drawn_uniformly(tmp_path: Path) -> None:
    render_small(tmp_path / "grid", sampling=GridSampling(), count=4, size=8, engine="torch")
    data = open_training_images(tmp_path / "grid", None)
    assert not data.known_distribution
    assert data.why_no_score == (
        "grid: its factors are those of a grid or a table, not drawn uniformly"
    )
    assert data.describe()["seed"] is None


def test_wide_arrays_are_cut(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 12, 17, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        file["images"], file["labels"] = pixels, np.zeros((5, 6))
    data = open_training_images(tmp_path / "wide.h5", None)
    np.testing.assert_array_equal(
        data.batch([3, 1]).permute(0, 2, 3, 1), pixels[[3, 1]][:, :, 2:14]
    )
    assert data.describe()["cropped"] == "to the central square"
    with pytest.raises(UsageError, match=r"wide\.h5: has 17x12 pixels, not a square"):
        open_training_images(tmp_path / "wide.h5", None, crop=False)


def test_the_name_is_no_path(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    path = source("folder")
    assert isinstance(path, Path)
    monkeypatch.chdir(path)
    assert open_training_images(Path(), SIZE).name == path.name


# ------------------------------------------------------------------ processes


@pytest.mark.parametrize("kind", KINDS)
def test_pickled_data_gives_the_same_wherever_it_is_unpickled(
    source: Source, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = source(kind)
    if isinstance(path, Path):
        monkeypatch.chdir(path.parent)
        path = Path(path.name)
    data = open_training_images(path, SIZE)
    wanted = data.batch([5, 2])
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again.batch([5, 2]), wanted)
    assert (len(again), again.describe()) == (len(data), data.describe())


@pytest.mark.parametrize("kind", KINDS)
def test_workers_read_the_same_in_order(source: Source, kind: str) -> None:
    data = open_training_images(source(kind), SIZE)
    order = [[3, 1], [0, 5, 2], [6], [4, 4], [1, 0], [2, 6, 3], [5, 1]]
    before = torch.random.get_rng_state()
    here = list(batches(data, order, 0))  # files are open when the workers begin
    assert [len(batch) for batch in here] == [len(rows) for rows in order]
    for rows, batch in zip(order, here, strict=True):
        assert torch.equal(batch, data.batch(rows))
    there = list(batches(data, order, 2))
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_forked_workers_do_not_move_each_other_s_place_in_a_zip_file(tmp_path: Path) -> None:
    images = noise_images(40, 64)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for number, pixels in enumerate(images):
            archive.writestr(f"{number}.png", encoded(pixels, compress_level=0))
    data = open_training_images(tmp_path / "x.zip", None)
    rows = np.random.default_rng(0).integers(0, 40, (60, 4)).tolist()
    for chosen, batch in zip(rows, batches(data, rows, 2), strict=True):
        np.testing.assert_array_equal(batch.permute(0, 2, 3, 1), images[chosen])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_order_may_have_no_end(source: Source, workers: int) -> None:
    data = open_training_images(source("zip"), SIZE)
    drawn = 0

    def order() -> Iterator[Sequence[int]]:
        nonlocal drawn
        for number in itertools.count():
            drawn += 1
            yield range(number % COUNT, COUNT)

    found = list(itertools.islice(batches(data, order(), workers), 10))
    assert torch.equal(found[9], data.batch(range(2, COUNT)))
    assert drawn < 20


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_damaged_image_is_named_in_one_line(tmp_path: Path, kind: str, workers: int) -> None:
    names = {"folder": "img3.png", "zip": "x.zip: 00000/img00000003.png", "lmdb": "church: key3"}
    bad = PNG[3][: len(PNG[3]) // 2]
    if kind == "lmdb":
        values = {f"key{n}".encode(): bad if n == 3 else PNG[n] for n in range(COUNT)}
        path = write_lmdb(tmp_path / "church", values)
    elif kind == "zip":
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for n in range(COUNT):
                archive.writestr(f"00000/img{n:08}.png", bad if n == 3 else PNG[n])
    else:
        path = write_folder(tmp_path / "x")
        (path / "part0" / "img3.png").write_bytes(bad)
    data = open_training_images(path, SIZE)
    found = batches(data, [[0], [2, 3]], workers)
    assert torch.equal(next(found)[0], data.batch([0])[0])
    with pytest.raises(ShapesHDError) as caught:
        next(found)
    text = str(caught.value)
    assert f"{names[kind]}: is damaged (" in text
    assert "\n" not in text
    assert "Traceback" not in text
    assert not multiprocessing.active_children()  # though the error lives on


class Deadly(ImageData):
    """Ends the process that reads it."""

    def __init__(self) -> None:
        super().__init__("deadly", "folder", 4, 8, None)

    def describe(self) -> dict[str, Any]:
        return self._head()

    def _read(self, indices: list[int]) -> Tensor:
        os._exit(3)


def test_a_worker_that_is_ended_is_told_in_one_line() -> None:
    message = "a process that reads images was ended; go on with fewer"
    with pytest.raises(ShapesHDError, match=message) as caught:
        next(batches(Deadly(), [[0], [1]], 2))
    assert not multiprocessing.active_children()
    assert "\n" not in str(caught.value)


def test_an_lmdb_is_read_by_threads_and_by_forked_processes_at_once(source: Source) -> None:
    """LMDB may be open once in a process, and not while it is forked."""
    one, two = (open_training_images(source("lmdb"), SIZE) for _ in range(2))
    wanted = one.batch(range(COUNT))
    stop, wrong = threading.Event(), []

    def read(data: ImageData) -> None:
        try:
            while not stop.is_set():
                if not torch.equal(data.batch([3, 1]), wanted[[3, 1]]):
                    wrong.append("other pixels")
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=read, args=(data,)) for data in (one, two, one)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            found = torch.cat(list(batches(two, [[row] for row in range(COUNT)], 2)))
            assert torch.equal(found, wanted)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


# ------------------------------------------------------------------ bad inputs


@pytest.mark.parametrize("size", [0, 3, 4097, -16, 16.0, "64", True])
def test_an_impossible_size_is_refused(source: Source, size: Any) -> None:
    with pytest.raises(UsageError, match="size must be"):
        open_training_images(source("folder"), size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", [-1, 10_000])
def test_an_image_that_is_not_there(source: Source, kind: str, index: int) -> None:
    data = open_training_images(source(kind), SIZE)
    with pytest.raises(IndexError, match=rf"image {index} of {len(data)} in {data.name}"):
        data.batch([0, index])


def test_an_unknown_number_of_workers_is_refused(source: Source) -> None:
    data = open_training_images(source("folder"), SIZE)
    with pytest.raises(UsageError, match="workers must be at least 0, not -1"):
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
    "nothing": (nothing, "nothing: no such file or folder"),
    "no user": (lambda tmp: Path("~nobody-of-this-name/x"), "x: cannot be read"),
    "no images": (text_folder, r"x: holds no images \(.png, .* it holds 1 .txt"),
    "zip of text": (empty_zip, r"x.zip: holds no images \(.png, .* it holds 1 .txt"),
    "no zip": (written("x.zip", b"PK\3\4"), "x.zip: is no whole zip file"),
    "single image": (written("x.png", PNG[0]), "x.png: is nothing to train on: that is a dataset"),
    "empty file": (written("x", b""), "x: is nothing to train on"),
    "pipe": (a_pipe, "x: is neither a file nor a folder"),
    "cut shard": (written("shard-000001.h5", b"\x89HDF"), "shard-000001.h5: cannot be opened"),
    "no hdf5": (written("x.h5", b"abc"), "x.h5: neither a dataset folder nor a whole HDF5 file"),
    "incomplete": (incomplete, "x: incomplete: holds 18 of 23"),
    "lmdb file": (written("data.mdb", b"abc"), "data.mdb: is a part of an LMDB: give the folder"),
    "empty lmdb": (lambda tmp: write_lmdb(tmp / "x", {}), "x: holds no images: its LMDB is empty"),
    "no lmdb": (junk_lmdb, r"x: its data.mdb is no LMDB \(File is not an LMDB file\)"),
    "lmdb of text": (
        lambda tmp: write_lmdb(tmp / "x", {b"length\n\xff": b"17"}),
        r"x: length\\n\\xff: is no image \(PNG, .*\), or damaged",
    ),
    "grey": (
        lambda tmp: written("x/g.png", encoded(PICTURES[0][:, :, 0]))(tmp).parent,
        "x/g.png: is grey",
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
    with pytest.raises(ShapesHDError, match=r"x: its data.mdb lacks 2,1..,... bytes at its end"):
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
    with pytest.raises(ShapesHDError, match="x: b: is no longer in the LMDB"):
        data.batch([1])
    (path / "data.mdb").unlink()
    with pytest.raises(ShapesHDError, match=r"x: cannot be read \(No such file or directory\)"):
        data.batch([0])


def test_an_lmdb_needs_the_package(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingPackageError, match=r"church_lmdb: an LMDB needs lmdb: pip .*\[lsun"):
        open_training_images(source("lmdb"), SIZE)


def test_images_of_several_sizes_need_to_be_told_one(source: Source) -> None:
    data = open_training_images(source("folder"), None)
    assert torch.equal(data.batch([0, 1, 2]), WANTED[:3])
    with pytest.raises(
        UsageError, match=r"img3.png: has 48x32 pixels, and the first .* 16x16: say"
    ):
        data.batch([0, 3])


@pytest.mark.parametrize("kind", WRITERS)
def test_without_a_crop_only_squares_are_taken(source: Source, kind: str) -> None:
    data = open_training_images(source(kind), SIZE, crop=False)
    assert torch.equal(data.batch([0, 4]), WANTED[[0, 4]])
    assert data.describe()["cropped"] is None
    with pytest.raises(UsageError, match=r"1(\.png)?: has 21x16 pixels, not a square, and may not"):
        data.batch([0, 1])


# ------------------------------------------------------------------ to networks and back


def test_all_levels_go_to_networks_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    before = levels.clone()
    floats = to_float(levels)
    assert floats.dtype == torch.float32
    assert (float(floats[0]), float(floats[255])) == (-1.0, 1.0)
    np.testing.assert_allclose(floats, np.arange(256) / 127.5 - 1, atol=1e-7)
    assert torch.equal(to_uint8(floats), levels)
    assert torch.equal(to_uint8(floats.double()), levels)
    assert torch.equal(levels, before)


@given(st.floats(-3, 3, width=32))
def test_the_nearest_level_is_taken(value: float) -> None:
    given_value = torch.tensor([value])
    level = int(to_uint8(given_value)[0])
    exact = min(max((value + 1) * 127.5, 0), 255)
    assert abs(level - exact) <= 0.5 + 1e-4
    assert float(given_value[0]) == value  # not changed in place


def test_images_keep_their_layout() -> None:
    images = torch.zeros((2, 3, 4, 4), dtype=torch.uint8).to(memory_format=torch.channels_last)
    floats = to_float(images)
    assert floats.is_contiguous(memory_format=torch.channels_last)
    assert to_uint8(floats).is_contiguous(memory_format=torch.channels_last)
