"""``shapeshd recognizer``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Group
from .options import (
    RECOGNIZER_NAMES,
    Dataset,
    device_option,
    engines,
    json_option,
    pick_device,
    precision_option,
    recognizer_type,
)

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec


@click.group(
    "recognizer",
    cls=Group,
    examples={
        "shapeshd recognizer evaluate lite": "The figures of a shipped recognizer's card.",
        "shapeshd recognizer info lite": "How it was trained, and what its card says.",
    },
)
def command() -> None:
    """Measure how well a recognizer reads the factors, or show what its card says."""


@command.command(
    "info",
    examples={
        "shapeshd recognizer info lite": "The command that trained it, and its figures.",
        "shapeshd recognizer info run --json": "All of a card of yours.",
    },
)
@click.argument("recognizer", type=recognizer_type, metavar=RECOGNIZER_NAMES)
@json_option
def info(recognizer: str, as_json: bool) -> None:
    """Say how a recognizer was trained, by which command, and how well it reads."""
    from shapeshd.benchmark.recognizer.find import find_recognizer

    find_recognizer(recognizer)  # before PyTorch is imported, which takes seconds

    from shapeshd.benchmark.recognizer.describe import describe_recognizer
    from shapeshd.support.progress import emit

    emit(*describe_recognizer(recognizer), as_json=as_json)


@command.command(
    "evaluate",
    sections={
        "Which images": ["--count", "--seed", "--engine", "--degrade"],
        "What is measured": ["--noise-floor"],
        "How it runs": ["--precision", "--device"],
        "Output": ["--write-card", "--json", "--help"],
    },
    examples={
        "shapeshd recognizer evaluate lite": "The figures of a shipped recognizer's card.",
        "shapeshd recognizer evaluate run/recognizer data": "Your own, on a dataset of yours.",
        "shapeshd recognizer evaluate lite-robust --degrade jpeg=75": "On images saved as JPEG.",
    },
)
@click.argument("recognizer", type=recognizer_type, metavar=RECOGNIZER_NAMES)
@click.argument("dataset", required=False, type=Dataset())
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Render N images, where there is no DATASET.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1_000_000,
    show_default=True,
    metavar="N",
    help="Draw the factors of these images from this seed.",
)
@click.option(
    "--engine",
    type=engines,
    default="povray",
    show_default=True,
    help="Render them by this engine.",
)
@click.option(
    "--noise-floor",
    type=click.IntRange(min=1),
    metavar="N",
    help="Score N traced images, too, which says what real images give.",
)
@click.option(
    "--degrade",
    multiple=True,
    metavar="KIND=STRENGTH",
    help="Degrade the images before they are read: jpeg=QUALITY, noise=LEVELS (of 255), "
    "blur=PIXELS or brightness=FACTOR. Said again, one follows the other.",
)
@precision_option
@device_option
@click.option("--write-card", is_flag=True, help="Write the figures into the recognizer's card.")
@json_option
def evaluate(
    recognizer: str,
    dataset: Path | RenderSpec | None,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Let a recognizer read DATASET, or a fresh render, and compare with the true factors.

    Without options this repeats the figures of the shipped recognizers' cards in the precision
    that is used: 10,000 images of seed 1000000 by POV-Ray. Images that it was trained on are
    refused.
    """
    from shapeshd.benchmark.recognizer.find import find_recognizer

    find_recognizer(recognizer)  # before PyTorch is imported, which takes seconds

    from shapeshd.benchmark.recognizer.evaluate import describe_accuracy, evaluate_recognizer
    from shapeshd.support.progress import emit

    found = evaluate_recognizer(recognizer, dataset, device=pick_device(device), **options)
    how = [f"({one})" for one in found.degradations]
    what = " ".join([recognizer, "in", found.recognizer.precision, *how])
    text = describe_accuracy(found.accuracy, what, found.noise_floor)
    emit(found.to_json(), text, as_json=as_json)
