"""Stored images as sources: every format gives the same pixels."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.images.names import natural_key
from tests.support.image_files import (
    COUNT,
    GOOD,
    IMAGES,
    SIZE,
    WANTED,
    as_npy,
    encoded,
    make_dataset,
    write_folder,
    write_hdf5,
    write_npz,
    write_zip,
)
from tests.support.noise_dataset import write_3dshapes_file


@pytest.mark.parametrize("case", GOOD)
def test_every_format_gives_the_same_pixels(case, tmp_path):
    path = GOOD[case](tmp_path)
    with open_source(str(path)) as source:
        assert source.count == COUNT
        assert source.name == str(path)
        whole = source.images(0, COUNT)
        assert (whole.dtype, whole.shape) == (torch.uint8, (COUNT, 3, SIZE, SIZE))
        assert torch.equal(whole, WANTED)
        for start, stop in ((7, 12), (0, 1), (22, 23), (3, 20), (2, 4)):  # onward and back
            assert torch.equal(source.images(start, stop), WANTED[start:stop])
        said = source.describe()
        assert not said.keys() & {"name", "kind", "count"}
        assert said["range"] in ("0 to 255", "[0, 1]", "[-1, 1]")
        with pytest.raises(UsageError, match=r"23 images.*20 to 24"):
            source.images(20, 24)


def test_rendered_images_are_those_of_the_dataset():
    with open_source("render:3:600,size=32,start=40") as source:
        assert (source.kind, source.count) == ("dataset", 600)
        images = source.images(500, 600)
        dataset = ShapesHD.rendered(3, 40, 600, 32)
        assert torch.equal(images[[0, 99]], torch.stack([dataset[500][0], dataset[599][0]]))
        assert source.describe()["first_index"] == 40
        assert source.describe()["last_index"] == 639


def test_one_shard(tmp_path):
    shard = make_dataset(tmp_path, "shards/shard-000001.h5")
    with open_source(str(shard)) as source:
        assert torch.equal(source.images(0, 5), WANTED[5:10])


def test_key_says_which_array(tmp_path):
    options = SourceOptions(key="b")
    for path in (
        write_npz(tmp_path / "x.npz", a=IMAGES[:5], b=IMAGES),
        write_hdf5(tmp_path / "x.h5", a=IMAGES[:5], b=IMAGES),
    ):
        with open_source(str(path), options=options) as source:
            assert torch.equal(source.images(4, 9), WANTED[4:9])
            assert source.describe()["key"] == "b"


def test_range_settles_an_ambiguous_array(tmp_path):
    path = as_npy(tmp_path / "x.npy", np.zeros((3, 3, 8, 8), np.float32))
    for range, level in (("unit", 0), ("symmetric", 128), ("uint8", 0)):
        with open_source(str(path), options=SourceOptions(range=range)) as source:
            assert (source.images(0, 3) == level).all()
            assert source.describe()["range_from"] == "stated"


def test_images_are_taken_as_they_are_seen(tmp_path):
    """Palette, opaque alpha and EXIF orientation, each against Pillow's own conversion."""
    picture = PIL.Image.fromarray(IMAGES[0])
    few = picture.quantize(16)
    sideways = PIL.Image.Exif()
    sideways[0x0112] = 6
    opaque = picture.copy()
    opaque.putalpha(255)
    members = {
        "0.png": encoded(few),
        "1.png": encoded(opaque),
        "2.png": encoded(picture.rotate(90), exif=sideways),  # 6: turn clockwise to see it
        "3.jpg": encoded(picture, "JPEG", fidelity=90),
    }
    with open_source(str(write_zip(tmp_path / "x.zip", members))) as source:
        images = source.images(0, 4).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(images[0], np.asarray(few.convert("RGB")))
        np.testing.assert_array_equal(images[1], IMAGES[0])
        np.testing.assert_array_equal(images[2], IMAGES[0])
        jpeg = PIL.Image.open(io.BytesIO(members["3.jpg"]))
        np.testing.assert_array_equal(images[3], np.asarray(jpeg))
        assert source.conversions(range(4)) == {
            "EXIF orientation applied": 1,
            "opaque alpha dropped": 1,
            "palette looked up": 1,
        }


def test_natural_order_hidden_files_and_links(tmp_path):
    names = ["a1/x.png", "a2.png", "a9/b.png", "a10.png", "a10/1.png", "b/01.png", "b/1.png"]
    folder = tmp_path / "x"
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(IMAGES[number]))
    for other in (".hidden.png", "._a1.png", ".git/x.png", "__MACOSX/x.png", "notes.txt"):
        (folder / other).parent.mkdir(exist_ok=True)
        (folder / other).write_bytes(b"no image")
    (folder / "b" / "loop").symlink_to(folder)
    order = sorted(range(len(names)), key=lambda i: [natural_key(p) for p in names[i].split("/")])
    with open_source(str(folder)) as source:
        assert source.count == len(names)
        assert torch.equal(source.images(0, source.count), WANTED[order])
        assert source.describe()["ignored_files"] == 1
    members = {name: encoded(IMAGES[number]) for number, name in enumerate(names)}
    with open_source(str(write_zip(tmp_path / "x.zip", members))) as source:
        assert torch.equal(source.images(0, source.count), WANTED[order])


