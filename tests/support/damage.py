"""Datasets with damage of every kind, and what `verify` said about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shapeshd.dataset.manifest import write_manifest
from shapeshd.dataset.shards import Provenance, ShardWriter, read_header, shard_name
from shapeshd.verify import Verification

COUNT, SIZE = 50, 32  # of the fixture `rendered`

Run = Callable[..., tuple[int, str, str]]


def shard(dataset: Path, number: int) -> Path:
    return dataset / "shards" / shard_name(number)


def rewrite(
    path: Path,
    change_labels: Callable[[Any], Any] = lambda labels: labels,
    change_images: Callable[[Any], Any] = lambda images: images,
    first_index: int | None = None,
    **provenance: Any,
) -> None:
    """Write a shard anew with other content and digests that fit it."""
    header = read_header(path)
    with h5py.File(path) as file:
        labels, images = change_labels(file["labels"][()]), change_images(file["images"][()])
    path.unlink()
    origin = dataclasses.replace(header.provenance, **provenance)
    first = header.first_index if first_index is None else first_index
    with ShardWriter(path, origin, first, labels) as writer:
        for image in images[: len(labels)]:
            writer.append(image)
        writer.finish()


def make_noise_set(dataset: Path, labels: Any, **provenance: Any) -> Path:
    """Write a whole dataset of one shard with tiny images of noise and these labels."""
    (dataset / "shards").mkdir(parents=True)
    values = {"sampling": "uniform", "seed": 0, "shard_size": len(labels), **provenance}
    origin = Provenance(
        size=8, antialias=0.3, antialias_depth=3, engine="povray", renderer="POV-Ray 3.7.0.10",
        scene_sha256="0" * 64, compression="none", **values,
    )  # fmt: skip
    noise = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    with ShardWriter(shard(dataset, 0), origin, 0, labels) as writer:
        for _ in labels:
            writer.append(noise)
        writer.finish()
    write_manifest(dataset, len(labels))
    return dataset


def failed(result: Verification) -> set[str]:
    return {check.name for check in result.checks if check.passed is False}


def problems(result: Verification, name: str) -> str:
    return "\n".join(check(result, name).problems)


def check(result: Verification, name: str) -> Any:
    return next(found for found in result.checks if found.name == name)


def flip_bit(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def pixel_offset(path: Path, image: int) -> int:
    """Return where in the file the middle of an image's compressed data stands."""
    with h5py.File(path) as file:
        info = file["images"].id.get_chunk_info(image)
    return int(info.byte_offset + info.size // 2)
