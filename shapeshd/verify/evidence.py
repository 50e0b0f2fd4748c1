"""Reads a dataset folder for the checks: all that can be read, and what cannot."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib

from shapeshd.dataset.manifest import MANIFEST_NAME, Manifest
from shapeshd.dataset.shards import Provenance, ShardHeader, check_shard, list_shards, read_header
from shapeshd.errors import ShapesHDError, UsageError, one_line
from shapeshd.factors import FloatArray
from shapeshd.support.distributed import core_count
from shapeshd.support.progress import progress_bar

_BYTES_PER_WORKER = 32 * 2**20  # less is read before a second process has started


@dataclass(frozen=True)
class Check:
    """One check: its name, outcome and the reason.

    Args:
        name: a short fixed name.
        passed: True, False, or None if the check was not made; `detail` says why.
        detail: one line about what was looked at and found.
        problems: one line each, naming the shard file or the image.
        values: numbers for programs, such as p-values.
    """

    name: str
    passed: bool | None
    detail: str
    problems: tuple[str, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)


def outcome(name: str, detail: str, problems: list[str], **values: Any) -> Check:
    """Return a check that was made; it failed if there are problems."""
    return Check(name, not problems, detail, tuple(problems), values)


@dataclass(frozen=True)
class Evidence:
    """What was read from a dataset folder, before anything is judged.

    `headers` lacks the files without a readable header; `labels`, float64 (n, 6) each,
    lacks those whose content is damaged as well.
    """

    dataset: Path
    paths: list[Path]
    headers: dict[Path, ShardHeader]
    labels: dict[Path, FloatArray]
    damage: list[str]
    manifest: Manifest | None
    manifest_json: dict[str, Any]
    manifest_problem: str
    provenance: Provenance | None  # the manifest's; without one, that of most shards

    @property
    def asked(self) -> int:
        """How many images were asked for, as far as one can tell."""
        if self.manifest is not None:
            return self.manifest.count
        return max((h.first_index + h.count for h in self.headers.values()), default=0)


def describe_images(first: int, stop: int) -> str:
    """Name the images [first, stop) in a message."""
    return f"images {first} to {stop - 1}" if stop - first > 1 else f"image {first}"


def collect(dataset: Path, jobs: int | None) -> Evidence:
    """Read the whole dataset folder, with a progress bar.

    Args:
        dataset: the folder.
        jobs: processes that read; by default one a core, and one alone for a small set.

    Raises:
        UsageError: if `dataset` is no dataset folder.
    """

    if not dataset.is_dir():
        raise UsageError(f"{dataset}: {'not a folder' if dataset.exists() else 'no such folder'}")
    paths = list_shards(dataset)
    if not paths and not (dataset / MANIFEST_NAME).exists():
        raise UsageError(f"{dataset}: no dataset of 3DShapesHD (no shards, no {MANIFEST_NAME})")
    manifest, value, manifest_problem = _read_manifest(dataset / MANIFEST_NAME)

    headers, labels, damage = {}, {}, []
    for path in paths:
        header, _, _ = _attempt(path, whole=False)
        if header is not None:
            headers[path] = header
    if jobs is None:
        size = sum(path.stat().st_size for path in paths)
        jobs = min(core_count(), 1 + size // _BYTES_PER_WORKER)
    workers = max(1, min(jobs, len(paths)))
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator")
    outcomes = parallel(joblib.delayed(_attempt)(path, whole=True) for path in paths)
    with progress_bar(sum(header.count for header in headers.values()), "verify") as bar:
        for path, (_, content, problem) in zip(paths, outcomes, strict=True):
            if content is None:
                damage.append(problem)
            else:
                labels[path] = content
            bar.update(headers[path].count if path in headers else 0)

    found = Counter(header.provenance for header in headers.values()).most_common(1)
    provenance = manifest.provenance if manifest else found[0][0] if found else None
    return Evidence(
        dataset, paths, headers, labels, damage, manifest, value, manifest_problem, provenance
    )


def _attempt(path: Path, *, whole: bool) -> tuple[ShardHeader | None, FloatArray | None, str]:
    """Read a shard, or its header alone: (header, labels, problem)."""
    try:
        if whole:
            return *check_shard(path), ""
        return read_header(path), None, ""
    except ShapesHDError as error:
        return None, None, str(error)
    except Exception as error:  # HDF5 and NumPy raise anything on arbitrary bytes
        what = one_line(error)
        return None, None, f"{path}: cannot be read ({type(error).__name__}: {what})"


def _read_manifest(path: Path) -> tuple[Manifest | None, dict[str, Any], str]:
    """Return the manifest, the same as JSON values, and what is wrong with it."""
    if not path.exists():
        return None, {}, f"{path}: is missing; `shapeshd render` on this dataset writes it anew"
    try:
        return Manifest.read(path), json.loads(path.read_bytes()), ""
    except OSError as error:
        return None, {}, f"{path}: cannot be read ({error})"
    except UsageError as error:
        return None, {}, str(error)
