"""Rendering one shard: the unit of work that is handed to a process, thread or cluster.

Tasks share nothing but the dataset's folder, so any of joblib's back ends can run them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from . import povray
from .errors import DamagedShardError, RendererError, ShapesHDError, UsageError
from .factors import FloatArray
from .povray import Image, RenderOptions
from .shards import (
    SHARD_FOLDER,
    Provenance,
    ShardWriter,
    check_shard,
    iterate_images,
    open_shard,
    shard_name,
)
from .workspace import work_folder

_REPORT_SECONDS = 0.5

Status = Literal["rendered", "kept", "extended", "remade"]


@dataclass(frozen=True)
class ShardTask:
    """One shard to be rendered; see `render_shard`.

    Args:
        dataset: the dataset folder, absolute.
        first_index: index of the shard's first image.
        labels: float64 (n, 6), the factors of all its images.
        provenance: what decides the images.
        processes: POV-Ray processes side by side.
        run_file: file to which progress is appended; the task gives up when it is gone.
    """

    dataset: Path
    first_index: int
    labels: FloatArray
    provenance: Provenance
    processes: int
    run_file: Path

    @property
    def number(self) -> int:
        """The shard's number in the dataset."""
        return self.first_index // self.provenance.shard_size

    @property
    def path(self) -> Path:
        """Where the finished shard stands."""
        return self.dataset / SHARD_FOLDER / shard_name(self.number)


@dataclass(frozen=True)
class ShardOutcome:
    """What became of a task: `rendered` counts the images that POV-Ray made for it."""

    number: int
    count: int
    rendered: int
    status: Status


class RunEndedError(ShapesHDError):
    """The run that this task belongs to has ended."""


def render_shard(task: ShardTask) -> ShardOutcome:
    """Render one shard, or keep it if it is there and sound.

    A shard that holds the first part of what is wanted is extended: its images are copied
    and the rest is rendered. A damaged shard is rendered again. The finished file replaces
    the old one in one step.

    Raises:
        UsageError: if the shard that is there belongs to another dataset.
        RendererError: if POV-Ray is missing, of another version, or keeps failing.
    """
    reporter = _Reporter(task)
    reused, status = _inspect(task)
    if reused == len(task.labels):
        reporter.report(reused, force=True)
        return ShardOutcome(task.number, reused, 0, status)
    _require_renderer(task.provenance)
    with work_folder(task.dataset, f"{task.path.stem}-") as folder:
        partial = folder / "partial.h5"
        images = _all_images(task, reused, folder)
        try:
            with ShardWriter(partial, task.provenance, task.first_index, task.labels) as writer:
                for done, image in enumerate(images, start=1):
                    writer.append(image)
                    reporter.report(done)
                writer.finish()
        finally:
            images.close()
        task.path.parent.mkdir(exist_ok=True)
        partial.replace(task.path)
        _sync_folder(task.path.parent)
    reporter.report(len(task.labels), force=True)
    return ShardOutcome(task.number, len(task.labels), len(task.labels) - reused, status)


def _inspect(task: ShardTask) -> tuple[int, Status]:
    """Return how many of the task's images are already there, and what to call the outcome."""
    if not task.path.exists():
        return 0, "rendered"
    try:
        header, labels = check_shard(task.path)
    except DamagedShardError:
        return 0, "remade"
    if header.provenance != task.provenance or header.first_index != task.first_index:
        what = header.provenance.differences(task.provenance)
        raise UsageError(
            f"{task.path}: belongs to another dataset: "
            + ("; ".join(what) or f"it starts at image {header.first_index}")
        )
    check_same_labels(task.path, task.first_index, labels, task.labels)
    if header.count > len(task.labels):
        raise UsageError(
            f"{task.path}: already holds {header.count} images, more than asked for now; "
            "ask for at least as many, or render to another folder"
        )
    return header.count, "kept" if header.count == len(task.labels) else "extended"


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
    found = f"POV-Ray {povray.version()}"
    if found != provenance.renderer:
        raise RendererError(
            f"this machine has {found}, but the dataset is rendered with {provenance.renderer}; "
            "install the same version everywhere"
        )


def _all_images(task: ShardTask, reused: int, folder: Path) -> Generator[Image, None, None]:
    if reused:
        with open_shard(task.path) as file:
            for block in iterate_images(file, task.path):
                yield from block
    options = RenderOptions(
        task.provenance.size, task.provenance.antialias, task.provenance.antialias_depth
    )
    yield from povray.stream_images(task.labels[reused:], options, folder, task.processes)


class _Reporter:
    """Tells the run how far a task is, and the task whether its run still lives."""

    def __init__(self, task: ShardTask) -> None:
        self._task = task
        self._last = 0.0

    def report(self, done: int, *, force: bool = False) -> None:
        """Append ``number done`` to the run file, at most twice a second unless `force`."""
        now = time.monotonic()
        if now - self._last < _REPORT_SECONDS and not force:
            return
        self._last = now
        try:
            descriptor = os.open(self._task.run_file, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            raise RunEndedError("the run that started this shard has ended") from None
        try:
            os.write(descriptor, f"{self._task.number} {done}\n".encode())
        finally:
            os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
