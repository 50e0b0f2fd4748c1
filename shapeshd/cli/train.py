"""``shapeshd train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Dataset, NewPath, device_option, json_option, pick_device, workers_option
from .train_models import COMMANDS

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec


_SIZES = {"lite": 64, "hd": 256}  # pixels


@click.group("train")
def command() -> None:
    """Train a network."""


@command.command("recognizer")
@click.argument("dataset", type=Dataset())
@click.argument("out", type=NewPath())
@click.option(
    "--size",
    type=click.Choice(list(_SIZES)),
    default="lite",
    show_default=True,
    help="For images of 64 pixels or of 256.",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Images shown in all, repetitions included.",
)
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--learning-rate", type=float, default=2e-3, show_default=True)
@click.option(
    "--degraded",
    type=click.FloatRange(0, 1),
    default=0.25,
    show_default=True,
    help="Share of images made a little blurred or noisy, as a generator's are.",
)
@click.option(
    "--held-out",
    type=click.IntRange(min=1),
    help="Images at the dataset's end kept for the evaluation.  [default: a tenth, at most 10000]",
)
@click.option("--start-from", metavar="NAME|PATH", help="A recognizer whose weights to begin with.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "fp32"]),
    default="auto",
    show_default=True,
    help="Of the first four fifths; the rest is in fp32.",
)
@device_option
@workers_option
@json_option
def recognizer(
    dataset: Path | RenderSpec,
    out: Path,
    size: str,
    device: str,
    start_from: str | None,
    workers: int | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a recognizer on DATASET into the folder OUT, or go on where a run was stopped.

    Train on other images (seed and index) than those that it shall read: the shipped ones
    took seeds 6401 and 25601. OUT/recognizer.safetensors is what `score --recognizer OUT` uses.
    """
    from shapeshd.benchmark.recognizer.evaluate import describe_accuracy
    from shapeshd.benchmark.recognizer.network import NetworkConfig
    from shapeshd.benchmark.recognizer.train import train_recognizer
    from shapeshd.support.progress import emit

    result = train_recognizer(
        dataset, out, NetworkConfig(size=_SIZES[size]), settings, device=pick_device(device),
        start_from=start_from, workers=workers, progress=True,
    )  # fmt: skip
    emit(result.to_json(), describe_accuracy(result, str(out)), as_json=as_json)


for _command in COMMANDS:
    command.add_command(_command)
