"""Stored images that cannot be read: each gives one clear line."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import PIL.Image
import pytest
import torch

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.errors import ShapesHDError, UsageError
from tests.support.image_files import (
    GOOD,
    IMAGES,
    SIZE,
    WANTED,
    as_npy,
    encoded,
    make_deflated,
    write_folder,
    write_hdf5,
    write_npz,
    write_zip,
)
from tests.support.noise_dataset import write_noise_dataset


def bad_folder(tmp, data, name="a.png"):
    write_folder(tmp / "x")
    (tmp / "x" / name).write_bytes(data)
    return tmp / "x"


def made(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def made_folder(tmp, **files):
    (tmp / "x").mkdir()
    for name, content in files.items():
        made(tmp / "x" / name.replace("__", "."), content)
    return tmp / "x"


def picture(mode):
    return PIL.Image.fromarray(IMAGES[0]).convert(mode)


def bomb_png():
    """A PNG that claims 60,000 x 60,000 pixels."""
    data = bytearray(encoded(IMAGES[0]))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def encrypted_zip(tmp):
    path = write_zip(tmp / "x.zip", {"a.png": encoded(IMAGES[0])})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


def bomb_zip(tmp):
    return write_zip(tmp / "x.zip", {"a.png": bytes(97 * 2**20)}, zipfile.ZIP_DEFLATED)


def damaged_zip(tmp):
    path = write_zip(tmp / "x.zip", {"a.png": encoded(IMAGES[0]), "b.png": encoded(IMAGES[1])})
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    return path


def cut(path, bytes=100):
    path.write_bytes(path.read_bytes()[:-bytes])
    return path


def incomplete(tmp):
    write_noise_dataset(tmp / "x", missing=(1,))
    return tmp / "x"


def objects_npy(tmp):
    path = tmp / "x.npy"
    np.save(path, np.array([Path("x"), None]), allow_pickle=True)
    return path


def objects_npz(tmp):
    np.savez(tmp / "x.npz", images=np.array([Path("x"), None]))
    return tmp / "x.npz"


def external_link(tmp):
    write_hdf5(tmp / "y.h5", images=IMAGES)
    with h5py.File(tmp / "x.h5", "w") as file:
        file["images"] = h5py.ExternalLink("y.h5", "images")
    return tmp / "x.h5"


def virtual_without_sources(tmp):
    layout = h5py.VirtualLayout((5, 8, 8, 3), "u1")
    layout[:] = h5py.VirtualSource("gone.h5", "images", (5, 8, 8, 3), "u1")
    with h5py.File(tmp / "x.h5", "w") as file:
        file.create_virtual_dataset("images", layout)
    return tmp / "x.h5"


PNG = encoded(IMAGES[0])
BAD = {
    "missing": (lambda tmp: tmp / "nowhere", "nowhere: no such file"),
    "missing npz": (lambda tmp: tmp / "x.npz", "x.npz: no such file"),
    "dead link": (lambda tmp: (tmp / "x").symlink_to(tmp / "y") or tmp / "x", "is a link to"),
    "nothing": (lambda tmp: "", "'' is no path"),
    "no user": (lambda tmp: "~no-such-user-here/x", "cannot be read"),
    "device": (lambda tmp: "/dev/null", "/dev/null: is neither"),
    "empty file": (lambda tmp: made(tmp / "x.npy"), "x.npy: is empty"),
    "unknown": (lambda tmp: made(tmp / "x.xyz", b"abc"), "x.xyz: is nothing"),
    "one image": (lambda tmp: made(tmp / "x.png", PNG), "single image: .*folder"),
    "pickle": (lambda tmp: made(tmp / "x.pkl", b"\x80abc"), "pickle.*file.py:function"),
    "pickled network": (
        lambda tmp: torch.save({"w": torch.zeros(3)}, tmp / "x.pt") or tmp / "x.pt",
        "pickle.*file.py:function",
    ),
    "no function": (lambda tmp: f"{tmp}/gone.py:make", "gone.py:make: "),
    "no network": (lambda tmp: made(tmp / "x.onnx", b"hello"), "x.onnx: "),
    "no tensors": (lambda tmp: made(tmp / "x.safetensors", b"hello"), "is no safetensors file"),
    "tar": (lambda tmp: made(tmp / "x.tar", b"abc"), "is cut off"),
    "python file": (lambda tmp: made(tmp / "x.py", b"a=1"), "which of its functions"),
    "diffusers": (lambda tmp: made_folder(tmp, model_index__json=b"{}"), "names no pipeline"),
    "lmdb": (lambda tmp: made_folder(tmp, data__mdb=b"x"), "is an LMDB database"),
    "empty folder": (lambda tmp: made_folder(tmp), r"x: holds no images \(.png, .*\)$"),
    "tar files": (lambda tmp: made_folder(tmp, a__tar=b"x"), r"no images: give '.*x/\*\.tar'"),
    "other files": (
        lambda tmp: made_folder(tmp, a__npy=b"x", b__npy=b"x", c__txt=b"x"),
        r"holds no images .*2 .npy, 1 .txt$",
    ),
    "incomplete": (incomplete, "incomplete: holds 18 of 23 images"),
    "no text in png": (lambda tmp: bad_folder(tmp, b"hello"), r"a.png: is no image \(PNG, JPEG"),
    "empty png": (lambda tmp: bad_folder(tmp, b""), "a.png: is empty$"),
    "cut png": (lambda tmp: bad_folder(tmp, PNG[:-300]), r"a.png: is damaged \("),
    "flipped png": (
        lambda tmp: bad_folder(tmp, PNG[:300] + b"\0\0\0" + PNG[303:]),
        r"a.png: is damaged \(",
    ),
    "cut jpeg": (
        lambda tmp: bad_folder(tmp, encoded(IMAGES[0], "JPEG")[:-200], "a.jpg"),
        r"a.jpg: is damaged \(.*[Tt]runcated",
    ),
    "gif in disguise": (lambda tmp: bad_folder(tmp, encoded(picture("P"), "GIF")), "is no image"),
    "sizes": (
        lambda tmp: bad_folder(tmp, encoded(IMAGES[0][:8]), "a.png"),
        "img0.png has 16x16 .*a.png 16x8",
    ),
    "profile": (
        lambda tmp: bad_folder(tmp, encoded(picture("RGB"), icc_profile=b"none at all")),
        "a.png: its colour profile is damaged",
    ),
    "alpha": (
        lambda tmp: bad_folder(tmp, encoded(np.zeros((SIZE, SIZE, 4), np.uint8))),
        "a.png: .*alpha channel",
    ),
    "colour key": (
        lambda tmp: bad_folder(
            tmp, encoded(picture("RGB"), transparency=(*IMAGES[0][0, 0].tolist(),))
        ),
        "a.png: is not opaque",
    ),
    "cmyk": (
        lambda tmp: bad_folder(tmp, encoded(picture("CMYK"), "JPEG"), "a.jpg"),
        "a.jpg: is CMYK",
    ),
    "animated": (
        lambda tmp: bad_folder(
            tmp, encoded(picture("RGB"), save_all=True, append_images=[picture("L").convert("RGB")])
        ),
        "a.png: holds several frames",
    ),
    "bomb": (lambda tmp: bad_folder(tmp, bomb_png()), "a.png: .*pixels are too many"),
    "no zip": (lambda tmp: made(tmp / "x.zip", b"hello"), r"x.zip: is no whole zip"),
    "cut zip": (lambda tmp: cut(make_deflated(tmp)), "x.zip: is no whole zip"),
    "empty zip": (lambda tmp: write_zip(tmp / "x.zip", {}), "x.zip: holds no images"),
    "zip in zip": (
        lambda tmp: write_zip(tmp / "x.zip", {"a.zip": b"x"}),
        "holds no images .*1 .zip",
    ),
    "climbing zip": (
        lambda tmp: write_zip(tmp / "x.zip", {"a.png": PNG, "b/../../c.png": PNG}),
        "'b/../../c.png' leads outside",
    ),
    "absolute zip": (
        lambda tmp: write_zip(tmp / "x.zip", {"a.png": PNG, "/etc/x.txt": b""}),
        "'/etc/x.txt' leads outside",
    ),
    "encrypted zip": (encrypted_zip, "x.zip: a.png: is encrypted"),
    "zip bomb": (bomb_zip, "a.png: .*97 MiB"),
    "bomb in zip": (
        lambda tmp: write_zip(tmp / "x.zip", {"a.png": bomb_png()}),
        "x.zip: a.png: .*pixels",
    ),
    "damaged zip": (damaged_zip, r"x.zip: a.png: .*Bad CRC-32"),
    "no npy": (lambda tmp: made(tmp / "x.npy", b"hello"), "x.npy: .*no NumPy array"),
    "cut npy": (
        lambda tmp: cut(as_npy(tmp / "x.npy", IMAGES)),
        r"x.npy: is cut off: .*17,664 .* 17,564",
    ),
    "object npy": (objects_npy, r"x.npy: holds Python objects"),
    "object npz": (objects_npz, r"x.npz: images: holds Python objects"),
    "bool npy": (lambda tmp: as_npy(tmp / "x.npy", IMAGES > 9), r"holds bool .*not images"),
    "text npy": (lambda tmp: as_npy(tmp / "x.npy", np.array(["a"])), r"holds <U1 \(1,\), not"),
    "zeros npy": (
        lambda tmp: as_npy(tmp / "x.npy", np.zeros((5, 3, 8, 8))),
        "0 to 0 .*give range",
    ),
    "one image npy": (lambda tmp: as_npy(tmp / "x.npy", IMAGES[0]), "one image?"),
    "no image npy": (lambda tmp: as_npy(tmp / "x.npy", IMAGES[:0]), "holds no images"),
    "grey npy": (lambda tmp: as_npy(tmp / "x.npy", IMAGES[..., :1]), "1 channel, grey"),
    "cut npz": (lambda tmp: cut(GOOD["npz"](tmp)), "x.npz: is no whole npz"),
    "empty npz": (lambda tmp: write_npz(tmp / "x.npz"), "x.npz: holds no array"),
    "labels npz": (
        lambda tmp: write_npz(tmp / "x.npz", a=np.zeros(3), b=np.zeros((3, 2))),
        r"a float64 \(3,\), b float64 \(3, 2\)",
    ),
    "two arrays": (
        lambda tmp: write_npz(tmp / "x.npz", a=IMAGES, b=IMAGES),
        "give key='a' or key='b'",
    ),
    "fortran npz": (
        lambda tmp: write_npz(tmp / "x.npz", True, a=np.asfortranarray(IMAGES)),
        "Fortran order",
    ),
    "no hdf5": (lambda tmp: made(tmp / "x.h5", b"hello"), r"x.h5: is no whole HDF5"),
    "cut hdf5": (
        lambda tmp: cut(write_hdf5(tmp / "x.h5", images=IMAGES), 5000),
        "x.h5: is no whole HDF5",
    ),
    "hdf5 of two": (
        lambda tmp: write_hdf5(tmp / "x.h5", a=IMAGES, g__b=IMAGES),
        "give key='a' or key='g/b'",
    ),
    "hdf5 without": (lambda tmp: write_hdf5(tmp / "x.h5", a=np.zeros(3)), "holds float64"),
    "empty hdf5": (lambda tmp: write_hdf5(tmp / "x.h5"), "x.h5: holds no array"),
    "linked hdf5": (external_link, "x.h5: holds no array"),
    "virtual hdf5": (virtual_without_sources, "x.h5: .*index of other files"),
    "no render": (lambda tmp: "render:0", "form render:SEED:COUNT"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_line(case, tmp_path):
    make, message = BAD[case]
    path = make(tmp_path)
    with pytest.raises(ShapesHDError) as caught, open_source(str(path)) as source:
        source.images(0, source.count)
    text = str(caught.value)
    assert "\n" not in text
    assert re.search(message, text), text


OPTIONS = {
    "range": ("folder", {"range": "unit"}, "0 to 255: leave out range"),
    "layout": ("stylegan zip", {"layout": "nhwc"}, "leave out layout"),
    "key": ("npy", {"key": "a"}, "leave out key"),
    "latent_dim": ("npz", {"latent_dim": 8}, "leave out latent_dim"),
    "no such key": ("npz", {"key": "a"}, "no array 'a'; .*images uint8"),
    "hdf5 key": ("hdf5", {"key": "a"}, "no array 'a'; .*images uint8"),
    "uint8 range": ("npy", {"range": "symmetric"}, "uint8, .*0 to 255"),
    "wrong layout": ("npy", {"layout": "nchw"}, r"not \(n, 3, H, W\)"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_an_option_that_does_not_fit_is_refused(case, tmp_path):
    kind, options, message = OPTIONS[case]
    with pytest.raises(UsageError, match=message):
        open_source(str(GOOD[kind](tmp_path)), options=SourceOptions(**options))


@pytest.mark.parametrize(
    "options", [{"range": "0-1"}, {"layout": "chw"}, {"batch": 0}, {"latent_dim": -3}]
)
def test_impossible_options(options):
    with pytest.raises(UsageError, match=f"^{next(iter(options))} must be"):
        SourceOptions(**options)


def test_a_file_that_vanishes_is_named(tmp_path):
    folder = GOOD["folder"](tmp_path)
    with open_source(str(folder)) as source:
        source.images(0, 5)
        (folder / "img7.png").unlink()
        with pytest.raises(ShapesHDError, match=r"img7\.png: cannot be read"):
            source.images(5, 10)
        assert torch.equal(source.images(8, 10), WANTED[8:10])
