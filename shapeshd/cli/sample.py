"""``shapeshd sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (
    NewPath,
    Source,
    device_option,
    json_option,
    pick_device,
    seed_option,
    trust_option,
)
from .source_options import GeneratorCommand, generator_options, options_of, source_options

_OPTIONS = generator_options()


@click.command(
    "sample",
    cls=GeneratorCommand,
    sections={
        "Which images": ["--count", "--start", "--seed", "--columns"],
        "What the generator draws": options_of("generator", *_OPTIONS),
        "How its images are read": options_of("images", *_OPTIONS),
        "How it runs": ["--device", *options_of("process", *_OPTIONS), "--trust"],
        "Output": ["--json", "--help"],
    },
    examples={
        "shapeshd sample run/gan/generator.safetensors sheet.png": "A sheet of 64 images.",
        "shapeshd sample model:mini/contrast sheet.png": "Of a generator that comes along.",
        "shapeshd sample generator.onnx images.zip --count 50000": "As files.",
        "shapeshd sample network.pkl sheet.png --truncation 0.5": "Closer to the average.",
    },
)
@click.argument("checkpoint", type=Source())
@click.argument("out", type=NewPath())
@click.option(
    "--count", type=int, default=64, show_default=True, metavar="N", help="Draw N images."
)
@click.option(
    "--start",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Begin with the sample of this number.",
)
@seed_option("Draw the latents from this seed.")
@click.option(
    "--columns", type=int, metavar="N", help="Put N images in a row of the sheet.  [default: 8]"
)
@device_option
@source_options(*_OPTIONS)
@trust_option("CHECKPOINT")
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
    with open_generator(
        checkpoint,
        seed=options["seed"],
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
            "seed": options["seed"],
            **source.describe(),
            **made.to_json(),
        }
    text = (
        f"{out}: {made.images:,} images of {made.width}x{made.height} pixels, samples "
        f"{made.start:,} to {made.start + made.images - 1:,} of seed {options['seed']}"
    )
    emit(result, text, as_json=as_json)
