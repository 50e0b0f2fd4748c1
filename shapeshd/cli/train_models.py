"""``shapeshd train vae | aae | gan | flow | baseline``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shapeshd.errors import UsageError, named
from shapeshd.models.methods import METHODS

from .command import Command
from .options import (
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

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _configurations() -> list[str]:
    from shapeshd.models.config_file import shipped_configs

    return shipped_configs()


def _shared(command: _Command) -> _Command:
    """Give a command the argument and the options that all phases have."""
    options = [
        click.argument("dataset", type=Dataset(), required=False),
        click.option(
            "--config",
            "config_name",
            type=NameOrPath(_configurations),
            required=True,
            metavar="NAME|FILE.toml",
            help="Train as this configuration says: hd (256 pixels), lite (64), mini, smoke (32), "
            "factors (no images), or a file of yours.",
        ),
        click.option(
            "--out",
            type=NewPath(),
            help="Write the run into this folder.  [required without --dry-run]",
        ),
        click.option(
            "--set",
            "changes",
            multiple=True,
            metavar="KEY=VALUE",
            help="Change the configuration, such as gan.batch=16. May be given several times.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            metavar="N",
            help="Draw weights, images and noise from this seed.  [default: the configuration's]",
        ),
        device_option,
        workers_option,
        click.option(
            "--from",
            "start",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            metavar="FOLDER",
            help="Take the first phases of this other run, as far as they are finished and fit, "
            "where --out has none.",
        ),
        tracker_option,
        click.option(
            "--dry-run",
            is_flag=True,
            help="Print the configuration, parameters, memory, work and time; train nothing.",
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
    out: Path | None,
    device: str,
    trackers: tuple[str, ...],
    tensorboard: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    from shapeshd.models.config_file import check_images, load_config, to_toml
    from shapeshd.support.distributed import check_launcher

    check_launcher()
    if out is None and not dry_run:
        raise UsageError(f"give {named('out')} FOLDER for the run; only --dry-run needs none")
    folder = Path("run") if out is None else out  # of a dry run nothing is written
    config = load_config(config_name, changes, seed, method)
    check_images(config, dataset)  # before PyTorch is imported, which takes seconds

    from shapeshd.models.training.distributed import joined_group
    from shapeshd.models.training.dry_run import plan_of
    from shapeshd.models.training.report import describe_plan, describe_results
    from shapeshd.models.training.run import TrainingRun
    from shapeshd.support.distributed import local_number
    from shapeshd.support.progress import emit

    place = pick_device(device, local_number())
    with joined_group(place) as group:
        options |= {"device": place, "group": group, "compiled": not dry_run}
        run = TrainingRun(config, dataset, folder, **options)
        if dry_run:
            plan, results = plan_of(run, phases, timed=True), {}
        else:
            shown = chosen_trackers(trackers, tensorboard)
            results = run.train_all(phases, progress=True, trackers=shown)
    if group.first and dry_run:
        text = f"{to_toml(config)}\n{describe_plan(plan)}"
        emit({"config": config.to_json(), "plan": plan}, text, as_json=as_json)
    elif group.first:
        emit(results, describe_results(results, folder), as_json=as_json)


_SECTIONS = {
    "What is trained": ["--config", "--set", "--seed", "--from"],
    "How it runs": ["--device", "--workers", "--dry-run"],
    "Output": ["--out", "--tracker", "--tensorboard", "--json", "--help"],
}


def _phase(
    name: str, what: str = "Train it, or go on with it."
) -> Callable[[Callable[..., None]], click.Command]:
    """Return a decorator that makes the command of one phase."""
    line = f"shapeshd train {name} data --config lite --out run"
    return click.command(
        name,
        cls=Command,
        sections=_SECTIONS,
        examples={
            line: what,
            f"{line} --set {name}.batch=32 --dry-run": "What a change costs; nothing is trained.",
        },
    )


@_phase("vae")
@_shared
def vae(dataset: Path | RenderSpec | None, **options: Any) -> None:
    """Phase 1: train encoder and generator as a variational autoencoder.

    DATASET is a dataset, render:SEED:COUNT, a folder or .zip of images, or an LSUN LMDB; the
    factors configuration takes none. The same command goes on where a run was stopped; under
    torchrun all processes share each batch.
    """
    _train(dataset, ("vae",), **options)


@_phase("aae", "After phase 1 in the same folder.")
@_shared
def aae(dataset: Path | RenderSpec | None, **options: Any) -> None:
    """Phase 2: the adversarial autoencoder, equations 4 to 6 (or 2 and 3), after phase 1."""
    _train(dataset, ("aae",), **options)


@_phase("gan", "After phase 2 in the same folder.")
@_shared
def gan(dataset: Path | RenderSpec | None, **options: Any) -> None:
    """Phase 3: the GAN that is coupled to the autoencoder, equations 7 and 8, after phase 2."""
    _train(dataset, ("gan",), **options)


@_phase("flow", "It needs no other phase.")
@_shared
def flow(dataset: Path | RenderSpec | None, **options: Any) -> None:
    """Train a rectified flow, which needs no other phase; of images it takes the extra diffusers.

    A network learns the velocity that carries noise into data along straight paths (Lipman et al.
    2023, Liu et al. 2023); samples solve its equation, by flow.solver in flow.solver_steps.
    """
    _train(dataset, ("flow",), **options)


class _BaselineCommand(Command):
    """A command whose help says what each method is."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the methods, then the options."""
        with formatter.section("Methods"):
            formatter.write_dl([(name, method.summary) for name, method in METHODS.items()])
        super().format_options(ctx, formatter)


@click.command(
    "baseline",
    cls=_BaselineCommand,
    sections=_SECTIONS,
    examples={
        "shapeshd train baseline ours data --config smoke --out run": "Minutes a phase, 32 pixels.",
        "shapeshd train baseline stylegan2 data --config hd --dry-run": "What a training costs.",
        "shapeshd score run/gan/generator.safetensors": "Score what came out.",
    },
)
@click.argument("method", type=click.Choice(list(METHODS)), metavar="METHOD")
@_shared
def baseline(method: str, dataset: Path | RenderSpec | None, **options: Any) -> None:
    """Train all phases of METHOD: one of Table 1, or ours with a part changed or switched off.

    DATASET as for `shapeshd train vae`. The same command goes on where a run was stopped.
    """
    _train(dataset, METHODS[method].phases, method, **options)


COMMANDS = (vae, aae, gan, flow, baseline)
