"""The checks of `verify` on a dataset's files: digests, places, manifest, virtual dataset."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shapeshd.dataset.manifest import MANIFEST_NAME, VIRTUAL_NAME
from shapeshd.dataset.shards import (
    SHARD_FOLDER,
    open_hdf5,
    open_shard,
    shard_name,
    shard_number,
)
from shapeshd.factors import FACTORS

from .evidence import Check, Evidence, describe_images, outcome


def check_digests(evidence: Evidence) -> Check:
    """Every shard can be read whole and holds what its digests say."""
    sound = sum(len(labels) for labels in evidence.labels.values())
    detail = f"{len(evidence.labels)} of {len(evidence.paths)} shards are sound: {sound} images"
    return outcome("digests", detail, evidence.damage)


def check_provenance(evidence: Evidence) -> Check:
    """All shards are of one dataset."""
    reference = evidence.provenance
    if reference is None:
        return Check("provenance", None, "not checked: no shard can be read")
    problems = [
        f"{path}: belongs to another dataset: {'; '.join(header.provenance.differences(reference))}"
        for path, header in evidence.headers.items()
        if header.provenance != reference
    ]
    drawn = reference.sampling in ("uniform", "distribution")
    seed = f" with seed {reference.seed}" if drawn else ""
    detail = (
        f"{reference.sampling}{seed}, {reference.size}x{reference.size} pixels, "
        f"{reference.renderer}"
    )
    return outcome("provenance", detail, problems)


def check_names(evidence: Evidence) -> Check:
    """Every shard stands under the name that its first image decides."""
    problems = []
    for path, header in evidence.headers.items():
        wanted = (shard_number(path) or 0) * header.provenance.shard_size
        if header.first_index != wanted:
            problems.append(
                f"{path}: starts at image {header.first_index}, but a file of this name "
                f"at image {wanted}"
            )
    return outcome("file names", f"{len(evidence.headers)} names against the first image", problems)


def check_sizes(evidence: Evidence) -> Check:
    """Every shard but the last is full, and the last ends where the dataset does."""
    problems = []
    for path, header in evidence.headers.items():
        wanted = max(0, min(header.provenance.shard_size, evidence.asked - header.first_index))
        if header.count != wanted:
            problems.append(
                f"{path}: holds {header.count} images from {header.first_index} on, not {wanted} "
                f"(shard size {header.provenance.shard_size}, {evidence.asked} images asked for)"
            )
    return outcome("shard sizes", "every shard but the last is full", problems)


def _spans(evidence: Evidence) -> list[tuple[int, int, Path]]:
    """Return (first, one past the last, file) in order; an unreadable shard by its name."""
    spans = []
    for path in evidence.paths:
        if path in evidence.headers:
            header = evidence.headers[path]
            spans.append((header.first_index, header.first_index + header.count, path))
        elif evidence.provenance is not None:
            size = evidence.provenance.shard_size
            first = (shard_number(path) or 0) * size
            spans.append((first, max(first, min(first + size, evidence.asked)), path))
    return sorted(spans)


def check_coverage(evidence: Evidence) -> Check:
    """Every image is in one shard, and in one only."""
    if evidence.provenance is None:
        return Check("gaps and doubles", None, "not checked: no shard can be read")
    problems: list[str] = []
    reached, holder = 0, evidence.dataset
    for first, stop, path in _spans(evidence):
        if first > reached:
            problems.append(
                f"{evidence.dataset}: no shard holds the {describe_images(reached, first)}"
            )
        elif first < min(reached, stop):
            doubled = describe_images(first, min(reached, stop))
            problems.append(f"{path}: the {doubled} are also in {holder.name}")
        if stop > reached:
            reached, holder = stop, path
    if reached < evidence.asked:
        missing = describe_images(reached, evidence.asked)
        problems.append(f"{evidence.dataset}: no shard holds the {missing}")
    return outcome("gaps and doubles", f"images 0 to {evidence.asked - 1}, each once", problems)


def shards_to_render(evidence: Evidence) -> list[tuple[int, int]]:
    """Return the shards that are missing or not sound, as half-open intervals of their numbers."""
    provenance = evidence.provenance
    if provenance is None:
        return []
    size = provenance.shard_size
    spans: list[tuple[int, int]] = []
    for number in range(-(-evidence.asked // size)):
        path = evidence.dataset / SHARD_FOLDER / shard_name(number)
        header = evidence.headers.get(path)
        first = number * size
        if (
            path in evidence.labels
            and header is not None
            and header.provenance == provenance
            and (header.first_index, header.count) == (first, min(size, evidence.asked - first))
        ):
            continue
        if spans and spans[-1][1] == number:
            spans[-1] = (spans[-1][0], number + 1)
        else:
            spans.append((number, number + 1))
    return spans


def check_manifest(evidence: Evidence) -> Check:
    """``manifest.json`` lists the shards that there are, with their digests."""
    manifest = evidence.manifest
    if manifest is None:
        return Check("manifest", False, "missing or unreadable", (evidence.manifest_problem,))
    where = evidence.dataset / MANIFEST_NAME
    problems = []
    listed = {evidence.dataset / entry.file: entry for entry in manifest.shards}
    for path in evidence.paths:
        entry = listed.pop(path, None)
        if entry is None:
            problems.append(f"{path}: is not in {where.name}")
            continue
        actual: dict[str, Any] = {"bytes": path.stat().st_size}
        if path in evidence.headers:
            actual |= asdict(evidence.headers[path])
        problems += [
            f"{path}: {name} is {actual[name]!r}, but {where.name} says {said!r}"
            for name, said in asdict(entry).items()
            if name in actual and actual[name] != said
        ]
    problems += [f"{path}: is missing, but {where.name} lists it" for path in listed]
    for name, value in manifest.to_json().items():
        if name in ("available", "complete") and evidence.manifest_json.get(name) != value:
            problems.append(f"{where}: its own list of shards means {name} = {value}")
    return outcome("manifest", f"{len(manifest.shards)} entries against the shards", problems)


def check_virtual(evidence: Evidence) -> Check:
    """``dataset.h5`` of a complete set gives every shard's images and labels."""
    path, manifest = evidence.dataset / VIRTUAL_NAME, evidence.manifest
    if manifest is None or not manifest.complete:
        return Check(VIRTUAL_NAME, None, "not checked: the dataset is not complete")
    if not path.exists():
        problem = f"{path}: is missing; `shapeshd render` on this dataset writes it anew"
        return Check(VIRTUAL_NAME, False, "missing", (problem,))
    count, size = manifest.count, manifest.provenance.size
    forms = {"images": ((count, size, size, 3), "u1"), "labels": ((count, len(FACTORS)), "<f8")}
    try:
        with open_hdf5(path) as file:
            problems = [
                f"{path}: {name} has the form {file[name].shape}, {file[name].dtype}, not {form}"
                for name, form in forms.items()
                if (file[name].shape, file[name].dtype) != (form[0], np.dtype(form[1]))
            ]
            if not problems:
                problems = _virtual_problems(file, evidence)
    except (OSError, RuntimeError, KeyError, AttributeError, ValueError) as error:
        problems = [f"{path}: cannot be read as the whole dataset ({error})"]
    return outcome(VIRTUAL_NAME, f"images and labels of all {count} images", problems)


def _virtual_problems(file: h5py.File, evidence: Evidence) -> list[str]:
    """Compare what the virtual dataset gives for each shard with the shard itself.

    HDF5 gives zeros, without an error, where a source is missing or mapped wrongly.
    """
    problems = []
    for path, labels in evidence.labels.items():
        first = evidence.headers[path].first_index
        stop = first + len(labels)
        with open_shard(path) as shard:
            same = (
                0 <= first < stop <= len(file["images"])
                and np.array_equal(file["labels"][first:stop], labels)
                and np.array_equal(file["images"][first], shard["images"][0])
                and np.array_equal(file["images"][stop - 1], shard["images"][-1])
            )
        if not same:
            problems.append(f"{path}: {VIRTUAL_NAME} gives other images or labels than this shard")
    return problems
