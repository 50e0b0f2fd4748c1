"""``shapeshd sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import NewPath, device_option, json_option, pick_device
from .source_options import GeneratorCommand, source_options


@click.command("sample", cls=GeneratorCommand)
@click.argument("checkpoint")
@click.argument("out", type=NewPath())
@click.option("--count", type=int, default=64, show_default=True, help="Images to draw.")
@click.option("--start", type=int, default=0, show_default=True, help="Number of the first.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the latents.")
@device_option
@click.option(
    "--truncation",
    type=float,
    default=1.0,
    show_default=True,
    metavar="0..1",
    help="Below 1, draw each w to the average: better images, less variety.",
)
@click.option("--columns", type=int, help="Images in a row of the sheet.  [default: 8]")
@source_options("batch", "latent_dim", "latent_shape", "range", "frame_size")
@click.option(
    "--trust", is_flag=True, help="Run the code that comes with CHECKPOINT, or that it is."
)
@json_option
def command(checkpoint: str, out: Path, as_json: bool, **options: Any) -> None:
    """Draw images from the generator CHECKPOINT into OUT.

    OUT is a contact sheet if it ends in .png (or .jpg, .webp), a .zip of PNG files, or a folder of
    them. CHECKPOINT is a generator, see below. Seed and number alone decide an image: it is the
    one that `shapeshd score` counts under that number.
    """
    from shapeshd.benchmark.sources import SourceOptions
    from shapeshd.benchmark.sources.open import check_source

    given = SourceOptions.given(options)
    check_source(checkpoint, trust=options["trust"], options=given)  # before PyTorch is imported

    from shapeshd.models.sample import SampleRange, draw_samples, open_generator
    from shapeshd.support.progress import emit

    choice = SampleRange(options["count"], options["start"])
    how = {"seed": options["seed"], "truncation": options["truncation"]}
    with open_generator(
        checkpoint,
        **how,
        trust=options["trust"],
        device=pick_device(options["device"]),
        options=given,
    ) as source:
        made = draw_samples(
            source, out, choice, batch=given.batch, columns=options["columns"], progress=True
        )
        result = {
            "generator": checkpoint,
            "kind": source.kind,
            **how,
            **source.describe(),
            **made.to_json(),
        }
    text = (
        f"{out}: {made.images:,} images of {made.width}x{made.height} pixels, samples "
        f"{made.start:,} to {made.start + made.images - 1:,} of seed {options['seed']}"
    )
    emit(result, text, as_json=as_json)
