"""What ``shapeshd render`` makes of its options and says of its plan and its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shapeshd.distribution import Distribution
from shapeshd.render.plan import Estimate, RenderPlan, plan_render
from shapeshd.render.run import RenderResult
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import make_sampling
from shapeshd.support.progress import human_bytes, human_time


def plan_from_options(out: Path, options: dict[str, Any]) -> RenderPlan:
    """Return the plan that the command line's options describe; errors as `plan_render`."""
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


def describe_plan(plan: RenderPlan, expected: Estimate, jobs: int) -> tuple[dict[str, Any], str]:
    """Return the plan as JSON values, and as text for people."""
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


def describe_result(plan: RenderPlan, result: RenderResult) -> tuple[dict[str, Any], str]:
    """Return what a run did as JSON values, and as text for people."""
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
