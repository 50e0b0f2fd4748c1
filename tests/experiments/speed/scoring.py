"""How fast a source is scored, beside a bare loop: python -m tests.experiments.speed.scoring

A small StyleGAN2 with random weights is scored as `shapeshd score` does it. The bare loop does
the least that gives a histogram: latents, the same generator and recognizer in batches of the
same length, `joint_bins`, `np.bincount`; nothing is kept, checked or reported. Both take turns
in one process, so that neither has the quieter minutes; the one that begins changes. The ratio
is that of the counting; what a run takes beside it (the statistics, the report) is a fixed time
and stands by itself.

With --phase-end the loop is that of a training instead, which takes D when a phase ends, of the
generator model:mini/contrast; images per second of CPU time, since other programs may run.

Then images per second of the recognizer alone, of `render:` images and of stored ones; and the
peak memory of fresh processes that score the same generator, few and many samples long.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shapeshd import RayTracer, uniform_factors
from shapeshd.benchmark.recognizer.reader import piece_length
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.options import DEFAULT_BATCH
from shapeshd.benchmark.statistics.histogram import min_samples
from shapeshd.factors import NUM_BINS, joint_bins
from shapeshd.models import Generator, GeneratorConfig, load_generator, save_generator
from shapeshd.render.plan import plan_render
from shapeshd.render.run import run_render
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import make_sampling
from shapeshd.support.distributed import core_count

BATCH = DEFAULT_BATCH


def write_generator(folder: Path, size: int, channels: int) -> Path:
    """Save a StyleGAN2 of few channels with random weights."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        size=size, latent_dim=64, style_dim=64, mapping_layers=2,
        channel_base=max(size, 8 * channels), channel_max=channels,
    )  # fmt: skip
    path = folder / "generator.safetensors"
    save_generator(path, Generator(config), {})
    return path


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Return the seconds of a call, and what it gave."""
    synchronize(device)
    began = time.perf_counter()
    found = work()
    synchronize(device)
    return time.perf_counter() - began, found


def bare_loop(
    path: Path, recognizer: Recognizer, samples: int, device: str, batch: int
) -> np.ndarray:
    """Return the histogram of so many samples, by the shortest way there is."""
    network, latent_dim = load_generator(path, device)
    counts = np.zeros(NUM_BINS, np.int64)
    piece = piece_length(recognizer.size)  # the recognizer reads as many at a time as in a score
    batch = min(batch, piece)
    rng = torch.Generator().manual_seed(0)
    for first in range(0, samples, piece):
        parts = []
        for _ in range(0, piece, batch):
            with torch.inference_mode():
                images = network(torch.randn(batch, latent_dim, generator=rng).to(device))
                parts.append((images * 127.5 + 128).clamp(0, 255).byte())
        bins = joint_bins(recognizer(torch.cat(parts)))[: samples - first]
        counts += np.bincount(bins, minlength=NUM_BINS)
    return counts


def score_once(
    text: str, recognizer: Recognizer, samples: int, device: str, folder: Path, batch: int = BATCH
) -> Result:
    """Score a source into a new folder."""
    options = SourceOptions(batch=batch)
    with open_source(text, device=device, options=options) as source:
        out = Path(tempfile.mkdtemp(dir=folder)) / "score"
        settings = ScoreSettings(samples=samples, options=options)
        result = score_source(source, recognizer, out, settings)
    assert result is not None
    return result


def against_the_loop(
    path: Path, recognizer: Recognizer, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Let both take turns; the first round, which warms up, does not count."""
    n, device, batch = options.samples, options.device, options.batch
    scores, loops, whole = [], [], []
    for turn in range(options.rounds + 1):
        took: dict[str, float] = {}
        for which in ("score", "loop") if turn % 2 else ("loop", "score"):
            if which == "loop":
                loop = lambda: bare_loop(path, recognizer, n, device, batch)  # noqa: E731
                took[which], counts = timed(loop, device)
                assert counts.sum() == n
            else:
                run = lambda: score_once(  # noqa: E731
                    str(path), recognizer, n, device, folder, batch
                )
                took[which], result = timed(run, device)
        if turn:
            loops.append(n / took["loop"])
            scores.append(n / result.run.seconds)
            whole.append(took["score"] - result.run.seconds)
    ratios = [ours / bare for ours, bare in zip(scores, loops, strict=True)]
    return {
        "samples": n,
        "score_images_per_s": statistics.median(scores),
        "loop_images_per_s": statistics.median(loops),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "ratios": ratios,
        "fixed_seconds": statistics.median(whole),
    }


