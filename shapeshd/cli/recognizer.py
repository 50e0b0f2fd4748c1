"""``shapeshd recognizer``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import Dataset, device_option, engines, json_option

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec


@click.group("recognizer")
def command() -> None:
    """Measure how well a recognizer reads the factors."""


@command.command("evaluate")
@click.argument("recognizer", metavar="lite|hd|PATH")
@click.argument("dataset", required=False, type=Dataset())
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Images to render, where there is no DATASET.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1_000_000, show_default=True)
@click.option("--engine", type=engines, default="povray", show_default=True)
@click.option(
    "--noise-floor",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also score N traced images: what real images give.",
)
@device_option
@click.option("--write-card", is_flag=True, help="Write the figures into the recognizer's card.")
@json_option
def evaluate(
    recognizer: str,
    dataset: Path | RenderSpec | None,
    count: int,
    seed: int,
    engine: str,
    noise_floor: int | None,
    device: str,
    write_card: bool,
    as_json: bool,
) -> None:
    """Let a recognizer read DATASET, or a fresh render, and compare with the true factors.

    Without options this repeats the figures of the shipped recognizers' cards: 10,000 images
    of seed 1000000 by POV-Ray. Images that it was trained on are refused.
    """
    from shapeshd.support.progress import emit

    from .recognizer_report import describe_evaluation, evaluate_recognizer

    result = evaluate_recognizer(
        recognizer, dataset, count, seed, engine, noise_floor, device, write_card
    )
    emit(result, describe_evaluation(result, recognizer), as_json=as_json)
