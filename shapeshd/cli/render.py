"""``shapeshd render``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command
from .options import Jobs, NewPath, ShardRange, Threshold, engines, json_option, seed_option

if TYPE_CHECKING:
    from shapeshd.render.plan import Estimate, RenderPlan
    from shapeshd.render.run import RenderResult


@click.command(
    "render",
    cls=Command,
    sections={
        "What is rendered": [
            "--count",
            "--size",
            "--seed",
            "--sampling",
            "--factors",
            "--distribution",
        ],
        "How": ["--engine", "--antialias", "--antialias-depth"],
        "Files": ["--shard-size", "--compression"],
        "How it runs": ["--jobs", "--backend", "--cluster", "--shards", "--dry-run"],
        "Output": ["--json", "--help"],
    },
    examples={
        "shapeshd render data --count 10000": "10,000 images of 256 pixels.",
        "shapeshd render data --size 64 --engine torch": "500,000 small ones by the ray tracer.",
        "shapeshd render data --shards 0:10": "The first ten shards, as a task of a job array.",
        "shapeshd render data --dry-run": "What that costs in time and on disk.",
    },
)
@click.argument("out", type=NewPath())
@click.option(
    "--count",
    type=int,
    metavar="N",
    help="Make a dataset of N images.  [default: 500000; with grid or a table all that there are]",
)
@click.option(
    "--size",
    type=int,
    default=256,
    show_default=True,
    metavar="PX",
    help="Make images PX pixels wide and high.",
)
@seed_option("Draw the factors from this seed.")
@click.option(
    "--shard-size",
    type=int,
    default=1000,
    show_default=True,
    metavar="N",
    help="Write N images into each file.",
)
@click.option(
    "--jobs",
    type=Jobs(),
    default="auto",
    show_default=True,
    help="Render N shards at the same time.",
)
@click.option(
    "--sampling",
    type=click.Choice(["uniform", "grid", "table"]),
    default="uniform",
    show_default=True,
    help="Choose the factors: uniform draws each image's by itself, grid takes the 480,000 "
    "combinations of 3dshapes in order, table takes the rows of --factors.",
)
@click.option(
    "--factors",
    type=click.Path(path_type=Path),
    help="Read the factors from this CSV table, one row per image, with --sampling table.",
)
@click.option(
    "--distribution",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Draw factors of this distribution, which gives bins weights, instead of the uniform one.",
)
@click.option(
    "--engine",
    type=engines,
    default="povray",
    show_default=True,
    help="Render by POV-Ray, the reference, or by the ray tracer in PyTorch, many times faster.",
)
@click.option(
    "--antialias",
    type=Threshold(),
    default="0.3",
    show_default=True,
    help="Trace a pixel again with more rays if its colour differs from a neighbour's by more "
    "than this.",
)
@click.option(
    "--antialias-depth",
    type=int,
    default=3,
    show_default=True,
    metavar="D",
    help="Trace D x D rays in each such pixel.",
)
@click.option(
    "--compression",
    type=click.Choice(["gzip", "zstd", "none"]),
    default="gzip",
    show_default=True,
    help="Compress the images in this way; none of them loses anything.",
)
@click.option(
    "--backend",
    type=click.Choice(["loky", "threading", "dask", "ray"]),
    default="loky",
    show_default=True,
    help="Render shards in processes (loky), in threads, or on a cluster (dask, ray).",
)
@click.option(
    "--cluster", metavar="ADDRESS", help="Use the Dask scheduler or Ray head at this address."
)
@click.option(
    "--shards", type=ShardRange(), default=":", help="Render only these shards, for job arrays."
)
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

    plan = _plan(out, options)
    jobs = options["jobs"]
    expected = estimate(plan, jobs or core_count())
    values, text = _describe_plan(plan, expected, jobs or core_count())
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
    values, text = _describe_result(plan, result)
    emit(values, text, as_json=options["as_json"])


def _plan(out: Path, options: dict[str, Any]) -> RenderPlan:
    """Return the plan that the command line's options describe; errors as `plan_render`."""
    from shapeshd.distribution import Distribution
    from shapeshd.render.plan import plan_render
    from shapeshd.scene.render_options import RenderOptions
    from shapeshd.scene.sampling import make_sampling

    return plan_render(
        out,
        make_sampling(
            options["sampling"],
            seed=options["seed"],
            table=options["factors"],
            distribution=Distribution.read(options["distribution"])
            if options["distribution"]
            else None,
        ),
        options["count"],
        RenderOptions(options["size"], options["antialias"], options["antialias_depth"]),
        engine=options["engine"],
        shard_size=options["shard_size"],
        compression=options["compression"],
        shards=options["shards"],
    )


def _describe_plan(plan: RenderPlan, expected: Estimate, jobs: int) -> tuple[dict[str, Any], str]:
    """Return the plan as JSON values, and as text for people."""
    from shapeshd.distribution import Distribution
    from shapeshd.support.progress import human_bytes, human_time

    size, asked = plan.provenance.size, plan.images()
    text = f"{asked:,} images of {size}x{size} in {len(plan.shards)} shards"
    if len(plan.shards) < plan.total_shards:
        text += f" ({plan.shards.start}:{plan.shards.stop} of {plan.total_shards})"
    text += f" by {plan.provenance.renderer}"
    if plan.provenance.distribution:
        text += f", distribution {Distribution.from_text(plan.provenance.distribution)}"
    if expected.images < asked:
        text += f", {asked - expected.images:,} of them already there (to be checked)"
    if expected.images:
        text += (
            f"; about {human_bytes(expected.bytes)} and {human_time(expected.seconds)} "
            f"on {jobs} core{'s' if jobs > 1 else ''}"
        )
    values = {
        "dataset": str(plan.dataset),
        "count": plan.count,
        "shards": [plan.shards.start, plan.shards.stop],
        "images": asked,
        "images_missing": expected.images,
        "estimated_seconds": round(expected.seconds, 1),
        "estimated_bytes": expected.bytes,
        "provenance": plan.provenance.to_json(),
    }
    return values, text


def _describe_result(plan: RenderPlan, result: RenderResult) -> tuple[dict[str, Any], str]:
    """Return what a run did as JSON values, and as text for people."""
    from shapeshd.support.progress import human_time

    rate = result.rendered / result.seconds if result.seconds else 0.0
    state = "complete" if result.manifest.complete else "not complete yet"
    text = (
        f"rendered {result.rendered:,} images with {plan.provenance.renderer} in "
        f"{human_time(result.seconds)} ({rate:.1f} img/s), kept {result.kept:,}"
    )
    if result.remade:
        numbers = ", ".join(map(str, result.remade))
        text += f", made {len(result.remade)} damaged shards anew ({numbers})"
    text += f"\n{plan.dataset}: {result.manifest.available:,} of {plan.count:,} images, {state}"
    values = {
        "dataset": str(plan.dataset),
        "engine": plan.provenance.engine,
        "rendered": result.rendered,
        "kept": result.kept,
        "remade_shards": list(result.remade),
        "seconds": round(result.seconds, 3),
        "images_per_second": round(rate, 2),
        "available": result.manifest.available,
        "count": plan.count,
        "complete": result.manifest.complete,
        "bytes": sum(shard.bytes for shard in result.manifest.shards),
    }
    return values, text
