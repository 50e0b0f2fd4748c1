"""What a dataset holds and how it was made: a folder, a file like 3dshapes.h5, or no file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shapeshd.errors import DamagedShardError, UsageError, one_line
from shapeshd.factors import FACTORS, SHAPES, FloatArray, uniform_factors
from shapeshd.render.engines import is_scene_installed
from shapeshd.scene.render_options import RenderOptions

from .hdf5_files import check_virtual
from .manifest import MANIFEST_NAME, manifest_of_what_is_there
from .render_spec import RenderSpec
from .shards import open_hdf5, open_shard, read_labels

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


def open_image_file(path: Path) -> h5py.File:
    """Open one HDF5 file in the form of 3dshapes.h5 for reading.

    It holds ``images``, uint8 (n, H, W, 3), and ``labels``, (n, 6) numbers.

    Raises:
        UsageError: if there is no such file, or it has another form.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder")
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401 - registers zstd, which such a file may use
    try:
        file = open_hdf5(path)
    except OSError as error:
        what = one_line(error)
        raise UsageError(
            f"{path}: neither a dataset folder nor an HDF5 file that can be read ({what})"
        ) from None
    found = {name: file.get(name) for name in ("images", "labels")}
    forms = {
        name: (item.shape, item.dtype) if isinstance(item, h5py.Dataset) else None
        for name, item in found.items()
    }
    if _is_image_form(forms["images"], forms["labels"]):
        if file["images"].is_virtual:
            check_virtual(file["images"], path)
        return file
    names = ", ".join(sorted(file)) or "nothing"
    file.close()
    raise UsageError(
        f"{path}: not in the form of 3dshapes.h5: images (n, H, W, 3) uint8 and labels "
        f"(n, {len(FACTORS)}) are needed, but it holds {names}"
    )


def _is_image_form(images: Any, labels: Any) -> bool:
    if images is None or labels is None:
        return False
    (shape, dtype), (label_shape, label_dtype) = images, labels
    return (
        len(shape) == 4
        and shape[3] == 3
        and dtype == np.uint8
        and label_shape == (shape[0], len(FACTORS))
        and np.issubdtype(label_dtype, np.number)
    )


def _describe_file(path: Path) -> dict[str, Any]:
    with open_image_file(path) as file:
        images = file["images"]
        try:
            labels = file["labels"][()].astype(np.float64)
        except (OSError, RuntimeError) as error:
            raise DamagedShardError(f"{path}: its labels cannot be read ({error})") from None
        return {
            "kind": "file",
            "path": str(path),
            "available": int(images.shape[0]),
            "height": int(images.shape[1]),
            "width": int(images.shape[2]),
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
        "bytes": 0,
        "summarised": summarised,
        "factors": _describe_factors(
            uniform_factors(spec.seed, spec.start, spec.start + summarised)
        ),
    }


def _describe_folder(path: Path) -> dict[str, Any]:
    manifest = manifest_of_what_is_there(path)
    provenance = manifest.provenance
    parts = [np.empty((0, len(FACTORS)))]
    for shard in manifest.shards:
        with open_shard(path / shard.file) as file:
            parts.append(read_labels(file, path / shard.file))
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
