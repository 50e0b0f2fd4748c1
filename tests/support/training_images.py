"""Images to train on, in each form that is read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from shapeshd.dataset.render_spec import RenderSpec

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


KINDS = ("render", "dataset", *WRITERS)
