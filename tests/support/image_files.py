"""The same 23 images in every format of stored images that can be scored."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import PIL.Image
import torch

from shapeshd.dataset.export import export_dataset
from shapeshd.dataset.shapes_hd import ShapesHD
from tests.support.noise_dataset import noise_images, write_noise_dataset

COUNT, SIZE = 23, 16
IMAGES = noise_images(COUNT, SIZE)
WANTED = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)


def encoded(pixels: Any, format: str = "PNG", **arguments: Any) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    image.save(file, format, **arguments)
    return file.getvalue()


def write_folder(folder: Path, names: Callable[[int], str] | None = None) -> Path:
    for number, image in enumerate(IMAGES):
        path = folder / (names(number) if names else f"img{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(image))
    return folder


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_npz(path: Path, compressed: bool = False, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def write_hdf5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def as_npy(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def make_exported(tmp: Path, format: str) -> Path:
    write_noise_dataset(tmp / "set", COUNT, SIZE)
    out = tmp / ("out.zip" if format == "stylegan-zip" else "out")
    export_dataset(ShapesHD(tmp / "set"), out, format, labels="none")
    return out


FIRST = IMAGES.transpose(0, 3, 1, 2)
UNIT = FIRST / 255
SYMMETRIC = (FIRST / 127.5 - 1).astype(np.float32)


def make_deflated(tmp: Path) -> Path:
    members = {f"a/{number}.png": encoded(image) for number, image in enumerate(IMAGES)}
    return write_zip(tmp / "x.zip", members, zipfile.ZIP_DEFLATED)


def make_nested(tmp: Path) -> Path:
    return write_folder(tmp / "x", lambda number: f"{number // 10}/{number % 10}/img{number}.PNG")


def make_bmp(tmp: Path) -> Path:
    (tmp / "x").mkdir()
    for number, image in enumerate(IMAGES):
        format = ("BMP", "PPM", "WEBP", "PNG")[number % 4]
        more = {"lossless": True} if format == "WEBP" else {}
        (tmp / "x" / f"{number:04}.{format.lower()}").write_bytes(encoded(image, format, **more))
    return tmp / "x"


def make_dataset(tmp: Path, name: str = "") -> Path:
    write_noise_dataset(tmp / "set", COUNT, SIZE)
    return tmp / "set" / name


def make_3dshapes(tmp: Path) -> Path:
    write_hdf5(tmp / "x.h5", images=IMAGES, labels=np.zeros((COUNT, 6)))
    return tmp / "x.h5"


GOOD: dict[str, Callable[[Path], Path]] = {
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
