"""``shapeshd disentangle``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .command import Command
from .options import (
    Dataset,
    device_option,
    json_option,
    pick_device,
    seed_option,
    trust_option,
)

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec


@click.command(
    "disentangle",
    cls=Command,
    sections={
        "What the encoder takes": ["--size", "--range"],
        "Which images": ["--images", "--seed"],
        "The measures": ["--smallest-variance"],
        "How it runs": ["--device", "--batch", "--trust"],
        "Output": ["--json", "--help"],
    },
    examples={
        "shapeshd disentangle run/vae data": "The encoder of a training's phase 1.",
        "shapeshd disentangle encoder.py:encode render:7:10000,size=64 --range 0,1 --trust": "A "
        "function of yours, on images that are made as they are read.",
    },
)
@click.argument("encoder", type=click.Path())
@click.argument("dataset", type=Dataset())
@click.option(
    "--size",
    type=click.IntRange(4, 4096),
    metavar="PIXELS",
    help="Resize the images to this width and height.  [default: what the encoder says, or the "
    "dataset's own]",
)
@click.option(
    "--range",
    "value_range",
    type=click.Choice(["-1,1", "0,1", "0,255"]),  # `RANGES`, which would import PyTorch
    help="Give black and full as these numbers.  [default: -1,1]",
)
@click.option(
    "--images",
    type=click.IntRange(min=1000),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Encode N images, drawn from DATASET; all, if it has fewer.",
)
@seed_option("Draw the images, groups and trees from this seed.")
@click.option(
    "--smallest-variance",
    type=click.FloatRange(min=0),
    default=0.05,
    show_default=True,
    metavar="V",
    help="Leave components of a smaller variance out of the FactorVAE score: they hold nothing, "
    "if the codes' prior has a variance of 1.",
)
@device_option
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    metavar="N",
    help="Encode N images at a time.",
)
@trust_option("ENCODER")
@json_option
def command(
    encoder: str,
    dataset: Path | RenderSpec,
    size: int | None,
    value_range: str | None,
    images: int,
    seed: int,
    smallest_variance: float,
    device: str,
    batch: int,
    trust: bool,
    as_json: bool,
) -> None:
    """Measure how well the codes of ENCODER keep the six factors apart.

    Told are the mutual information gap (MIG), the FactorVAE score, and disentanglement,
    completeness and informativeness (DCI). ENCODER is an encoder.safetensors of a training here or
    the folder of its phase, a TorchScript module, or file.py:function, which takes images (n, 3,
    H, W) and returns codes (n, d). The latter two are code and need --trust.
    """
    from shapeshd.models.projection.encoder_place import encoder_place

    encoder_place(encoder, trust=trust)  # refuses before PyTorch is imported, which takes seconds

    from shapeshd.benchmark.disentanglement.measure import measure_disentanglement
    from shapeshd.dataset.shapes_hd import open_dataset
    from shapeshd.models.projection.any_encoder import open_encoder
    from shapeshd.support.device import usable_device
    from shapeshd.support.progress import emit

    place = usable_device(pick_device(device))
    opened = open_encoder(encoder, place, trust=trust)
    found = measure_disentanglement(
        opened.encode,
        open_dataset(dataset),
        name=encoder,
        size=size or opened.size,
        value_range=value_range or opened.value_range or "-1,1",
        images=images,
        batch=batch,
        seed=seed,
        smallest_variance=smallest_variance,
        device=place,
        progress=True,
    )
    emit(found.to_json(), found.describe(), as_json=as_json)
