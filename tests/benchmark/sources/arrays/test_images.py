"""Sources of images: every format gives the same pixels, and bad ones give one clear line."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.dataset.export import export_dataset
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.images.names import natural_key
from tests.support.noise_dataset import noise_images, write_3dshapes_file, write_noise_dataset

COUNT, SIZE = 23, 16
IMAGES = noise_images(COUNT, SIZE)
WANTED = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)


def encoded(pixels, format="PNG", **arguments):
    file = io.BytesIO()
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    image.save(file, format, **arguments)
    return file.getvalue()


def write_folder(folder, names=None):
    for number, image in enumerate(IMAGES):
        path = folder / (names(number) if names else f"img{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(image))
    return folder


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_npz(path, compressed=False, **arrays):
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def write_hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def as_npy(path, array):
    np.save(path, array)
    return path


def make_exported(tmp, format):
    write_noise_dataset(tmp / "set", COUNT, SIZE)
    out = tmp / ("out.zip" if format == "stylegan-zip" else "out")
    export_dataset(ShapesHD(tmp / "set"), out, format, labels="none")
    return out


FIRST = IMAGES.transpose(0, 3, 1, 2)
UNIT = FIRST / 255
SYMMETRIC = (FIRST / 127.5 - 1).astype(np.float32)


def make_deflated(tmp):
    members = {f"a/{number}.png": encoded(image) for number, image in enumerate(IMAGES)}
    return write_zip(tmp / "x.zip", members, zipfile.ZIP_DEFLATED)


def make_nested(tmp):
    return write_folder(tmp / "x", lambda number: f"{number // 10}/{number % 10}/img{number}.PNG")


def make_bmp(tmp):
    (tmp / "x").mkdir()
    for number, image in enumerate(IMAGES):
        format = ("BMP", "PPM", "WEBP", "PNG")[number % 4]
        more = {"lossless": True} if format == "WEBP" else {}
        (tmp / "x" / f"{number:04}.{format.lower()}").write_bytes(encoded(image, format, **more))
    return tmp / "x"


def make_dataset(tmp, name=""):
    write_noise_dataset(tmp / "set", COUNT, SIZE)
    return tmp / "set" / name


def make_3dshapes(tmp):
    write_hdf5(tmp / "x.h5", images=IMAGES, labels=np.zeros((COUNT, 6)))
    return tmp / "x.h5"


GOOD = {
    "folder": lambda tmp: write_folder(tmp / "x"),
    "nested folder": make_nested,
    "several formats": make_bmp,
    "exported folder": lambda tmp: make_exported(tmp, "folder"),
    "stylegan zip": lambda tmp: make_exported(tmp, "stylegan-zip"),
    "deflated zip": make_deflated,
    "npy": lambda tmp: as_npy(tmp / "x.npy", IMAGES),
    "npy first": lambda tmp: as_npy(tmp / "x.npy", FIRST),
    "npy fortran": lambda tmp: as_npy(tmp / "x.npy", np.asfortranarray(IMAGES)),
    "npy int64": lambda tmp: as_npy(tmp / "x.npy", IMAGES.astype(np.int64)),
    "npy unit": lambda tmp: as_npy(tmp / "x.npy", UNIT),
    "npy float16": lambda tmp: as_npy(tmp / "x.npy", SYMMETRIC.astype(np.float16)),
    "npy big end": lambda tmp: as_npy(tmp / "x.npy", IMAGES.astype(">f4")),
    "npz": lambda tmp: write_npz(tmp / "x.npz", images=IMAGES),
    "npz of two": lambda tmp: write_npz(tmp / "x.npz", labels=np.zeros(COUNT), images=FIRST),
    "npz compressed": lambda tmp: write_npz(tmp / "x.npz", True, arr_0=SYMMETRIC),
    "npz fortran": lambda tmp: write_npz(tmp / "x.npz", arr_0=np.asfortranarray(SYMMETRIC)),
    "hdf5": lambda tmp: write_hdf5(tmp / "x.hdf5", images=FIRST, z=np.zeros((COUNT, 100))),
    "hdf5 group": lambda tmp: write_hdf5(tmp / "x.data", a__b__samples=SYMMETRIC),
    "3dshapes": make_3dshapes,
    "dataset": make_dataset,
    "dataset file": lambda tmp: make_dataset(tmp, "dataset.h5"),
}


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
        with pytest.raises(UsageError, match="holds 23 images: there are none from 20 to 24"):
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
        assert source.describe()["converted"] == {
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
        with pytest.raises(ShapesHDError, match=re.escape("z\ufffd.png: is no image")):
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


def sixteen_bit_png():
    """A PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + bytes(6 * SIZE) for _ in range(SIZE))
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


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
    "missing": (lambda tmp: tmp / "nowhere", "nowhere: no such file or folder"),
    "missing npz": (lambda tmp: tmp / "x.npz", "x.npz: no such file or folder"),
    "dead link": (lambda tmp: (tmp / "x").symlink_to(tmp / "y") or tmp / "x", "is a link to"),
    "nothing": (lambda tmp: "", "nothing to score: '' is no path"),
    "no user": (lambda tmp: "~no-such-user-here/x", "cannot be read"),
    "device": (lambda tmp: "/dev/null", "/dev/null: is neither a file nor a folder"),
    "empty file": (lambda tmp: made(tmp / "x.npy"), "x.npy: is empty"),
    "unknown": (lambda tmp: made(tmp / "x.xyz", b"abc"), "x.xyz: is nothing that can be scored"),
    "one image": (lambda tmp: made(tmp / "x.png", PNG), "is a single image: give the folder"),
    "pickle": (lambda tmp: made(tmp / "x.pkl", b"\x80abc"), "is a pickle, .* file.py:function"),
    "pickled network": (
        lambda tmp: torch.save({"w": torch.zeros(3)}, tmp / "x.pt") or tmp / "x.pt",
        "pickle.*file.py:function",
    ),
    "no function": (lambda tmp: f"{tmp}/gone.py:make", "gone.py:make: "),
    "no network": (lambda tmp: made(tmp / "x.onnx", b"hello"), "x.onnx: "),
    "no tensors": (lambda tmp: made(tmp / "x.safetensors", b"hello"), "is no safetensors file"),
    "tar": (lambda tmp: made(tmp / "x.tar", b"abc"), "is cut off: it has no end"),
    "python file": (lambda tmp: made(tmp / "x.py", b"a=1"), "say which of its functions"),
    "diffusers": (lambda tmp: made_folder(tmp, model_index__json=b"{}"), "names no pipeline"),
    "lmdb": (lambda tmp: made_folder(tmp, data__mdb=b"x"), "is an LMDB database"),
    "empty folder": (lambda tmp: made_folder(tmp), r"x: holds no images \(.png, .jpg, .*\)$"),
    "tar files": (lambda tmp: made_folder(tmp, a__tar=b"x"), r"no images: give '.*x/\*\.tar'"),
    "other files": (
        lambda tmp: made_folder(tmp, a__npy=b"x", b__npy=b"x", c__txt=b"x"),
        r"holds no images \(.png.*; it holds 2 .npy, 1 .txt$",
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
        "img0.png has 16x16 pixels and .*a.png 16x8: one size alone can be scored",
    ),
    "grey": (lambda tmp: bad_folder(tmp, encoded(picture("L"))), r"is grey \(.*, not 8-bit RGB"),
    "grey alpha": (lambda tmp: bad_folder(tmp, encoded(picture("LA"))), "a.png: is grey"),
    "black": (lambda tmp: bad_folder(tmp, encoded(picture("1"))), "a.png: is black and white"),
    "alpha": (
        lambda tmp: bad_folder(tmp, encoded(np.zeros((SIZE, SIZE, 4), np.uint8))),
        "a.png: is not opaque: remove the alpha channel",
    ),
    "colour key": (
        lambda tmp: bad_folder(
            tmp, encoded(picture("RGB"), transparency=(*IMAGES[0][0, 0].tolist(),))
        ),
        "a.png: is not opaque",
    ),
    "cmyk": (
        lambda tmp: bad_folder(tmp, encoded(picture("CMYK"), "JPEG"), "a.jpg"),
        "a.jpg: is CMYK, not 8-bit RGB",
    ),
    "16 bits": (lambda tmp: bad_folder(tmp, sixteen_bit_png()), "a.png: has 16 bits a channel"),
    "16 bits ppm": (
        lambda tmp: bad_folder(tmp, b"P6 16 16 65535\n" + bytes(6 * SIZE**2), "a.ppm"),
        "a.ppm: has 16 bits a channel",
    ),
    "animated": (
        lambda tmp: bad_folder(
            tmp, encoded(picture("RGB"), save_all=True, append_images=[picture("L").convert("RGB")])
        ),
        "a.png: holds several frames",
    ),
    "bomb": (lambda tmp: bad_folder(tmp, bomb_png()), "a.png: .*pixels are too many: at most"),
    "no zip": (lambda tmp: made(tmp / "x.zip", b"hello"), r"x.zip: is no whole zip file \("),
    "cut zip": (lambda tmp: cut(make_deflated(tmp)), "is no whole zip file"),
    "empty zip": (lambda tmp: write_zip(tmp / "x.zip", {}), "x.zip: holds no images"),
    "zip in zip": (
        lambda tmp: write_zip(tmp / "x.zip", {"a.zip": b"x"}),
        "holds no images .*; it holds 1 .zip",
    ),
    "climbing zip": (
        lambda tmp: write_zip(tmp / "x.zip", {"a.png": PNG, "b/../../c.png": PNG}),
        "the name 'b/../../c.png' leads outside of the zip file",
    ),
    "absolute zip": (
        lambda tmp: write_zip(tmp / "x.zip", {"a.png": PNG, "/etc/x.txt": b""}),
        "the name '/etc/x.txt' leads outside",
    ),
    "encrypted zip": (encrypted_zip, "x.zip: a.png: is encrypted: unpack it"),
    "zip bomb": (bomb_zip, "a.png: says it is 97 MiB large"),
    "bomb in zip": (
        lambda tmp: write_zip(tmp / "x.zip", {"a.png": bomb_png()}),
        "x.zip: a.png: .*pixels are too many",
    ),
    "damaged zip": (damaged_zip, r"x.zip: a.png: cannot be read \(Bad CRC-32"),
    "no npy": (lambda tmp: made(tmp / "x.npy", b"hello"), "x.npy: holds no NumPy array"),
    "cut npy": (
        lambda tmp: cut(as_npy(tmp / "x.npy", IMAGES)),
        r"x.npy: is cut off: uint8 \(23, 16, 16, 3\) are 17,664 bytes and there are 17,564",
    ),
    "object npy": (objects_npy, r"x.npy: holds Python objects \(pickled\)"),
    "object npz": (objects_npz, r"x.npz: images: holds Python objects \(pickled\)"),
    "bool npy": (lambda tmp: as_npy(tmp / "x.npy", IMAGES > 9), r"holds bool \(.*, not images"),
    "text npy": (lambda tmp: as_npy(tmp / "x.npy", np.array(["a"])), r"holds <U1 \(1,\), not"),
    "zeros npy": (
        lambda tmp: as_npy(tmp / "x.npy", np.zeros((5, 3, 8, 8))),
        "values from 0 to 0 do not tell their range: give range: unit",
    ),
    "one image npy": (lambda tmp: as_npy(tmp / "x.npy", IMAGES[0]), "one image?"),
    "no image npy": (lambda tmp: as_npy(tmp / "x.npy", IMAGES[:0]), "holds no images"),
    "grey npy": (lambda tmp: as_npy(tmp / "x.npy", IMAGES[..., :1]), "1 channel, grey"),
    "cut npz": (lambda tmp: cut(GOOD["npz"](tmp)), "x.npz: is no whole npz file"),
    "empty npz": (lambda tmp: write_npz(tmp / "x.npz"), "x.npz: holds no array"),
    "labels npz": (
        lambda tmp: write_npz(tmp / "x.npz", a=np.zeros(3), b=np.zeros((3, 2))),
        r"no array is of images, .*: a float64 \(3,\), b float64 \(3, 2\)",
    ),
    "two arrays": (
        lambda tmp: write_npz(tmp / "x.npz", a=IMAGES, b=IMAGES),
        "holds several arrays of images: give key='a' or key='b'",
    ),
    "fortran npz": (
        lambda tmp: write_npz(tmp / "x.npz", True, a=np.asfortranarray(IMAGES)),
        "Fortran order",
    ),
    "no hdf5": (lambda tmp: made(tmp / "x.h5", b"hello"), r"x.h5: is no whole HDF5 file \("),
    "cut hdf5": (
        lambda tmp: cut(write_hdf5(tmp / "x.h5", images=IMAGES), 5000),
        "x.h5: is no whole HDF5 file",
    ),
    "hdf5 of two": (
        lambda tmp: write_hdf5(tmp / "x.h5", a=IMAGES, g__b=IMAGES),
        "give key='a' or key='g/b'",
    ),
    "hdf5 without": (lambda tmp: write_hdf5(tmp / "x.h5", a=np.zeros(3)), "holds float64"),
    "empty hdf5": (lambda tmp: write_hdf5(tmp / "x.h5"), "x.h5: holds no array"),
    "linked hdf5": (external_link, "x.h5: holds no array"),
    "virtual hdf5": (virtual_without_sources, "x.h5: is only an index of other files"),
    "no render": (lambda tmp: "render:0", "not of the form render:SEED:COUNT"),
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
    "range": ("folder", {"range": "unit"}, "whose values are 0 to 255: leave out range"),
    "layout": ("stylegan zip", {"layout": "nhwc"}, "whose layout is known: leave out layout"),
    "key": ("npy", {"key": "a"}, "which has no named arrays: leave out key"),
    "latent_dim": ("npz", {"latent_dim": 8}, "takes no latents: leave out latent_dim"),
    "no such key": ("npz", {"key": "a"}, "holds no array 'a'; it holds images uint8"),
    "hdf5 key": ("hdf5", {"key": "a"}, "holds no array 'a'; it holds images uint8"),
    "uint8 range": ("npy", {"range": "symmetric"}, "holds uint8, whose values are 0 to 255"),
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


def test_stating_what_is_so_is_no_error(tmp_path):
    with open_source(str(GOOD["folder"](tmp_path)), options=SourceOptions(range="uint8")) as source:
        assert torch.equal(source.images(0, COUNT), WANTED)


def test_a_file_that_vanishes_is_named(tmp_path):
    folder = GOOD["folder"](tmp_path)
    with open_source(str(folder)) as source:
        source.images(0, 5)
        (folder / "img7.png").unlink()
        with pytest.raises(ShapesHDError, match=r"img7\.png: cannot be read"):
            source.images(5, 10)
        assert torch.equal(source.images(8, 10), WANTED[8:10])


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
