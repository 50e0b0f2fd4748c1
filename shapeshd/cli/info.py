"""``shapeshd info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shapeshd.errors import UsageError

from .command import Command
from .options import MODEL, DatasetOrModel, json_option

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec

_SHOWN_GAPS = 5


@click.command(
    "info",
    cls=Command,
    examples={
        "shapeshd info data": "What a folder of shards holds.",
        "shapeshd info 3dshapes.h5 --json": "The same of the original file, as JSON.",
        "shapeshd info model:": "The trained generators that come with the program.",
        "shapeshd info model:mini/contrast": "How one of them was trained, and its score.",
    },
)
@click.argument("dataset", type=DatasetOrModel())
@json_option
def command(dataset: Path | RenderSpec | str, as_json: bool) -> None:
    """Say what DATASET holds and how it was made.

    DATASET is a folder that `shapeshd render` wrote, finished or not, one HDF5 file in the
    form of the original 3dshapes.h5, or render:SEED:COUNT[,size=PX][,start=N][,device=NAME]:
    images that are made as they are read. Or it is model:NAME, a trained generator that comes with
    the program; model: alone lists these.
    """
    from shapeshd.support.progress import emit

    if isinstance(dataset, str):
        from .info_model import describe_shipped

        emit(*describe_shipped(dataset.removeprefix(MODEL)), as_json=as_json)
        return
    if isinstance(dataset, Path) and dataset.suffix == ".safetensors":
        raise UsageError(
            f"{dataset}: is a checkpoint: info takes datasets, and model:NAME for what comes with "
            "the program; what a training of yours gave is in RUN/PHASE/result.json"
        )
    from shapeshd.dataset.info import describe_dataset

    found = describe_dataset(dataset)
    emit(found, _describe(found), as_json=as_json)


def _describe(found: dict[str, Any]) -> str:
    from shapeshd.support.progress import human_bytes

    rows = [("images", _images(found)), ("size", f"{found['width']}x{found['height']} pixels")]
    if found["kind"] == "dataset":
        rows += _origin(found)
    elif found["kind"] == "rendered":
        rows += _recipe(found)
    disk = human_bytes(found["bytes"])
    if found["kind"] == "rendered":
        disk = "nothing: each image is made as it is read"
    elif found.get("virtual"):
        disk += " (a virtual dataset: the images are in other files)"
    elif found["available"]:
        disk += f", {human_bytes(found['bytes'] / found['available'])} an image"
    rows.append(("on disk", disk))
    lines = [found["path"], *(f"  {name:12}  {text}" for name, text in rows)]
    lines += _factors(found["factors"])
    if found.get("summarised", found["available"]) < found["available"]:
        lines.append(f"  (of the first {found['summarised']:,} images)")
    return "\n".join(lines)


def _images(found: dict[str, Any]) -> str:
    available = f"{found['available']:,}"
    if found["kind"] == "rendered":
        return f"{available}, from index {found['start']:,}"
    if found["kind"] == "file":
        return available
    if found["asked"] is None:
        return f"{available}; how many were asked for is not recorded (no manifest.json)"
    if found["complete"]:
        return f"{available}, complete"
    gaps = [f"{first}-{stop - 1}" for first, stop in found["gaps"]]
    missing = ", ".join(gaps[:_SHOWN_GAPS]) + (", ..." if len(gaps) > _SHOWN_GAPS else "")
    return f"{available} of {found['asked']:,}; missing: {missing or 'none, but some are double'}"


def _origin(found: dict[str, Any]) -> list[tuple[str, str]]:
    origin = found["provenance"]
    from shapeshd.distribution import Distribution

    sampling, seed = origin["sampling"], f", seed {origin['seed']}"
    if sampling == "distribution":
        sampling = f"distribution {Distribution.from_text(origin['distribution'])}"
    same = "as installed" if found["templates_installed"] else "not those installed"
    return [
        ("shards", f"{found['shards']:,}, of {origin['shard_size']:,} images"),
        ("compression", origin["compression"]),
        (
            "sampling",
            sampling + (seed if origin["sampling"] in ("uniform", "distribution") else ""),
        ),
        ("renderer", f"{origin['renderer']} (engine {origin['engine']})"),
        ("antialiasing", _antialiasing(origin)),
        ("scene", f"version {_version(found)}, templates {origin['scene_sha256'][:16]} ({same})"),
    ]


def _recipe(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("sampling", f"uniform, seed {found['seed']}"),
        ("scene", f"version {_version(found)}"),
        ("engine", f"{found['engine']}, the PyTorch ray tracer, on {found['device']}"),
        ("antialiasing", _antialiasing(found)),
    ]


def _version(found: dict[str, Any]) -> str:
    version = found["scene_version"]
    return "unknown" if version is None else str(version)


def _antialiasing(options: dict[str, Any]) -> str:
    if options["antialias"] is None:
        return "none"
    return f"threshold {options['antialias']:g}, depth {options['antialias_depth']}"


def _factors(factors: list[dict[str, Any]]) -> list[str]:
    if not factors:
        return []
    lines = [f"  {'factor':12}  {'lowest':>9}  {'highest':>9}  {'mean':>9}  {'values':>9}"]
    for factor in factors:
        numbers = "  ".join(f"{factor[key]:9.4f}" for key in ("min", "max", "mean"))
        lines.append(f"  {factor['name']:12}  {numbers}  {factor['distinct']:9,}")
    counts = next(factor["counts"] for factor in factors if "counts" in factor)
    lines.append("  shapes        " + ", ".join(f"{n:,} {name}" for name, n in counts.items()))
    return lines
