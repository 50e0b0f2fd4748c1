"""``shapeshd preview``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shapeshd.errors import UsageError

from .command import Command
from .options import Dataset, Source, json_option

if TYPE_CHECKING:
    from shapeshd.dataset.preview import Preview
    from shapeshd.dataset.render_spec import RenderSpec

_PATH = click.Path(path_type=Path)
_NOT_WITH_A_SWEEP = ("count", "start", "random", "seed", "labels")


@click.command(
    "preview",
    cls=Command,
    sections={
        "What is shown": ["--factors", "--sweep", "--count", "--start", "--random", "--seed"],
        "The sheet": ["--size", "--columns", "--thumbnail", "--labels"],
        "Output": ["--json", "--help"],
    },
    examples={
        "shapeshd preview data sheet.png": "The first 64 images of a dataset.",
        "shapeshd preview data sheet.png --random --labels": "Random ones, with their factors.",
        "shapeshd preview sweep.png --sweep": "Each factor from end to end.",
    },
)
@click.argument("paths", type=Source(), nargs=-1, metavar="[DATASET] OUT.png")
@click.option("--factors", type=_PATH, help="Render the rows of this CSV table instead.")
@click.option("--sweep", is_flag=True, help="Render one row per factor, from end to end, instead.")
@click.option(
    "--size",
    type=int,
    metavar="PX",
    help="Render images of PX pixels a side, with --factors or --sweep.  [default: 128]",
)
@click.option("--count", type=int, metavar="N", help="Show N images.  [default: 64]")
@click.option(
    "--start", type=int, metavar="N", help="Begin with the image of this index.  [default: 0]"
)
@click.option("--random", is_flag=True, help="Show random images, from --start on.")
@click.option(
    "--seed", type=int, metavar="N", help="Draw the random images from this seed.  [default: 0]"
)
@click.option(
    "--columns",
    type=int,
    default=8,
    show_default=True,
    metavar="N",
    help="Put N images in a row.",
)
@click.option(
    "--thumbnail",
    type=int,
    metavar="PX",
    help="Draw images PX pixels large.  [default: as they are]",
)
@click.option("--labels", is_flag=True, help="Write its factors below each image.")
@json_option
def command(paths: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Draw a contact sheet into OUT.png (or .jpg, .webp).

    It shows images of DATASET (a dataset folder, a file in the form of 3dshapes.h5, or
    render:SEED:COUNT[,size=PX][,start=N][,device=NAME] for images that are made as they are
    read), the rows of a table (--factors FILE.csv), or a sweep through each factor (--sweep).
    """
    from shapeshd.dataset.preview import (
        Selection,
        SheetLayout,
        preview_dataset,
        preview_sweep,
        preview_table,
    )
    from shapeshd.support.progress import emit

    dataset, out = _check_usage(paths, options)
    layout = SheetLayout(options["columns"], options["thumbnail"], options["labels"])
    seed = (options["seed"] or 0) if options["random"] else None
    count = 64 if options["count"] is None else options["count"]
    selection = Selection(count, options["start"] or 0, seed)
    size = 128 if options["size"] is None else options["size"]
    if options["sweep"]:
        result = preview_sweep(out, layout, size)
    elif options["factors"] is not None:
        result = preview_table(options["factors"], out, selection, layout, size)
    else:
        assert dataset is not None
        result = preview_dataset(dataset, out, selection, layout)
    emit(result.to_json(), _describe(result), as_json=as_json)


def _check_usage(
    paths: tuple[str, ...], options: dict[str, Any]
) -> tuple[Path | RenderSpec | None, Path]:
    """Return (DATASET or None, OUT), or raise `UsageError` if the arguments do not fit."""
    sources = [name for name in ("factors", "sweep") if options[name]]
    if len(sources) > 1:
        raise UsageError("--factors and --sweep do not go together")
    wanted = ["OUT.png"] if sources else ["DATASET", "OUT.png"]
    if len(paths) != len(wanted):
        given = f"with --{sources[0]}" if sources else "without --factors or --sweep"
        raise UsageError(
            f"preview {given} takes {' and '.join(wanted)}, but {len(paths)} paths are given"
        )
    if options["size"] is not None and not sources:
        raise UsageError("--size is for --factors and --sweep; use --thumbnail")
    if options["seed"] is not None and not options["random"]:
        raise UsageError("--seed goes with --random")
    if options["sweep"]:
        for name in _NOT_WITH_A_SWEEP:
            if options[name] is not None and options[name] is not False:  # 0 is a value
                raise UsageError(f"--{name} has no meaning with --sweep")
    dataset = None if sources else Dataset().convert(paths[0], None, None)
    return dataset, Path(paths[-1])


def _describe(result: Preview) -> str:
    return (
        f"{result.out}: {len(result.indices):,} of {result.available:,} images, "
        f"{result.width}x{result.height} pixels"
    )
