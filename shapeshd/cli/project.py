"""``shapeshd project``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Dataset, NewPath, device_option, json_option, pick_device

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec


@click.command("project")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("dataset", type=Dataset())
@click.option("--count", type=int, default=64, show_default=True, help="Images to project.")
@click.option("--spread", is_flag=True, help="Spread them over DATASET; else its last ones.")
@click.option("--steps", type=int, default=300, show_default=True, help="Of the search.")
@click.option(
    "--pool",
    type=int,
    default=4096,
    show_default=True,
    help="Samples of which those most like an image are where its search begins.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws where it begins.")
@click.option("--batch", type=int, default=16, show_default=True, help="Images at a time.")
@click.option(
    "--encoder",
    default="auto",
    show_default=True,
    metavar="auto|none|PATH",
    help="Gives starts; auto takes the one in the run that belongs to CHECKPOINT.",
)
@click.option(
    "--recognizer",
    default="auto",
    show_default=True,
    metavar="auto|none|lite|hd|PATH",
    help="Reads the factors; auto as in score.",
)
@click.option(
    "--limit",
    type=float,
    metavar="LEVELS",
    help="Residual above which an image is not generated.  [default: far out among all]",
)
@click.option(
    "--reference",
    type=int,
    default=16,
    show_default=True,
    help="Samples of the generator's own to look for, as a floor.",
)
@device_option
@click.option("--out", type=NewPath(), help="Folder of the result.  [default: project-CHECKPOINT]")
@json_option
def command(
    checkpoint: Path, dataset: Path | RenderSpec, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Look for images of DATASET in the latent space of the generator CHECKPOINT.

    For each image the z is sought, among all that a normal draw may give, whose image is most like
    it. Told are residuals, and how many images cannot be generated: a factor of the projection is
    in another bin by more than the recognizer errs, or the residual is above the limit. DATASET is
    a dataset, render:SEED:COUNT, or a folder or .zip of images, whose residuals alone are told.
    """
    from shapeshd.models.projection.optimize import ProjectionConfig
    from shapeshd.models.projection.report import SHEET, describe, write_projection
    from shapeshd.models.projection.run import ProjectionOptions, project_images
    from shapeshd.support.atomic_files import refuse_existing
    from shapeshd.support.progress import emit, note

    config = ProjectionConfig(**{name: options.pop(name) for name in ("steps", "pool", "seed")})
    device = pick_device(options.pop("device"))
    chosen = ProjectionOptions(**options)
    folder = out or _default_folder(checkpoint)
    refuse_existing(folder)
    result = project_images(checkpoint, dataset, config, chosen, device=device, progress=True)
    values = write_projection(result, folder)
    emit(values, describe(values), as_json=as_json)
    note(f"pairs: {folder / SHEET}")


def _default_folder(checkpoint: Path) -> Path:
    """Return ``project-RUN-gan-generator``: which run it is, the file's own name does not say."""
    parts = checkpoint.absolute().with_suffix("").parts[1:]
    return Path("-".join(["project", *parts[-3:]]))
