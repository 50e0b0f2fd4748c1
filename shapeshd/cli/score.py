"""``shapeshd score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import (
    RECOGNIZER_NAMES,
    NewPath,
    Source,
    device_option,
    json_option,
    precision_option,
    recognizer_type,
    seed_option,
    trust_option,
)
from .source_options import SourceCommand, options_of, source_options

if TYPE_CHECKING:
    from shapeshd.benchmark.sources.sweep import Sweep


@click.command(
    "score",
    cls=SourceCommand,
    sections={
        "What is measured": [
            "--samples",
            "--protocol",
            "--distribution",
            "--recognizer",
            "--seed",
            "--sweep",
        ],
        "Image fidelity": ["--fidelity", "--features", "--fidelity-engine", "--cache"],
        "How images are read": options_of("images"),
        "What a generator draws": options_of("generator"),
        "How it runs": [
            "--precision",
            "--device",
            *options_of("process"),
            "--trust",
            "--allow-irreproducible",
        ],
        "Output": ["--out", "--again", "--json", "--help"],
    },
    examples={
        "shapeshd score samples.zip": "Images that you have made already.",
        "shapeshd score model:mini/contrast": "A trained generator that comes along.",
        "shapeshd score generator.onnx": "A network that is data: 100,000 samples.",
        "shapeshd score generator.pt --trust --latent-dim 512": "TorchScript, which is code.",
        "shapeshd score sampler.py:generate --trust": "A Python function of yours.",
        "shapeshd score generator.onnx --protocol chi2-20k": "The paper's 3,317,760 samples.",
        "shapeshd score generator.onnx --fidelity 1000": "How good single images are, too.",
        "shapeshd score network.pkl --sweep truncation=0.5,0.7,1": "The curve of D over psi.",
    },
)
@click.argument("source", type=Source())
@click.option(
    "--recognizer",
    type=recognizer_type,
    metavar=RECOGNIZER_NAMES,
    help="Read the factors by this recognizer: lite-robust if images are compressed, noisy or of "
    "another brightness; lite-256 reads averages of images of 256 pixels, a little faster than "
    "hd.  [default: hd for images of 128 pixels and more, else lite]",
)
@click.option(
    "--samples",
    type=int,
    metavar="N",
    help="Count N samples, 5,761 at least.  [default: all images, or 100000]",
)
@click.option(
    "--protocol",
    type=click.Choice(["chi2-20k"]),
    help="Count as many samples as the paper: 20 per bin, 3,317,760 in all, or fewer where "
    "--distribution has none.",
)
@seed_option(
    "Draw a generator's latents, or --samples of the images that are there, from this seed."
)
@click.option(
    "--sweep",
    metavar="NAME=VALUE,VALUE,...",
    help="Score with each of these values of an option that decides what the generator draws, and "
    "show the curve: truncation, steps, labels, ...",
)
@click.option(
    "--distribution",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Test against this distribution of the factors, as in render.  [default: uniform]",
)
@precision_option
@device_option
@source_options()
@click.option(
    "--fidelity",
    type=int,
    metavar="N",
    help="Measure the fidelity of N images, too: of the first that a generator makes, of files' "
    "drawn from all.  [default: none]",
)
@click.option(
    "--features",
    metavar="recognizer|KIND[:PATH]",
    help="Compare images with real ones by these features, with --fidelity. KIND is inception, "
    "vgg, dinov2 or clip; without PATH the published weights are downloaded once.  [default: "
    "recognizer]",
)
@click.option(
    "--fidelity-engine",
    type=click.Choice(["torch", "povray"]),
    help="Render by this engine what --fidelity compares with.  [default: torch]",
)
@click.option(
    "--cache/--no-cache",
    default=True,
    help="Keep what --fidelity measures of real images for other scores, in XDG_CACHE_HOME or "
    "~/.cache, or do not.  [default: cache]",
)
@trust_option("SOURCE")
@click.option(
    "--out",
    type=NewPath(),
    help="Write the result into this folder.  [default: score-SOURCE]",
)
@click.option(
    "--again", is_flag=True, help="Delete the score that lies in the folder, and begin anew."
)
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
    sweep = _check_early(source, options)

    from shapeshd.benchmark.report.sweep import describe_sweep
    from shapeshd.benchmark.report.terminal import describe
    from shapeshd.support.progress import emit

    from .score_run import run_score, run_sweep

    if sweep is not None:
        record, folder = run_sweep(source, out, options, sweep)
        if record is not None:
            emit(record.to_json(), describe_sweep(record), as_json=options["as_json"])
            _name_report(folder)
        return
    result, folder = run_score(source, out, options)
    if result is None:  # a process of torchrun that is not the first
        return
    emit(result.to_json(), describe(result), as_json=options["as_json"])
    _name_report(folder)


def _name_report(folder: Path) -> None:
    """Say where the page is, if it could be drawn."""
    from shapeshd.benchmark.result.files import REPORT
    from shapeshd.support.progress import note

    if (folder / REPORT).exists():
        note(f"report: {folder / REPORT}")


def _check_early(source: str, options: dict[str, Any]) -> Sweep | None:
    """Refuse what can be refused before PyTorch is imported, which takes seconds.

    Returns:
        The sweep that is asked for, if one is.
    """
    from shapeshd.benchmark.fidelity.pretrained.names import features_place
    from shapeshd.benchmark.recognizer.find import find_recognizer
    from shapeshd.benchmark.scoring.asked import (
        refuse_too_few,
        refuse_without_fidelity,
        samples_asked,
    )
    from shapeshd.benchmark.sources.open import check_source
    from shapeshd.benchmark.sources.options import SourceOptions
    from shapeshd.benchmark.sources.sweep import parse_sweep
    from shapeshd.distribution import Distribution
    from shapeshd.factors import check_seed
    from shapeshd.support.distributed import check_launcher

    check_launcher()
    sweep = None if options["sweep"] is None else parse_sweep(options["sweep"])
    chosen = [SourceOptions.given(options)] if sweep is None else sweep.options(options)
    for given in chosen:
        check_source(source, trust=options["trust"], options=given)
    check_seed(options["seed"])
    settings = {name: bool(options[name]) for name in ("features", "fidelity_engine")}
    refuse_without_fidelity(options["fidelity"], **settings)
    if options["features"] is not None:
        features_place(options["features"])
    if options["recognizer"] is not None:
        find_recognizer(options["recognizer"])
    file = options["distribution"]
    distribution = None if file is None else Distribution.read(file)
    asked = samples_asked(options["samples"], options["protocol"], distribution)
    if asked is not None:
        refuse_too_few(asked, distribution)
    return sweep
