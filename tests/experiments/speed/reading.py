"""How fast images are read in random order, side by side: python -m tests.experiments.speed.reading

Rendered images are written as a dataset of ours and exported as PNG files. Then a plain h5py
loop, `ShapesHD` and torchvision's ImageFolder read the same images in the same order, in
turns, so that other work on the machine slows all of them; the best turn of each counts. zlib alone
decompresses the same images from memory: nothing that reads them can be faster.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from shapeshd import ShapesHD, render_images, uniform_factors
from shapeshd.dataset.export import export_dataset
from shapeshd.dataset.manifest import write_manifest
from shapeshd.dataset.shards import SHARD_FOLDER, Provenance, ShardWriter, shard_name

Task = Callable[[list[int]], None]

RENDERED = 300
BATCH = 64
WORKERS = 2


def write_dataset(folder: Path, count: int, size: int, shard_size: int) -> None:
    """Write `count` images, repeating a few rendered ones: real content, little waiting."""
    rendered = render_images(uniform_factors(0, 0, min(count, RENDERED)), size)
    labels = uniform_factors(0, 0, count)
    provenance = Provenance(
        "uniform", 0, size, 0.3, 3, "povray", "3.7", "0" * 64, shard_size, "gzip"
    )
    (folder / SHARD_FOLDER).mkdir(parents=True)
    for first in range(0, count, shard_size):
        path = folder / SHARD_FOLDER / shard_name(first // shard_size)
        part = labels[first : first + shard_size]
        with ShardWriter(path, provenance, first, part) as shard:
            for index in range(first, first + len(part)):
                shard.append(rendered[index % len(rendered)])
            shard.finish()
    write_manifest(folder, count)


def plain_loop(arrays: list[tuple[Any, Any]], shard_size: int, order: list[int]) -> None:
    """Read with h5py alone, all files held open: NumPy arrays as they are stored."""
    for index in order:
        images, labels = arrays[index // shard_size]
        images[index % shard_size], labels[index % shard_size]


def decompress(chunks: list[bytes], order: list[int]) -> None:
    """Decompress stored images that are in memory, and do nothing else."""
    for index in order:
        zlib.decompressobj().decompress(chunks[index])  # behind it stands HDF5's checksum


def items(dataset: Dataset, order: list[int]) -> None:
    for index in order:
        dataset[index]


def batches(dataset: Dataset, order: list[int], workers: int) -> None:
    for _ in DataLoader(dataset, BATCH, sampler=order, num_workers=workers):
        pass


def measure(
    tasks: dict[str, tuple[Task, list[int]]], turns: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the images per second of each task's best turn, and per second of CPU time."""
    best, of_cpu = dict.fromkeys(tasks, 0.0), dict.fromkeys(tasks, 0.0)
    for _ in range(turns):
        for name, (task, order) in tasks.items():
            began, used = time.perf_counter(), time.process_time()
            task(order)
            of_cpu[name] = max(of_cpu[name], len(order) / (time.process_time() - used))
            best[name] = max(best[name], len(order) / (time.perf_counter() - began))
    return best, of_cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000, help="images in the dataset")
    parser.add_argument("--size", type=int, default=256, help="width and height, pixels")
    parser.add_argument("--shard-size", type=int, default=30, help="images per file")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the rates are those of one core, but for the workers

    with tempfile.TemporaryDirectory(prefix="shapeshd-reading-") as work:
        folder, pngs = Path(work) / "set", Path(work) / "png"
        write_dataset(folder, options.count, options.size, options.shard_size)
        ours = ShapesHD(folder)
        exported = export_dataset(ours, pngs, "folder")
        theirs = ImageFolder(str(pngs), transform=pil_to_tensor)
        order = np.random.default_rng(0).permutation(options.count).tolist()
        for index in order[:20]:
            assert torch.equal(ours[index][0], theirs[index][0])
        # So few images would all fit into HDF5's chunk caches, which those of a real set do not.
        paths = sorted((folder / SHARD_FOLDER).iterdir())
        files = [h5py.File(path, "r", rdcc_nbytes=0) for path in paths]
        arrays = [(file["images"], file["labels"]) for file in files]
        chunks = [
            images.id.read_direct_chunk((number, 0, 0, 0))[1]
            for images, _ in arrays
            for number in range(len(images))
        ]
        longer = 3 * order  # starting the workers must not count for much
        tasks: dict[str, tuple[Task, list[int]]] = {
            "zlib alone, in memory": (lambda o: decompress(chunks, o), order),
            "h5py loop, open files": (lambda o: plain_loop(arrays, options.shard_size, o), order),
            "ShapesHD items": (lambda o: items(ours, o), order),
            "ImageFolder items": (lambda o: items(theirs, o), order),
            "ShapesHD DataLoader": (lambda o: batches(ours, o, 0), order),
            "ImageFolder DataLoader": (lambda o: batches(theirs, o, 0), order),
            f"ShapesHD {WORKERS} workers": (lambda o: batches(ours, o, WORKERS), longer),
            f"ImageFolder {WORKERS} workers": (lambda o: batches(theirs, o, WORKERS), longer),
        }
        rates, of_cpu = measure(tasks, options.turns)
        for file in files:
            file.close()

    shards = -(-options.count // options.shard_size)
    print(f"{options.count:,} images of {options.size}, random order, {shards} shards (gzip)")
    print(f"{'':24}{'img/s':>8}{'ratio':>8}")
    for name, rate in rates.items():
        rival = rates[name.replace("ShapesHD", "ImageFolder")]
        ratio = f"{rate / rival:8.2f}" if name.startswith("ShapesHD") else ""
        print(f"{name:24}{rate:8,.0f}{ratio}")
    plain = of_cpu["zlib alone, in memory"]
    for name in ("h5py loop, open files", "ShapesHD items", "ShapesHD DataLoader"):
        print(f"{name}: {of_cpu[name]:,.0f} a second of CPU, {of_cpu[name] / plain:.0%} of zlib's")
    print("ratio: to ImageFolder of the exported PNG files, read in the same way")
    print(f"export of the PNG folder: {exported.images / exported.seconds:,.0f} img/s")


if __name__ == "__main__":
    main()
