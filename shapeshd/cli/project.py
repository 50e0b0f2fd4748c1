"""``shapeshd project``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shapeshd.errors import UsageError, with_argument_named

from .command import Command
from .options import (
    RECOGNIZER_NAMES,
    RECOGNIZERS,
    Checkpoint,
    Dataset,
    NameOrPath,
    NewPath,
    device_option,
    json_option,
    pick_device,
    seed_option,
)

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec


@click.command(
    "project",
    cls=Command,
    sections={
        "Which images": ["--count", "--spread", "--reference"],
        "The search": ["--steps", "--pool", "--encoder", "--batch", "--seed"],
        "The judgement": ["--recognizer", "--limit"],
        "How it runs": ["--device"],
        "Output": ["--out", "--json", "--help"],
    },
    examples={
        "shapeshd project run/gan/generator.safetensors data": "The last 64 images of a dataset.",
        "shapeshd project model:mini/contrast render:1:64": "By a generator that comes along.",
        "shapeshd project generator.safetensors photos.zip --recognizer none": "Images of your "
        "own, without factors.",
    },
)
@click.argument("checkpoint", type=Checkpoint())
@click.argument("dataset", type=Dataset())
@click.option(
    "--count", type=int, default=64, show_default=True, metavar="N", help="Project N images."
)
@click.option(
    "--spread", is_flag=True, help="Take images all over DATASET, instead of its last ones."
)
@click.option(
    "--steps",
    type=int,
    default=300,
    show_default=True,
    metavar="N",
    help="Optimise each latent for N steps.",
)
@click.option(
    "--pool",
    type=int,
    default=4096,
    show_default=True,
    metavar="N",
    help="Draw N samples, and begin the search for an image at those most like it.",
)
@seed_option("Draw these samples from this seed.")
@click.option(
    "--batch",
    type=int,
    default=16,
    show_default=True,
    metavar="N",
    help="Project N images at a time.",
)
@click.option(
    "--encoder",
    type=NameOrPath("auto", "none"),
    default="auto",
    show_default=True,
    metavar="auto|none|PATH",
    help="Begin the search at this encoder's latents, too. PATH is an encoder.safetensors or the "
    "folder of its phase; auto takes the encoder of the run that CHECKPOINT belongs to.",
)
@click.option(
    "--recognizer",
    type=NameOrPath("auto", "none", *RECOGNIZERS),
    default="auto",
    show_default=True,
    metavar=f"auto|none|{RECOGNIZER_NAMES}",
    help="Read the factors by this recognizer. auto chooses as score does.",
)
@click.option(
    "--limit",
    type=float,
    metavar="LEVELS",
    help="Call an image not generated if its residual (root mean square, levels of 0 to 255) is "
    "above this.  [default: the larger of two: three interquartile ranges above the third quartile "
    "of all, and the largest residual of the --reference samples]",
)
@click.option(
    "--reference",
    type=int,
    default=16,
    show_default=True,
    metavar="N",
    help="Project N of the generator's own samples, too: their residual is what can be reached, "
    "and --limit by default not below it.",
)
@device_option
@click.option(
    "--out",
    type=NewPath(),
    help="Write the result into this folder.  [default: project-CHECKPOINT]",
)
@json_option
def command(
    checkpoint: Path, dataset: Path | RenderSpec, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Look for images of DATASET in the latent space of the generator CHECKPOINT.

    For each image the z is sought, among all that a normal draw may give, whose image is most like
    it. Told are residuals, and how many images cannot be generated: a factor of the projection is
    in another bin by more than the recognizer errs, or the residual is above the limit. DATASET is
    a dataset, render:SEED:COUNT, or a folder or .zip of images, whose residuals alone are told.
    CHECKPOINT is a .safetensors file or model:NAME; `shapeshd info model:` lists these.
    """
    folder = out or _default_folder(checkpoint)
    _check_early(checkpoint, options, folder)

    from shapeshd.models.projection.optimize import ProjectionConfig
    from shapeshd.models.projection.report import SHEET, describe, write_projection
    from shapeshd.models.projection.run import ProjectionOptions, project_images
    from shapeshd.support.progress import emit, note

    search = {name: options.pop(name) for name in ("steps", "pool", "seed")}
    device = options.pop("device")
    try:
        config, chosen = ProjectionConfig(**search), ProjectionOptions(**options)
    except UsageError as error:
        raise with_argument_named(error, (*search, *options)) from None
    device = pick_device(device)
    result = project_images(checkpoint, dataset, config, chosen, device=device, progress=True)
    values = write_projection(result, folder)
    emit(values, describe(values), as_json=as_json)
    note(f"pairs: {folder / SHEET}")


def _check_early(checkpoint: Path, options: dict[str, Any], folder: Path) -> None:
    """Refuse what can be refused before PyTorch is imported, which takes seconds."""
    from shapeshd.benchmark.recognizer.find import find_recognizer
    from shapeshd.models.projection.encoder_place import own_encoder_place
    from shapeshd.support.atomic_files import refuse_existing

    if checkpoint.is_dir() or checkpoint.suffix != ".safetensors":
        raise UsageError(
            f"{checkpoint}: is no .safetensors file, such as RUN/gan/generator.safetensors"
        )
    if not checkpoint.exists():
        raise UsageError(f"{checkpoint}: no such file")
    if options["recognizer"] not in ("auto", "none"):
        find_recognizer(options["recognizer"])
    if options["encoder"] not in ("auto", "none"):
        own_encoder_place(options["encoder"])
    refuse_existing(folder)


def _default_folder(checkpoint: Path) -> Path:
    """Return ``project-RUN-gan-generator``: which run it is, the file's own name does not say."""
    parts = checkpoint.absolute().with_suffix("").parts[1:]
    return Path("-".join(["project", *parts[-3:]]))
