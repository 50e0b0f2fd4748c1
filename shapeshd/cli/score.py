"""``shapeshd score``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import NewPath, device_option, json_option, latent_dim_option, latents_option


@click.command("score")
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
@click.option("--seed", type=int, default=0, show_default=True, help="Draws a generator's latents.")
@click.option(
    "--distribution",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Test against this distribution of the factors, as in render.  [default: uniform]",
)
@latents_option
@device_option
@click.option(
    "--range",
    type=click.Choice(["auto", "uint8", "unit", "symmetric"]),
    default="auto",
    show_default=True,
    help="Of the images' values: 0 to 255, [0, 1] or [-1, 1].",
)
@click.option(
    "--layout",
    type=click.Choice(["auto", "nchw", "nhwc"]),
    default="auto",
    show_default=True,
    help="Order of the images' axes.",
)
@latent_dim_option
@click.option(
    "--key",
    help="Name of the array in an npz or HDF5 file, or of a sample's image in a tar file, with "
    "several.",
)
@click.option(
    "--timeout",
    type=float,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="For a batch of a Python entry or of --code-dir, or an image of a command.",
)
@click.option("--frame-size", metavar="WxH", help="Pixels of the images that a command writes.")
@click.option("--steps", type=int, help="Of denoising.  [default: a diffusers pipeline's own]")
@click.option(
    "--architecture",
    metavar="stylegan2|dcgan",
    help="Whose tensors a .safetensors file of another project holds.",
)
@click.option(
    "--labels",
    metavar="uniform|3|3,5,9|0-9",
    help="Classes to draw for a conditional generator.  [default: uniform]",
)
@click.option("--classes", type=int, help="How many it has, where the model is silent.")
@click.option(
    "--label-form",
    type=click.Choice(["onehot", "index"]),
    help="What TorchScript takes: float32 (n, classes) or int64 (n,).",
)
@click.option(
    "--code-dir",
    metavar="REPOSITORY",
    help="The authors' code, which loads and runs a network pickle.",
)
@click.option(
    "--fidelity",
    type=int,
    metavar="N",
    help="Measure the quality of the first N images, too.  [default: none]",
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
    help="Run the code in SOURCE: Python, TorchScript, torch.export, a pipeline's own, cmd:, and "
    "that of --code-dir.",
)
@click.option("--out", type=NewPath(), help="Folder of the result.  [default: score-SOURCE]")
@json_option
def command(source: str, out: Path | None, **options: Any) -> None:
    """Measure whether the distribution of SOURCE is that of 3DShapesHD, or of --distribution.

    SOURCE is a dataset, render:SEED:COUNT, an image folder, .zip, .tar, .npz, .npy or .h5 file,
    or tar files by 'data-{000..003}.tar'; a generator as .onnx, a .safetensors checkpoint of ours
    or of an --architecture, a diffusers pipeline folder or a StyleGAN2 network pickle (.pkl);
    or, with --trust, TorchScript, torch.export (.pt2), a Python function (file.py:function), any
    network pickle of NVlabs with its authors' code (--code-dir) or a command that writes raw RGB
    frames to its standard output: 'cmd:./sampler {seed} {start} {count}', asked for --batch
    samples or more at a time. Started by torchrun, all processes share the work.
    The same command goes on after an interruption; a larger --samples adds to a result, and
    --fidelity to a finished one.
    """
    from shapeshd.benchmark.report.terminal import describe
    from shapeshd.benchmark.result.files import REPORT
    from shapeshd.support.progress import emit, note

    from .score_run import run_score

    result, folder = run_score(source, out, options)
    if result is None:  # a process of torchrun that is not the first
        return
    emit(result.to_json(), describe(result), as_json=options["as_json"])
    note(f"report: {folder / REPORT}")
