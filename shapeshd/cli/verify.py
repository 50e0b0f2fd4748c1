"""``shapeshd verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command
from .options import Dataset, Jobs, engines, json_option

if TYPE_CHECKING:
    from shapeshd.verify import Verification

_SHOWN_PROBLEMS = 20
_MARKS = {True: "ok", False: "FAILED", None: "-"}


@click.command(
    "verify",
    cls=Command,
    examples={
        "shapeshd verify data": "Digests, labels and uniformity.",
        "shapeshd verify data --rerender 100": "And the pixels of 100 images.",
    },
)
@click.argument("dataset", type=Dataset("nothing is stored, so there is nothing to verify"))
@click.option(
    "--rerender",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Render N random images again and compare every pixel.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Draw the images of --rerender from this seed.",
)
@click.option(
    "--engine",
    type=engines,
    help="Render them by this engine: the dataset's own must give each pixel exactly, the other "
    "one within a tolerance.  [default: the dataset's]",
)
@click.option(
    "--factors",
    type=click.Path(path_type=Path),
    help="Compare the labels with this CSV table, from which the dataset was rendered.",
)
@click.option(
    "--jobs", type=Jobs(), default="auto", show_default=True, help="Read shards in N processes."
)
@json_option
@click.pass_context
def command(ctx: click.Context, dataset: Path, as_json: bool, **options: Any) -> None:
    """Check the dataset folder DATASET, whole or not.

    Every shard is read and compared with its digests, every label is computed again, and
    the labels are tested for uniformity. Exit status 0: all checks passed; 1: one failed.
    """
    from shapeshd.support.progress import emit
    from shapeshd.verify import verify_dataset

    options["table"] = options.pop("factors")
    result = verify_dataset(dataset, **options)
    emit(result.to_json(), _describe(result), as_json=as_json)
    if not result.passed:
        ctx.exit(1)


def _describe(result: Verification) -> str:
    lines = [f"{result.dataset}: {result.images:,} sound images in {result.shards:,} shards"]
    width = max(len(check.name) for check in result.checks)
    for check in result.checks:
        lines.append(f"  {_MARKS[check.passed]:6}  {check.name:{width}}  {check.detail}")
        lines += [f"          {problem}" for problem in check.problems[:_SHOWN_PROBLEMS]]
        if (more := len(check.problems) - _SHOWN_PROBLEMS) > 0:
            lines.append(f"          ... and {more:,} more (--json lists all)")
    lines += [f"note: {note}" for note in result.notes]
    if result.render_again:
        listed = ", ".join(f"--shards {span}" for span in result.render_again[:_SHOWN_PROBLEMS])
        rest = " ..." if len(result.render_again) > _SHOWN_PROBLEMS else ""
        lines.append(
            f"render again: the `shapeshd render` command of this dataset with {listed}{rest}, or "
            "as it is, which looks at all shards"
        )
    failed = [check.name for check in result.checks if check.passed is False]
    lines.append(f"FAILED: {', '.join(failed)}" if failed else "all checks passed")
    return "\n".join(lines)
