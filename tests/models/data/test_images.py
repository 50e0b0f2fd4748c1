"""Images to train on: each kind gives its pixels by number, and says what was done."""

from __future__ import annotations

import io
import json
from pathlib import Path

import h5py
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.errors import UsageError
from shapeshd.factors import uniform_factors
from shapeshd.models.data.images import open_training_images, to_float, to_uint8
from shapeshd.scene.sampling import GridSampling
from tests.conftest import render_small
from tests.support.noise_dataset import noise_images, write_3dshapes_file
from tests.support.training_images import (
    COUNT,
    PICTURES,
    SHAPES,
    SIZE,
    WANTED,
    WRITERS,
    Source,
    encoded,
    write_lmdb,
)

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
        "renderer": "shapeshd ray tracer 1", "seed": 3, "start": 10,
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
    with pytest.raises(UsageError, match=r"wide\.h5: .*17x12 pixels"):
        open_training_images(tmp_path / "wide.h5", None, crop=False)


def test_the_name_is_no_path(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    path = source("folder")
    assert isinstance(path, Path)
    monkeypatch.chdir(path)
    assert open_training_images(Path(), SIZE).name == path.name


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
