"""``shapeshd info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .params import json_option

_SHOWN_GAPS = 5


@click.command("info")
@click.argument("dataset", type=click.Path(path_type=Path))
@json_option
def command(dataset: Path, as_json: bool) -> None:
    """Say what DATASET holds and how it was made.

    DATASET is a folder that `shapeshd render` wrote, finished or not, or one HDF5 file in
    the form of the original 3dshapes.h5.
    """
    from ..info import describe_dataset
    from ..progress import emit

    found = describe_dataset(dataset)
    emit(found, _describe(found), as_json=as_json)


def _describe(found: dict[str, Any]) -> str:
    from ..progress import human_bytes

    rows = [("images", _images(found)), ("size", f"{found['width']}x{found['height']} pixels")]
    if found["kind"] == "dataset":
        rows += _origin(found)
    disk = human_bytes(found["bytes"])
    if found.get("virtual"):
        disk += " (a virtual dataset: the images are in other files)"
    elif found["available"]:
        disk += f", {human_bytes(found['bytes'] / found['available'])} an image"
    rows.append(("on disk", disk))
    lines = [found["path"], *(f"  {name:12}  {text}" for name, text in rows)]
    return "\n".join([*lines, *_factors(found["factors"])])


def _images(found: dict[str, Any]) -> str:
    available = f"{found['available']:,}"
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
    seed = f", seed {origin['seed']}" if origin["sampling"] == "uniform" else ""
    antialias = "none"
    if origin["antialias"] is not None:
        antialias = f"threshold {origin['antialias']:g}, depth {origin['antialias_depth']}"
    same = "as installed" if found["templates_installed"] else "not those installed"
    return [
        ("shards", f"{found['shards']:,}, of {origin['shard_size']:,} images"),
        ("compression", origin["compression"]),
        ("sampling", origin["sampling"] + seed),
        ("renderer", f"{origin['renderer']} (engine {origin['engine']})"),
        ("antialiasing", antialias),
        ("templates", f"{origin['scene_sha256'][:16]} ({same})"),
    ]


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
