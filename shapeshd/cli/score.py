"""``shapeshd score``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import NewPath, device_option, json_option
from .source_options import SourceCommand, source_options


@click.command("score", cls=SourceCommand)
@click.argument("source")
@click.option(
    "--recognizer",
    metavar="lite|hd|PATH",
    help="What reads the images.  [default: hd for images of 128 pixels and more, else lite]",
)
@click.option("--samples", type=int, help="How many.  [default: all images, or 100000]")
@click.option(
    "--protocol",
    type=click.Choice(["chi2-20k"]),
    help="The paper's: 20 samples per bin, 3,317,760 in all (fewer where --distribution has none).",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Draws a generator's latents, or --samples of the images that are there.",
)
@click.option(
    "--distribution",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Test against this distribution of the factors, as in render.  [default: uniform]",
)
@device_option
@source_options()
@click.option(
    "--fidelity",
    type=int,
    metavar="N",
    help="Measure the fidelity of the first N images, too.  [default: none]",
)
@click.option(
    "--features",
    metavar="recognizer|inception[:PATH]|vgg[:PATH]",
    help="By which --fidelity compares images with real ones; without PATH the published weights "
    "are downloaded once.  [default: recognizer]",
)
@click.option(
    "--fidelity-engine",
    type=click.Choice(["torch", "povray"]),
    help="Renders what --fidelity compares with.  [default: torch]",
)
@click.option(
    "--trust",
    is_flag=True,
    help="Run the code that comes with SOURCE, or that SOURCE is.",
)
@click.option("--out", type=NewPath(), help="Folder of the result.  [default: score-SOURCE]")
@click.option("--again", is_flag=True, help="Delete the score that lies in the folder, and begin.")
@click.option(
    "--allow-irreproducible",
    is_flag=True,
    help="Go on with, or share out, a source that does not give the same images again.",
)
@json_option
def command(source: str, out: Path | None, **options: Any) -> None:
    """Measure whether the distribution of SOURCE is that of 3DShapesHD, or of --distribution.

    SOURCE is images or a generator; its kind is seen from its name and content, see below. What
    can run code that comes with it needs --trust. Started by torchrun, all processes share the
    work.
    The same command goes on after an interruption; a larger --samples adds to a result, and
    --fidelity to a finished one.
    """
    _check_early(source, options)

    from shapeshd.benchmark.report.terminal import describe
    from shapeshd.benchmark.result.files import REPORT
    from shapeshd.support.progress import emit, note

    from .score_run import run_score

    result, folder = run_score(source, out, options)
    if result is None:  # a process of torchrun that is not the first
        return
    emit(result.to_json(), describe(result), as_json=options["as_json"])
    note(f"report: {folder / REPORT}")


def _check_early(source: str, options: dict[str, Any]) -> None:
    """Refuse what can be refused before PyTorch is imported, which takes seconds."""
    from shapeshd.benchmark.recognizer.find import find_recognizer
    from shapeshd.benchmark.scoring.asked import (
        refuse_too_few,
        refuse_without_fidelity,
        samples_asked,
    )
    from shapeshd.benchmark.sources.open import check_source
    from shapeshd.benchmark.sources.options import SourceOptions
    from shapeshd.distribution import Distribution
    from shapeshd.factors import check_seed

    check_source(source, trust=options["trust"], options=SourceOptions.given(options))
    check_seed(options["seed"])
    settings = {name: bool(options[name]) for name in ("features", "fidelity_engine")}
    refuse_without_fidelity(options["fidelity"], **settings)
    if options["recognizer"] is not None:
        find_recognizer(options["recognizer"])
    given = options["distribution"]
    distribution = None if given is None else Distribution.read(given)
    asked = samples_asked(options["samples"], options["protocol"], distribution)
    if asked is not None:
        refuse_too_few(asked, distribution)
