"""``shapeshd train vae | aae | gan | baseline``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shapeshd.models.methods import METHODS

from .options import Dataset, NewPath, device_option, json_option, pick_device, workers_option

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _shared(command: _Command) -> _Command:
    """Give a command the argument and the options that all phases have."""
    options = [
        click.argument("dataset", type=Dataset(), required=False),
        click.option(
            "--config",
            "config_name",
            required=True,
            metavar="NAME|FILE.toml",
            help="hd (256 pixels), lite (64), mini, smoke (32), factors (no images), or your file.",
        ),
        click.option("--out", type=NewPath(), required=True, help="Folder of the run."),
        click.option(
            "--set",
            "changes",
            multiple=True,
            metavar="KEY=VALUE",
            help="Change the configuration, such as gan.batch=16; may be repeated.",
        ),
        click.option("--seed", type=click.IntRange(min=0), help="[default: the configuration's]"),
        device_option,
        workers_option,
        click.option(
            "--from",
            "start",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Another run, whose finished phases to begin with where OUT has none.",
        ),
        click.option("--tensorboard", is_flag=True, help="Write the log for TensorBoard, too."),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Print the configuration, parameters and memory; train nothing.",
        ),
        json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _train(
    dataset: Path | RenderSpec | None,
    phases: Sequence[str],
    method: str | None = None,
    *,
    config_name: str,
    changes: Sequence[str],
    seed: int | None,
    out: Path,
    device: str,
    tensorboard: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    from shapeshd.models.config_file import load_config, to_toml
    from shapeshd.models.training.distributed import joined_group
    from shapeshd.models.training.dry_run import describe_plan, plan_of
    from shapeshd.models.training.report import describe_results
    from shapeshd.models.training.run import TrainingRun
    from shapeshd.support.distributed import local_number
    from shapeshd.support.progress import emit

    config = load_config(config_name, changes, seed, method)
    place = pick_device(device, local_number())
    with joined_group(place) as group:
        options |= {"device": place, "group": group, "compiled": not dry_run}
        run = TrainingRun(config, dataset, out, **options)
        if dry_run:
            plan, results = plan_of(run, phases), {}
        else:
            results = run.train_all(phases, progress=True, tensorboard=tensorboard)
    if group.first and dry_run:
        text = f"{to_toml(config)}\n{describe_plan(plan)}"
        emit({"config": config.to_json(), "plan": plan}, text, as_json=as_json)
    elif group.first:
        emit(results, describe_results(results, out), as_json=as_json)


@click.command("vae")
@_shared
def vae(dataset: Path | RenderSpec | None, **options: Any) -> None:
    """Phase 1: train encoder and generator as a variational autoencoder.

    DATASET is a dataset, render:SEED:COUNT, a folder or .zip of images, or an LSUN LMDB; the
    factors configuration takes none. The same command goes on where a run was stopped; under
    torchrun all processes share each batch.
    """
    _train(dataset, ("vae",), **options)


@click.command("aae")
@_shared
def aae(dataset: Path | RenderSpec | None, **options: Any) -> None:
    """Phase 2: the adversarial autoencoder, equations 4 to 6 (or 2 and 3), after phase 1."""
    _train(dataset, ("aae",), **options)


@click.command("gan")
@_shared
def gan(dataset: Path | RenderSpec | None, **options: Any) -> None:
    """Phase 3: the GAN that is coupled to the autoencoder, equations 7 and 8, after phase 2."""
    _train(dataset, ("gan",), **options)


@click.command("baseline")
@click.argument("method", type=click.Choice(list(METHODS)))
@_shared
def baseline(method: str, dataset: Path | RenderSpec | None, **options: Any) -> None:
    """Train all phases of a method of Table 1, or of an ablation.

    METHOD: ours (VAE, adversarial autoencoder, coupled GAN), aae (a plain adversarial autoencoder
    in its place), stylegan2 (a plain GAN), vae; or ours with a part switched off.
    """
    _train(dataset, METHODS[method].phases, method, **options)


COMMANDS = (vae, aae, gan, baseline)