def against_the_trainer(options: argparse.Namespace) -> dict[str, Any]:
    """Let a score and what a training does at a phase's end take turns, of the same generator."""
    from shapeshd.dataset.render_spec import RenderSpec
    from shapeshd.models.config_file import load_config
    from shapeshd.models.networks.shipped import find_shipped
    from shapeshd.models.training.domains.images import ImageDomain
    from shapeshd.support.checkpoint import load_checkpoint, load_weights

    config = load_config("mini", ["checks.held_out=10"], None, "contrast")
    device, path = torch.device(options.device), find_shipped("mini/contrast").path
    domain = ImageDomain(config, RenderSpec(1, 100, config.images.size), device, 0)
    generator = domain.generator()
    tensors = load_checkpoint(path).tensors
    load_weights(generator, {name: value.float() for name, value in tensors.items()}, path)
    recognizer, n = load_recognizer("lite", device), options.samples
    rates: dict[str, list[float]] = {"score": [], "phase_end": []}
    with tempfile.TemporaryDirectory(prefix="shapeshd-scoring-") as temporary:
        with torch.no_grad():  # warms up
            generator(torch.zeros(BATCH, config.codes.latent_dim))
            recognizer(torch.zeros(512, 3, 64, 64, dtype=torch.uint8))
        for turn in range(options.rounds):
            for which in ("score", "phase_end") if turn % 2 else ("phase_end", "score"):
                began = time.process_time()
                if which == "score":
                    score_once(str(path), recognizer, n, options.device, Path(temporary))
                else:
                    domain.score(generator, n, seed=1)
                rates[which].append(n / (time.process_time() - began))
                print(f"{which}: {rates[which][-1]:,.0f} images a CPU second", flush=True)
    ratios = [end / whole for end, whole in zip(rates["phase_end"], rates["score"], strict=True)]
    return {"samples": n, "images_per_cpu_s": rates, "ratio": statistics.median(ratios),
            "ratios": ratios}  # fmt: skip


