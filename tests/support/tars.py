"""Tar files of a few images, by Python's own writer."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

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


def made(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