@given(numbers=st.lists(st.integers(0, 10**30), unique=True), width=st.integers(0, 40))
def test_numbers_in_names_sort_as_numbers(numbers, width):
    names = [f"img{number:0{width}}x.png" for number in numbers]
    expected = [f"img{number:0{width}}x.png" for number in sorted(numbers)]
    assert sorted(names, key=natural_key) == expected


def test_a_name_that_is_not_utf8(tmp_path):
    folder = write_folder(tmp_path / "x")
    bad = os.fsencode(folder) + b"/z\xff.png"
    Path(os.fsdecode(bad)).write_bytes(b"no image")
    with open_source(str(folder)) as source:
        assert torch.equal(source.images(0, COUNT), WANTED)
        with pytest.raises(ShapesHDError, match=re.escape("z\ufffd.png: is no")):
            source.images(COUNT, COUNT + 1)


def open_files(folder):
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    targets = [str(link.resolve()) for link in links]
    return [target for target in targets if target.startswith(str(folder))]


def test_files_and_threads_end_with_the_source(tmp_path):
    for number, make in enumerate(GOOD.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with open_source(str(make(folder))) as source:
            source.images(0, 5)
        del source
        assert not open_files(tmp_path)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("decode", "read"))]


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """An npz and an npy of 200 MB, in a process that may take 120 MB more."""
    flat = np.zeros((1024, 256, 256, 3), np.uint8)
    flat[:, 0, 0, 0] = np.arange(1024) % 256
    write_npz(tmp_path / "x.npz", True, images=flat)
    as_npy(tmp_path / "x.npy", flat)
    program = """
import resource, sys
from shapeshd.benchmark.sources import open_source
before = None
for path in sys.argv[1:]:
    with open_source(path) as source:
        for start in range(0, source.count, 64):
            images = source.images(start, start + 64)
            assert images[:, 0, 0, 0].tolist() == [i % 256 for i in range(start, start + 64)]
            before = before or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    paths = [str(tmp_path / "x.npz"), str(tmp_path / "x.npy")]
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 120


def test_stating_what_is_so_is_no_error(tmp_path):
    with open_source(str(GOOD["folder"](tmp_path)), options=SourceOptions(range="uint8")) as source:
        assert torch.equal(source.images(0, COUNT), WANTED)


def test_a_path_that_looks_like_something_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "render:0:5")
    write_folder(tmp_path / "module:function")
    for name in ("./render:0:5", "module:function"):
        with open_source(name) as source:
            assert source.kind == "folder"


def test_hdf5_without_labels_like_ours_is_read_by_itself(tmp_path):
    write_3dshapes_file(
        tmp_path / "x.h5", COUNT, SIZE, chunks=(5, SIZE, SIZE, 3), compression="gzip"
    )
    with open_source(str(tmp_path / "x.h5")) as source:
        assert source.kind == "dataset"
        mine = source.images(0, COUNT)
    with open_source(str(tmp_path / "x.h5"), options=SourceOptions(key="images")) as source:
        assert source.kind == "hdf5"
        assert torch.equal(source.images(0, COUNT), mine)


def test_nothing_heavy_is_imported_before_it_is_needed():
    program = (
        "import sys, shapeshd.benchmark.sources.open; "
        "print([name for name in ('torch', 'h5py', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_zip_with_backslashes_between_its_folders(tmp_path):
    # As PowerShell's Compress-Archive and older .NET write it.
    members = {f"a{n // 10}\\{n}.png": encoded(IMAGES[n]) for n in range(COUNT)}
    with open_source(str(write_zip(tmp_path / "x.zip", members))) as source:
        assert torch.equal(source.images(0, COUNT), WANTED)
    for name in ("..\\a.png", "\\a.png", "b\\..\\..\\a.png", "C:\\a.png"):
        with pytest.raises(UsageError, match="leads outside"):
            open_source(str(write_zip(tmp_path / "y.zip", {name: encoded(IMAGES[0])})))


@pytest.mark.parametrize("number", [3, 70, 99])
@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinite values")])
def test_the_image_that_is_not_finite_is_named(tmp_path, number, value, what):
    images = np.random.default_rng(0).random((100, 3, 8, 8), dtype=np.float32)
    images[number, 1, 2, 3] = images[number + 1 :, 0, 0, 0] = value
    path = write_npz(tmp_path / "x.npz", images=images)
    with (
        pytest.raises(ShapesHDError, match=rf"x\.npz: .*{number} has {what}"),
        open_source(str(path), options=SourceOptions(range="unit")) as source,
    ):
        source.images(0, 64)
        source.images(64, 100)


def test_one_network_of_a_pipeline_is_no_folder_of_images(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"unet: .*model_index\.json"):
        open_source(str(tmp_path / "unet"))