def recognizer_rate(recognizer: Recognizer, options: argparse.Namespace) -> float:
    """Return images per second of the recognizer alone, of as many at a time as in a score."""
    piece = piece_length(recognizer.size)
    tracer = RayTracer(RenderOptions(recognizer.size))
    images = tracer(uniform_factors(5, 0, 32))
    images = images.repeat(piece // len(images), 1, 1, 1).to(options.device)
    recognizer(images)
    calls = max(1, options.samples // piece)
    rates = []
    for _ in range(options.rounds):
        seconds, _ = timed(lambda: [recognizer(images) for _ in range(calls)], options.device)
        rates.append(calls * piece / seconds)
    return statistics.median(rates)


def images_rates(
    recognizer: Recognizer, folder: Path, options: argparse.Namespace
) -> dict[str, float]:
    """Return images per second of a score of images that are rendered, and that are stored."""
    n, size = max(min_samples(), options.stored), recognizer.size
    stored = folder / f"stored-{size}"
    plan = plan_render(
        stored, make_sampling("uniform", seed=9), n, RenderOptions(size), engine="torch"
    )
    run_render(plan)
    rates = {}
    for name, text in (("render", f"render:9:{n},size={size}"), ("stored", str(stored))):
        found = []
        for _ in range(max(1, options.rounds - 1)):
            run = score_once(text, recognizer, n, options.device, folder).run
            found.append(n / run.seconds)
        rates[name] = statistics.median(found)
    return rates


def peak_of_a_score(
    path: str, name: str, precision: str, samples: int, device: str, folder: str
) -> dict[str, int]:
    """Score and return the peak of this process's memory, and of the GPU's tensors, in bytes."""
    recognizer = load_recognizer(name, device, precision)
    score_once(path, recognizer, samples, device, Path(folder))
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin with that of the parent
        peak = int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gpu = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else 0
    return {"samples": samples, "process_bytes": peak, "gpu_bytes": gpu}


def measure(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one size."""
    name = options.recognizer or ("hd" if size >= 128 else "lite")
    recognizer = load_recognizer(name, options.device, options.precision)
    if recognizer.size != size:
        raise SystemExit(f"{name} reads images of {recognizer.size} pixels, not {size}")
    result: dict[str, Any] = {
        "size": size,
        "device": options.device,
        "cores": core_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],  # what else the machine was doing
        "recognizer": recognizer.digest,
        "precision": recognizer.precision,
        "generator_channels": options.channels,
        "batch": options.batch,
    }
    with tempfile.TemporaryDirectory(prefix="shapeshd-scoring-") as temporary:
        folder = Path(temporary)
        path = write_generator(folder, size, options.channels)
        result |= against_the_loop(path, recognizer, folder, options)
        result["recognizer_images_per_s"] = recognizer_rate(recognizer, options)
        if not options.no_images:
            result["images_per_s"] = images_rates(recognizer, folder, options)
        result["memory"] = []
        for samples in options.memory:
            arguments = (str(path), name, options.precision, samples, options.device, temporary)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                result["memory"].append(pool.apply(peak_of_a_score, arguments))
    return result


def report(found: dict[str, Any]) -> str:
    low, high = found["ratio_range"]
    lines = [
        f"{found['size']} px on {found['device']}, {found['threads']} threads, "
        f"load {found['load_average']:.1f}",
        f"  score           {found['score_images_per_s']:>9,.0f} img/s",
        f"  bare loop       {found['loop_images_per_s']:>9,.0f} img/s",
        f"  ratio           {found['ratio']:>9.3f} [{low:.3f}, {high:.3f}] of "
        f"{len(found['ratios'])} rounds of {found['samples']:,}",
        f"  beside counting {found['fixed_seconds']:>9.1f} s a run",
        f"  recognizer      {found['recognizer_images_per_s']:>9,.0f} img/s",
    ]
    for name, rate in found.get("images_per_s", {}).items():
        lines.append(f"  score, {name:<9}{rate:>9,.0f} img/s")
    for row in found["memory"]:
        line = f"  memory at {row['samples']:,}: {row['process_bytes'] / 1e6:,.0f} MB"
        lines.append(line + (f", GPU {row['gpu_bytes'] / 1e6:,.0f} MB" if row["gpu_bytes"] else ""))
    return "\n".join(lines)


def main() -> None:
    """Measure all sizes and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", default=[64], help="64, 256 or both")
    parser.add_argument("--samples", type=int, default=20_000, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recognizer", help="by default lite, or hd from 128 pixels on")
    parser.add_argument("--precision", default="auto", help="of the recognizer")
    parser.add_argument("--batch", type=int, default=BATCH, help="generated at a time")
    parser.add_argument("--channels", type=int, default=16, help="of the generator")
    parser.add_argument("--stored", type=int, default=10_000, help="images rendered and stored")
    parser.add_argument("--no-images", action="store_true", help="score the generator alone")
    parser.add_argument("--memory", type=int, nargs="*", default=[10_000, 50_000])
    parser.add_argument("--phase-end", action="store_true", help="against a training's score alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.phase_end:
        found = against_the_trainer(options)
        print(json.dumps(found, indent=1))
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return
    results = []
    for size in options.size:
        results.append(measure(size, options))
        print(report(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
