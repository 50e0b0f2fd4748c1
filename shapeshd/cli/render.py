"""``shapeshd render``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .dataset_arguments import NewPath
from .value_types import Jobs, ShardRange, Threshold, engines, json_option


@click.command("render")
@click.argument("out", type=NewPath())
@click.option("--count", type=int, help="Images in the dataset.  [default: 500000, or all]")
@click.option("--size", type=int, default=256, show_default=True, help="Width and height, pixels.")
@click.option("--seed", type=int, default=0, show_default=True, help="Key of the random numbers.")
@click.option("--shard-size", type=int, default=1000, show_default=True, help="Images per file.")
@click.option(
    "--jobs", type=Jobs(), default="auto", show_default=True, help="Shards rendered side by side."
)
@click.option(
    "--sampling",
    type=click.Choice(["uniform", "grid", "table"]),
    default="uniform",
    show_default=True,
    help="I.i.d. uniform factors, the 480,000 combinations of 3dshapes, or --factors.",
)
@click.option(
    "--factors", type=click.Path(path_type=Path), help="CSV with one row of factors per image."
)
@click.option(
    "--distribution",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="I.i.d. factors of this distribution instead of the uniform one: weights of bins.",
)
@click.option(
    "--engine",
    type=engines,
    default="povray",
    show_default=True,
    help="POV-Ray, the reference, or the ray tracer in PyTorch, many times faster.",
)
@click.option(
    "--antialias",
    type=Threshold(),
    default="0.3",
    show_default=True,
    help="Colour difference above which a pixel is traced again with more rays.",
)
@click.option(
    "--antialias-depth", type=int, default=3, show_default=True, help="Rays along its side."
)
@click.option(
    "--compression",
    type=click.Choice(["gzip", "zstd", "none"]),
    default="gzip",
    show_default=True,
    help="Of the images, without loss.",
)
@click.option(
    "--backend",
    type=click.Choice(["loky", "threading", "dask", "ray"]),
    default="loky",
    show_default=True,
    help="What runs the shards: processes, threads, or a cluster.",
)
@click.option("--cluster", metavar="ADDRESS", help="Dask scheduler or Ray head to use.")
@click.option("--shards", type=ShardRange(), default=":", help="Only these shards (job arrays).")
@click.option("--dry-run", is_flag=True, help="Say what would be done and what it costs.")
@json_option
def command(out: Path, **options: Any) -> None:
    """Render 3DShapesHD into the folder OUT, or go on where a stopped run ended.

    The images depend on --seed, --distribution, --size, the antialiasing and the engine alone:
    never on the number of workers, the shard size, or how often the run was interrupted. The
    engines differ in a few pixels. A larger --count extends a dataset.
    """
    from shapeshd.errors import InterruptedRunError
    from shapeshd.render.plan import check_disk, estimate
    from shapeshd.render.run import run_render
    from shapeshd.support.distributed import core_count
    from shapeshd.support.progress import emit, note

    from .render_report import describe_plan, describe_result, plan_from_options

    plan = plan_from_options(out, options)
    jobs = options["jobs"]
    expected = estimate(plan, jobs or core_count())
    values, text = describe_plan(plan, expected, jobs or core_count())
    if options["dry_run"]:
        emit(values, text, as_json=options["as_json"])
        return
    note(text)
    check_disk(plan, expected)
    try:
        result = run_render(
            plan, jobs=jobs, backend=options["backend"], cluster=options["cluster"], progress=True
        )
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "interrupted; the finished shards are kept, and the same command goes on from there"
        ) from None
    values, text = describe_result(plan, result)
    emit(values, text, as_json=options["as_json"])
