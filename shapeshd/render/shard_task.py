"""Rendering a few shards: the unit of work that is handed to a process, thread or cluster.

Tasks share nothing but the dataset's folder, so any of joblib's back ends can run them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np

from shapeshd.dataset.shards import (
    SHARD_FOLDER,
    Provenance,
    ShardWriter,
    check_shard,
    iterate_images,
    open_shard,
    read_header,
    shard_name,
    shard_number,
)
from shapeshd.engines.engine import engine_named
from shapeshd.errors import DamagedShardError, RendererError, ShapesHDError, UsageError
from shapeshd.factors import FloatArray
from shapeshd.scene.render_options import Image, RenderOptions
from shapeshd.support.file_system import flush, rename
from shapeshd.support.workspace import work_folder

_REPORT_SECONDS = 0.5

Status = Literal["rendered", "kept", "extended", "remade"]


@dataclass(frozen=True)
class Shard:
    """One shard as it shall be.

    Args:
        dataset: the dataset folder, absolute.
        first_index: index of the shard's first image.
        labels: float64 (n, 6), the factors of all its images.
        provenance: what decides the images.
    """

    dataset: Path
    first_index: int
    labels: FloatArray
    provenance: Provenance

    @property
    def number(self) -> int:
        """The shard's number in the dataset."""
        return self.first_index // self.provenance.shard_size

    @property
    def path(self) -> Path:
        """Where the finished shard stands."""
        return self.dataset / SHARD_FOLDER / shard_name(self.number)


@dataclass(frozen=True)
class RenderTask:
    """Consecutive shards of one dataset, rendered by one worker; see `render_shards`.

    Args:
        shards: at least one.
        parallel: processes or threads of the engine side by side.
        run_file: file to which progress is appended; the task gives up when it is gone.
    """

    shards: tuple[Shard, ...]
    parallel: int
    run_file: Path


@dataclass(frozen=True)
class ShardOutcome:
    """What became of a shard: `rendered` counts the images that were made for it."""

    number: int
    count: int
    rendered: int
    status: Status


class RunEndedError(ShapesHDError):
    """The run that this task belongs to has ended."""


def render_shards(task: RenderTask) -> list[ShardOutcome]:
    """Render the shards of a task, or keep those that are there and sound.

    A shard that holds the first part of what is wanted is extended: its images are copied
    and the rest is rendered. A damaged shard is rendered again. A finished file replaces
    the old one in one step. The engine goes on from shard to shard, since starting a POV-Ray
    process costs as much as a few images.

    Raises:
        UsageError: if a shard that is there belongs to another dataset.
        RendererError: if the engine is missing, of another version, or keeps failing.
    """
    reporter = _Reporter(task.run_file)
    reused: list[int] = []
    outcomes: list[ShardOutcome] = []
    for shard in task.shards:
        found, status = _inspect(shard)
        reporter.report(shard, found, force=True)
        reused.append(found)
        outcomes.append(
            ShardOutcome(shard.number, len(shard.labels), len(shard.labels) - found, status)
        )
    factors = np.concatenate(
        [shard.labels[found:] for shard, found in zip(task.shards, reused, strict=True)]
    )
    if not len(factors):
        return outcomes
    first = task.shards[0]
    _require_renderer(first.provenance)
    options = RenderOptions(
        first.provenance.size, first.provenance.antialias, first.provenance.antialias_depth
    )
    with work_folder(first.dataset, first.path.stem) as folder:
        engine = engine_named(first.provenance.engine)
        images = engine.stream(factors, options, folder, task.parallel, home=first.dataset)
        try:
            for shard, found in zip(task.shards, reused, strict=True):
                if found < len(shard.labels):
                    _write(shard, found, images, folder, reporter)
        finally:
            images.close()
    return outcomes


def _write(
    shard: Shard, reused: int, images: Iterator[Image], folder: Path, reporter: _Reporter
) -> None:
    """Write one shard: its first `reused` images from the old file, the rest from `images`."""
    partial = folder / "partial.h5"
    with ShardWriter(partial, shard.provenance, shard.first_index, shard.labels) as writer:
        rest = islice(images, len(shard.labels) - reused)
        for done, image in enumerate(chain(_old_images(shard, reused), rest), start=1):
            writer.append(image)
            reporter.report(shard, done)
        writer.finish()
    shard.path.parent.mkdir(exist_ok=True)
    _check_neighbour(shard)
    rename(partial, shard.path)
    flush(shard.path.parent)
    reporter.report(shard, len(shard.labels), force=True)


def _old_images(shard: Shard, count: int) -> Iterator[Image]:
    if count:
        with open_shard(shard.path) as file:
            for block in iterate_images(file, shard.path):
                yield from block


def _inspect(shard: Shard) -> tuple[int, Status]:
    """Return how many of the shard's images are already there, and what to call the outcome."""
    if not shard.path.exists():
        return 0, "rendered"
    try:
        header, labels = check_shard(shard.path)
    except DamagedShardError:
        return 0, "remade"
    if header.provenance != shard.provenance or header.first_index != shard.first_index:
        what = header.provenance.differences(shard.provenance)
        raise UsageError(
            f"{shard.path}: belongs to another dataset: "
            + ("; ".join(what) or f"it starts at image {header.first_index}")
        )
    check_same_labels(shard.path, shard.first_index, labels, shard.labels)
    if header.count > len(shard.labels):
        raise UsageError(
            f"{shard.path}: already holds {header.count} images, more than asked for now; "
            "ask for at least as many, or render to another folder"
        )
    return header.count, "kept" if header.count == len(shard.labels) else "extended"


def _check_neighbour(shard: Shard) -> None:
    """Raise `UsageError` if the dataset has meanwhile become another one.

    Two jobs of an array with different options can both start in an empty folder.
    """
    with suppress(DamagedShardError), os.scandir(shard.path.parent) as entries:
        others = (Path(entry) for entry in entries if entry.name != shard.path.name)
        path = next((path for path in others if shard_number(path) is not None), None)
        if path and (what := read_header(path).provenance.differences(shard.provenance)):
            raise UsageError(
                f"{shard.dataset}: holds another dataset by now: its {'; its '.join(what)}; "
                "use the same parameters or another folder"
            )


def check_same_labels(path: Path, first_index: int, found: FloatArray, wanted: FloatArray) -> None:
    """Raise `UsageError` if the labels of a shard differ from those wanted, as far as both go."""
    common = min(len(found), len(wanted))
    differing = (found[:common] != wanted[:common]).any(axis=1)
    if differing.any():
        index = first_index + int(np.argmax(differing))
        raise UsageError(
            f"{path}: the factors of image {index} differ from those asked for now; "
            "render to another folder"
        )


def _require_renderer(provenance: Provenance) -> None:
    found = engine_named(provenance.engine).renderer()
    if found != provenance.renderer:
        raise RendererError(
            f"this machine has {found}, but the dataset is rendered with {provenance.renderer}; "
            "install the same version everywhere"
        )


class _Reporter:
    """Tells the run how far a task is, and the task whether its run still lives."""

    def __init__(self, run_file: Path) -> None:
        self._run_file = run_file
        self._last = 0.0

    def report(self, shard: Shard, done: int, *, force: bool = False) -> None:
        """Append ``number done`` to the run file, at most twice a second unless `force`."""
        now = time.monotonic()
        if now - self._last < _REPORT_SECONDS and not force:
            return
        self._last = now
        try:
            descriptor = os.open(self._run_file, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            raise RunEndedError("the run that started this shard has ended") from None
        try:
            os.write(descriptor, f"{shard.number} {done}\n".encode())
        finally:
            os.close(descriptor)
