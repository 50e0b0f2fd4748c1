"""``shapeshd train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shapeshd.benchmark.recognizer.find import find_recognizer
from shapeshd.benchmark.recognizer.recipe import RECIPES, recipe_for

from .command import Group, command_line
from .options import (
    RECOGNIZER_NAMES,
    RECOGNIZERS,
    Dataset,
    NameOrPath,
    NewPath,
    chosen_trackers,
    device_option,
    json_option,
    pick_device,
    tracker_option,
    workers_option,
)
from .train_models import COMMANDS

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec


_SIZES = {"lite": 64, "hd": 256}  # pixels
_NONE = "none"  # as --start-from: new weights


def _defaults(field: str) -> str:
    """Return what help says of a default that depends on the size."""
    said = (f"{getattr(recipe, field) or _NONE} for {name}" for name, recipe in RECIPES.items())
    return f"  [default: {', '.join(said)}]"


@click.group(
    "train",
    cls=Group,
    examples={
        "shapeshd train recognizer data run": "What reads the factors of images.",
        "shapeshd train baseline ours data --config smoke --out run": "A reference model.",
    },
)
def command() -> None:
    """Train the recognizer of the factors, or a reference model."""


@command.command(
    "recognizer",
    sections={
        "The network": ["--size", "--start-from"],
        "The training": [
            "--images",
            "--batch",
            "--learning-rate",
            "--degraded",
            "--degradation",
            "--held-out",
            "--seed",
        ],
        "How it runs": ["--precision", "--device", "--workers"],
        "Output": ["--tracker", "--tensorboard", "--json", "--help"],
    },
    examples={
        "shapeshd train recognizer render:1:1000000,size=64 run": "Images made as they are read.",
        "shapeshd train recognizer data run --size hd": "For 256 pixels, from lite's weights.",
        "shapeshd score samples.zip --recognizer run": "Use it.",
    },
)
@click.argument("dataset", type=Dataset())
@click.argument("out", type=NewPath())
@click.option(
    "--size",
    type=click.Choice(list(_SIZES)),
    default="lite",
    show_default=True,
    help="Make a network for images of 64 pixels (lite) or of 256 (hd).",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Show N images in all, repetitions included.{_defaults('images')}",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Show N images in each step.",
)
@click.option(
    "--learning-rate",
    type=float,
    metavar="RATE",
    help=f"Let Adam's rate rise to this, and fall to 0 along a cosine.{_defaults('learning_rate')}",
)
@click.option(
    "--degraded",
    type=click.FloatRange(0, 1),
    default=0.15,
    show_default=True,
    metavar="SHARE",
    help="Degrade this share of the images, as a generator's are.",
)
@click.option(
    "--degradation",
    type=click.Choice(["mild", "strong"]),  # `DEGRADATIONS`, which would import PyTorch
    default="mild",
    show_default=True,
    help="Degrade them by a little blur or noise (mild), or also by JPEG and a change of "
    "brightness (strong).",
)
@click.option(
    "--held-out",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep N images at the dataset's end for the evaluation.  [default: a twentieth, at most "
    "10000]",
)
@click.option(
    "--start-from",
    type=NameOrPath(_NONE, *RECOGNIZERS),
    metavar=f"{RECOGNIZER_NAMES}|none",
    help=f"Begin with the weights of this recognizer, or with new ones.{_defaults('start_from')}",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Draw the first weights and the order of the images from this seed.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "fp32"]),
    default="auto",
    show_default=True,
    help="Compute the first four fifths of the training in this precision, the rest in fp32. auto "
    "takes bf16 where the device is fast in it.",
)
@device_option
@workers_option
@tracker_option
@json_option
def recognizer(
    dataset: Path | RenderSpec,
    out: Path,
    size: str,
    device: str,
    start_from: str | None,
    workers: int | None,
    trackers: tuple[str, ...],
    tensorboard: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a recognizer on DATASET into the folder OUT, or go on where a run was stopped.

    Train on other images (seed and index) than those that it shall read: the shipped ones
    took seeds 6401 and 25601, and the defaults are how they were trained.
    OUT/recognizer.safetensors is what `score --recognizer OUT` uses.
    """
    side = _SIZES[size]
    start_from = recipe_for(side).start_from if start_from is None else start_from
    if start_from == _NONE:
        start_from = None
    if start_from is not None:
        find_recognizer(start_from)

    from shapeshd.benchmark.recognizer.evaluate import describe_accuracy
    from shapeshd.benchmark.recognizer.network import NetworkConfig
    from shapeshd.benchmark.recognizer.train import train_recognizer
    from shapeshd.support.progress import emit

    result = train_recognizer(
        dataset, out, NetworkConfig(size=side), settings, device=pick_device(device),
        start_from=start_from, workers=workers, command=command_line(), progress=True,
        trackers=chosen_trackers(trackers, tensorboard),
    )  # fmt: skip
    emit(result.to_json(), describe_accuracy(result, str(out)), as_json=as_json)


for _command in COMMANDS:
    command.add_command(_command)
