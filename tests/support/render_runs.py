"""Runs of ``shapeshd render`` in processes of their own, and what is in the folders they write."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import h5py
import numpy as np
import psutil

from shapeshd.dataset.shards import list_shards
from tests.conftest import COUNT, SEED, SIZE

RENDER = [sys.executable, "-m", "shapeshd", "render"]
ARGUMENTS = f"--count {COUNT} --size {SIZE} --shard-size 20 --seed {SEED} --jobs 2".split()


def files(dataset: Path) -> dict[str, str]:
    """Every file of a dataset folder with the digest of its bytes.

    HDF5 puts the time into a virtual dataset; that file is compared by what it reads.
    """
    return {
        str(path.relative_to(dataset)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(dataset.rglob("*"))
        if path.is_file() and path.name != "dataset.h5"
    }


def contents(dataset: Path) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels, read with h5py alone."""
    images, labels = [], []
    for path in list_shards(dataset):
        with h5py.File(path) as file:
            images.append(file["images"][()])
            labels.append(file["labels"][()])
    return np.concatenate(images), np.concatenate(labels)


def flip_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def named(processes: list[psutil.Process], word: str) -> list[psutil.Process]:
    found = []
    for process in processes:
        try:
            if word in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found
