"""Scores generators that nobody of this project wrote.

    python -m tests.experiments.truth.foreign OUT

    git clone https://github.com/NVlabs/stylegan2-ada-pytorch      # and so on
    python -m tests.experiments.truth.foreign OUT --stylegan2-ada stylegan2-ada-pytorch \
        --stylegan3 stylegan3 --examples examples --packages site-packages

Each is built with random weights by its authors' code (`foreign_models`), saved as its users save
it, and scored by the command that README.md names, in a process of its own and without that code
on the path. So images are rubbish: what is shown is that they load, stream and are judged, without
a traceback. Beside them stand perfect images (`render:`) and any checkpoints of ours. What is not
given is skipped. An entry of each goes to --entries, by default benchmark/results/foreign/;
a score that was stopped goes on where it ended.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shapeshd.benchmark.leaderboard.entry import write_entry
from shapeshd.benchmark.result.formatting import with_interval
from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.result.schema import Result
from tests import ROOT

ENTRIES = ROOT / "benchmark" / "results" / "foreign"
SIDE = 64


@dataclass(frozen=True)
class Model:
    """A generator to be scored.

    Attributes:
        name: of the entry and the folder.
        title: what the leaderboard calls it.
        source: for `shapeshd score`, in the folder OUT.
        options: of the command.
        file: that is made first; None if there is nothing to make.
        code: the option that says where its authors' code lies; None if it is installed.
    """

    name: str
    title: str
    source: str
    options: tuple[str, ...] = ()
    file: str | None = None
    code: str | None = None


RANDOM = "random weights"
MODELS = (
    Model(
        "stylegan2-ada", f"StyleGAN2-ADA (NVlabs), {RANDOM}", "stylegan2-ada.pkl",
        file="stylegan2-ada.pkl", code="stylegan2_ada",
    ),
    Model(
        "stylegan3", f"StyleGAN3-T (NVlabs), {RANDOM}", "stylegan3.pkl",
        ("--trust", "--code-dir", "{code}"), "stylegan3.pkl", "stylegan3",
    ),
    Model("ddpm", f"DDPM, 2 steps (diffusers), {RANDOM}", "ddpm", ("--steps", "2"), "ddpm"),
    Model(
        "lightweight-gan", f"lightweight-gan (PyPI), TorchScript, {RANDOM}", "lightweight-gan.pt",
        ("--trust", "--latent-dim", "64", "--range", "symmetric"), "lightweight-gan.pt",
        "packages",
    ),
    Model(
        "dcgan", f"DCGAN (pytorch/examples), ONNX, {RANDOM}", "dcgan.onnx",
        ("--range", "symmetric"), "dcgan.onnx", "examples",
    ),
    Model(
        "c-program", "flat scenes, a program in C", "cmd:./sampler {seed} {start} {count}",
        ("--frame-size", f"{SIDE}x{SIDE}", "--trust", "--batch", "4096"), "sampler",
    ),
    Model("render", "the true process, rendered", "render:0:{samples},size=64"),
)  # fmt: skip


def chosen(options: argparse.Namespace) -> Iterator[Model]:
    """Yield what can be scored, and say of the others what is missing."""
    given = (argument.partition("=")[::2] for argument in options.checkpoint)
    own = [Model(name, f"ours: {name}", str(Path(path).resolve())) for name, path in given]
    for model in (*MODELS, *own):
        if options.only and model.name not in options.only:
            continue
        if model.code and getattr(options, model.code) is None:
            print(f"{model.name}: skipped, --{model.code.replace('_', '-')} is not given")
            continue
        yield model


def make(model: Model, out: Path, code: Path | None) -> None:
    """Build a generator in a process of its own, unless it is there."""
    if model.file is None or (out / model.file).exists():
        return
    words = [sys.executable, "-m", "tests.experiments.truth.foreign_models"]
    words += [model.name, str(out / model.file)]
    subprocess.run([*words, *([str(code)] if code else [])], cwd=ROOT, check=True)


def score(model: Model, out: Path, code: Path | None, samples: int) -> Result:
    """Score by the command line in the folder `out`; return what result.json holds.

    Raises:
        RuntimeError: if the command fails, or shows a traceback.
    """
    folder = out / f"score-{model.name}"
    options = [str(code) if word == "{code}" else word for word in model.options]
    source = model.source.replace("{samples}", str(samples))
    words = ["score", source, *options, "--samples", str(samples), "--out", folder.name]
    print(f"shapeshd {shlex.join(words)}", flush=True)
    ran = subprocess.run(
        [sys.executable, "-m", "shapeshd", *words], cwd=out, capture_output=True, text=True
    )
    said = ran.stdout + ran.stderr
    if ran.returncode or "Traceback" in said:
        raise RuntimeError(f"{model.name}: status {ran.returncode}: {said[-500:].strip()}")
    result = read_result(folder)
    assert isinstance(result, Result)
    check(result, samples)
    return result


def check(result: Result, samples: int) -> None:
    """Raise `RuntimeError` if a result's numbers do not belong together."""
    divergence = result.fit.divergence
    totals = {sum(counts) for counts in result.marginals.values()}
    inside = divergence.low <= divergence.reported <= divergence.high
    if result.samples != samples or totals != {samples} or not inside:
        raise RuntimeError(f"{result.source.name}: {totals} of {samples} samples, {result.fit}")


def row_of(model: Model, result: Result) -> str:
    wrong = [part.name for part in result.decomposition.significant]
    return (
        f"| {model.title} | {result.source.kind} | {with_interval(result.fit.divergence)} "
        f"| {', '.join(wrong[:2]) or 'nothing'} | {result.run.images_per_second:g} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for generators and scores")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alone")
    parser.add_argument("--samples", type=int, default=20_000)
    for name in ("stylegan2-ada", "stylegan3", "examples"):
        parser.add_argument(f"--{name}", type=Path, metavar="CLONE", help="of its repository")
    parser.add_argument("--packages", type=Path, help="folder in which lightweight-gan lies")
    parser.add_argument("--checkpoint", nargs="+", default=[], metavar="NAME=FILE", help="of ours")
    parser.add_argument("--entries", type=Path, default=ENTRIES)
    options = parser.parse_args()
    out = options.out.resolve()
    for folder in (out, options.entries):
        folder.mkdir(parents=True, exist_ok=True)
    failed, rows = [], []
    for model in chosen(options):
        code = getattr(options, model.code).resolve() if model.code else None
        began = time.perf_counter()
        try:
            make(model, out, code)
            result = score(model, out, code, options.samples)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            failed.append(model.name)
            print(error)
            continue
        write_entry(result, options.entries / f"{model.name}.json", model.title)
        rows.append(row_of(model, result))
        print(f"{rows[-1]} {time.perf_counter() - began:.0f} s", flush=True)
    print("| model | kind | D | mainly wrong | images/s |\n|---|---|---|---|---|", *rows, sep="\n")
    print(f"{len(rows)} scored" + (f", failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
