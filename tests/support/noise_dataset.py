"""Small datasets of random pixels: what reads images need not wait for a renderer."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from shapeshd.dataset.manifest import write_manifest
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.dataset.shards import SHARD_FOLDER, Provenance, ShardWriter, shard_name
from shapeshd.factors import FloatArray, uniform_factors
from shapeshd.scene.render_options import Image

COUNT = 23


def noise_images(count: int, size: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def write_noise_dataset(
    folder: Path,
    count: int = COUNT,
    size: int = 16,
    shard_size: int = 5,
    compression: str = "gzip",
    missing: tuple[int, ...] = (),
    sampling: str = "uniform",
    distribution: str = "",
) -> tuple[Image, FloatArray]:
    """Write a dataset without the shards `missing`; return all its images and labels."""
    provenance = Provenance(
        sampling, 0, size, 0.3, 3, "povray", "3.7", "0" * 64, shard_size, compression, distribution
    )
    images, labels = noise_images(count, size), uniform_factors(0, 0, count)
    (folder / SHARD_FOLDER).mkdir(parents=True)
    for first in range(0, count, shard_size):
        if (number := first // shard_size) in missing:
            continue
        part = slice(first, first + shard_size)
        path = folder / SHARD_FOLDER / shard_name(number)
        with ShardWriter(path, provenance, first, labels[part]) as shard:
            for image in images[part]:
                shard.append(image)
            shard.finish()
    write_manifest(folder, count)
    return images, labels


def write_3dshapes_file(path: Path, count: int = 30, size: int = 16, **storage: object) -> None:
    """Write a file like 3dshapes.h5; `storage` is h5py's, such as chunks and compression."""
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=noise_images(count, size, 1), **storage)
        file.create_dataset("labels", data=uniform_factors(1, 0, count))


def shard(folder: Path, number: int) -> Path:
    return folder / SHARD_FOLDER / shard_name(number)


def plain_loop(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a dataset with nothing but h5py."""
    images, labels = [], []
    for path in sorted((folder / SHARD_FOLDER).iterdir()):
        with h5py.File(path, "r") as file:
            images.append(file["images"][()])
            labels.append(file["labels"][()])
    return np.concatenate(images), np.concatenate(labels)


def assert_serves(dataset: ShapesHD, images: np.ndarray, labels: np.ndarray) -> None:
    assert len(dataset) == len(images)
    np.testing.assert_array_equal(dataset.labels, labels)
    for index in np.random.default_rng(0).permutation(len(images)):
        image, label = dataset[index]
        np.testing.assert_array_equal(image.numpy(), images[index].transpose(2, 0, 1))
        np.testing.assert_array_equal(label.numpy(), labels[index])
