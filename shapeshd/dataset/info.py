"""Describes a dataset: a folder, a file like 3dshapes.h5, or images traced as they are read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from shapeshd.engines.engine import is_scene_installed
from shapeshd.errors import DamagedShardError, UsageError
from shapeshd.factors import FACTORS, SHAPES, FloatArray, uniform_factors
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.version import SCENE_VERSION, scene_version

from .hdf5_arrays import check_virtual
from .hdf5_reader import check_form, open_file
from .manifest import MANIFEST_NAME, manifest_of_available_shards
from .render_spec import RenderSpec
from .shards import open_shard, read_labels

_SUMMARISED = 1_000_000


def describe_dataset(path: Path | RenderSpec) -> dict[str, Any]:
    """Say what the dataset `path` holds, as JSON values.

    Args:
        path: a dataset folder, complete or not, one HDF5 file in the form of 3dshapes.h5, or
            images that are made as they are read.

    Returns:
        ``kind`` ("dataset", "file" or "rendered"), ``path``, ``available`` images, ``height``
        and ``width`` in pixels, ``bytes`` on disk and ``factors``; of a folder also ``asked``
        (None if it is not recorded), ``gaps`` (half-open), ``shards``, ``provenance`` and
        ``templates_installed``: whether the installed templates are those of the dataset;
        of rendered images ``seed``, ``start``, ``device``, ``engine``, ``antialias``,
        ``antialias_depth`` and ``summarised``: of how many images ``factors`` tells.

    Raises:
        UsageError: if `path` is nothing of that, or the device cannot be used.
        DamagedShardError: if a shard's header or labels cannot be read.
    """
    if isinstance(path, RenderSpec):
        return _describe_rendered(path)
    return _describe_folder(path) if path.is_dir() else _describe_file(path)


def _describe_file(path: Path) -> dict[str, Any]:
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401 - registers zstd, which such a file may use
    with open_file(path) as file:
        count, (height, width, _) = check_form(file, path)
        images = file["images"]
        if images.is_virtual:
            check_virtual(images, path)
        try:
            labels = file["labels"][()].astype(np.float64)
        except (OSError, RuntimeError) as error:
            raise DamagedShardError(f"{path}: its labels cannot be read ({error})") from None
        return {
            "kind": "file",
            "path": str(path),
            "available": count,
            "height": height,
            "width": width,
            "bytes": path.stat().st_size,
            "virtual": bool(images.is_virtual),
            "factors": _describe_factors(labels),
        }


def _describe_rendered(spec: RenderSpec) -> dict[str, Any]:
    from .shapes_hd import open_dataset  # imports torch, which the rest here does without

    open_dataset(spec)  # raises if the device cannot be used
    summarised = min(spec.count, _SUMMARISED)
    options = RenderOptions(spec.size)
    return {
        "kind": "rendered",
        "path": str(spec),
        "available": spec.count,
        "seed": spec.seed,
        "start": spec.start,
        "height": spec.size,
        "width": spec.size,
        "engine": "torch",
        "device": spec.device,
        "antialias": options.antialias,
        "antialias_depth": options.antialias_depth,
        "scene_version": SCENE_VERSION,
        "bytes": 0,
        "summarised": summarised,
        "factors": _describe_factors(
            uniform_factors(spec.seed, spec.start, spec.start + summarised)
        ),
    }


def _describe_folder(path: Path) -> dict[str, Any]:
    manifest = manifest_of_available_shards(path)
    provenance = manifest.provenance
    parts = [np.empty((0, len(FACTORS)))]
    for shard in manifest.shards:
        with open_shard(path / shard.file) as file:
            parts.append(read_labels(file, path / shard.file))
        if len(parts[-1]) != shard.count:
            raise UsageError(
                f"{path / MANIFEST_NAME}: says that {shard.file} holds {shard.count:,} images, but "
                f"it holds {len(parts[-1]):,}; delete it, and it is derived from the shards again"
            )
    recorded = (path / MANIFEST_NAME).exists()
    return {
        "kind": "dataset",
        "path": str(path),
        "available": manifest.available,
        "asked": manifest.count if recorded else None,
        "complete": manifest.complete and recorded,
        "gaps": [list(gap) for gap in manifest.gaps()],
        "height": provenance.size,
        "width": provenance.size,
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "scene_version": scene_version(provenance.scene_sha256),
        "provenance": provenance.to_json(),
        "templates_installed": is_scene_installed(provenance.engine, provenance.scene_sha256),
        "factors": _describe_factors(np.concatenate(parts)),
    }


def _describe_factors(labels: FloatArray) -> list[dict[str, Any]]:
    """Summarise each column of labels, float64 (n, 6); nothing of an empty set."""
    if not len(labels):
        return []
    described = []
    for column, factor in enumerate(FACTORS):
        values, counts = np.unique(labels[:, column], return_counts=True)
        entry: dict[str, Any] = {
            "name": factor.name,
            "unit": factor.unit,
            "min": float(values[0]),
            "max": float(values[-1]),
            "mean": float(labels[:, column].mean()),
            "distinct": len(values),
        }
        if factor.topology == "discrete":
            numbers = dict(zip(values.tolist(), counts.tolist(), strict=True))
            entry["counts"] = {name: numbers.get(index, 0) for index, name in enumerate(SHAPES)}
        described.append(entry)
    return described
