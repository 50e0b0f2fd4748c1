"""``shapeshd export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shapeshd.dataset.export.format_names import FORMATS, LABELS

from .command import Command
from .options import Dataset, Jobs, NewPath, json_option

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec


@click.command(
    "export",
    cls=Command,
    examples={
        "shapeshd export data images --format folder": "A folder of PNG files.",
        "shapeshd export data data.zip --format stylegan-zip": "For NVlabs' trainers.",
        "shapeshd export data table --format parquet --split train=0.9,test=0.1": "For Hugging "
        "Face's datasets, in two splits.",
        "shapeshd export render:0:50000,size=64 shards --format webdataset": "Without a dataset "
        "on disk.",
    },
)
@click.argument("dataset", type=Dataset())
@click.argument("out", type=NewPath())
@click.option(
    "--format",
    type=click.Choice(list(FORMATS)),
    required=True,
    help=f"Write a {', '.join(list(FORMATS.values())[:-1])}, or {list(FORMATS.values())[-1]}.",
)
@click.option(
    "--per-file",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Write N images into each file (webdataset, parquet).",
)
@click.option(
    "--labels",
    type=click.Choice(list(LABELS)),
    default="none",
    show_default=True,
    help="Give StyleGAN these labels to condition on (stylegan-zip). labels.csv always has all "
    "factors.",
)
@click.option(
    "--split",
    metavar="NAME=SHARE,...",
    help="Cut the images into splits by index, such as train=0.9,test=0.1: the first split has "
    "the first images. OUT is then a folder with a file or folder for each.",
)
@click.option(
    "--allow-incomplete", is_flag=True, help="Export the images that an unfinished dataset has."
)
@click.option(
    "--jobs", type=Jobs(), default="auto", show_default=True, help="Read and encode in N threads."
)
@json_option
def command(dataset: Path | RenderSpec, out: Path, as_json: bool, **options: Any) -> None:
    """Write DATASET (a dataset folder, a shard, or 3dshapes.h5) to OUT for another trainer.

    DATASET can also be render:SEED:COUNT[,size=PX][,start=N][,device=NAME]: images that are
    made as they are read. The pixels stay what they are, bit for bit. OUT must not exist, and
    appears when it is complete. A folder holds a dataset card, README.md, and export.json.
    """
    import dataclasses

    from shapeshd.dataset.export import export_dataset, parse_splits
    from shapeshd.dataset.shapes_hd import open_dataset
    from shapeshd.support.progress import emit, human_bytes, human_time

    split = options.pop("split")
    splits = None if split is None else parse_splits(split)
    images = open_dataset(dataset, allow_incomplete=options.pop("allow_incomplete"))
    result = export_dataset(images, out, splits=splits, progress=True, **options)
    text = (
        f"{result.path}: {result.images:,} images, {human_bytes(result.bytes)} in "
        f"{result.files:,} files ({human_time(result.seconds)})"
    )
    emit(dataclasses.asdict(result) | {"path": str(result.path)}, text, as_json=as_json)
