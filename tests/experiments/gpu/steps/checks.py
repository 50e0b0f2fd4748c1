"""Compares what a device computes with what the CPU computes:
python -m tests.experiments.gpu.steps.checks tracer --device cuda --setting full --json FILE

`tracer`: the ray tracer's images. `reading`: factors read by the shipped recognizers, in fp32 and
bf16. `training`: steps of each phase from the same weights and random numbers. `scores`: the
histograms of generators. The file is written after each comparison, so that one that hangs does
not lose those before it.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from shapeshd.benchmark.recognizer.precision import computes_bf16
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.scoring.score import score_in_memory
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.errors import explain
from shapeshd.factors import joint_bins, uniform_factors
from shapeshd.models.training.distributed import Group
from shapeshd.raytracer.tracer import trace_images
from tests.experiments.gpu.settings import SETTINGS, Setting
from tests.experiments.gpu.step import write_record
from tests.support.tiny_training import save_untrained

from .phases import MovedDraws, config_of, new_phase, open_run

CPU = torch.device("cpu")

# What GPUs may differ by: convolutions in fp32 are TF32 there, and a ray may just miss an edge.
MOST_PIXELS = 1e-4  # share of pixels that differ by more than one level
MOST_READ = {"fp32": 0.01, "bf16": 0.05}  # share of images in another joint bin than on the CPU
MOST_LOSS = {"fp32": 0.005, "bf16": 0.02}  # relative, of the first step's values
MOST_MOVED = {"fp32": 0.03, "bf16": 0.1}  # share of samples in another bin of the histogram

STEPS = 3
PHASES = (
    ("ours", "vae"), ("ours", "aae"), ("ours", "gan"), ("contrast", "aae"), ("aae", "aae"),
    ("stylegan2", "gan"), ("unpaired", "gan"), ("flow", "flow"),
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """What differs between a device and the CPU.

    Attributes:
        name: what was computed.
        differs: by how much; None where it could not be computed.
        most: that it may differ by.
        unit: of both, or the error.
    """

    name: str
    differs: float | None
    most: float
    unit: str

    @property
    def agrees(self) -> bool:
        """Whether it differs by no more than it may."""
        return self.differs is not None and self.differs <= self.most


Work = Callable[[torch.device, Setting], Iterator[tuple[str, Callable[[], Comparison]]]]


def tracer(
    device: torch.device, setting: Setting
) -> Iterator[tuple[str, Callable[[], Comparison]]]:
    """Trace the same images on both."""
    for size, count in setting.trace:
        name = f"traced at {size}"

        def compare(size: int = size, count: int = count, name: str = name) -> Comparison:
            factors = uniform_factors(14, 0, count)
            there = trace_images(factors, size, device=str(device)).cpu().int()
            off = (there - trace_images(factors, size).int()).abs().amax(1) > 1
            share = float(off.float().mean())
            return Comparison(name, share, MOST_PIXELS, "of pixels off by more than a level")

        yield name, compare


def reading(
    device: torch.device, setting: Setting
) -> Iterator[tuple[str, Callable[[], Comparison]]]:
    """Read the same traced images on both, there in both precisions."""
    for recognizer, count in setting.read:
        expected: list[np.ndarray] = []
        for precision in ("fp32", "bf16"):
            name = f"{recognizer} {precision}"

            def compare(
                recognizer: str = recognizer,
                count: int = count,
                precision: str = precision,
                name: str = name,
                expected: list[np.ndarray] = expected,
            ) -> Comparison:
                reader = load_recognizer(recognizer, device, precision)
                images = trace_images(uniform_factors(21, 0, count), reader.size)
                if not expected:
                    expected.append(joint_bins(load_recognizer(recognizer, CPU, "fp32")(images)))
                share = float((joint_bins(reader(images.to(device))) != expected[0]).mean())
                return Comparison(name, share, MOST_READ[precision], "of images in another bin")

            yield name, compare


def training(
    device: torch.device, setting: Setting
) -> Iterator[tuple[str, Callable[[], Comparison]]]:
    """Take the first steps of each phase on both, there in both precisions."""
    for method, phase in PHASES:
        expected: list[dict[str, float]] = []
        for precision in ("fp32", "bf16"):
            if precision == "bf16" and not computes_bf16(device):
                continue
            name = f"{method} {phase} {precision}"

            def compare(
                method: str = method,
                phase: str = phase,
                precision: str = precision,
                name: str = name,
                expected: list[dict[str, float]] = expected,
            ) -> Comparison:
                if not expected:
                    expected.append(losses(setting, method, phase, "fp32", CPU, 1)[0])
                found = losses(setting, method, phase, precision, device, STEPS)
                worst = max(
                    abs(found[0][key] - value) / (abs(value) + 0.1)
                    for key, value in expected[0].items()
                )
                if not all(math.isfinite(value) for step in found for value in step.values()):
                    worst = math.inf
                return Comparison(name, worst, MOST_LOSS[precision], "of the first losses")

            yield name, compare


def losses(
    setting: Setting, method: str, name: str, precision: str, device: torch.device, steps: int
) -> list[dict[str, float]]:
    """Return what the first steps of a phase log, of networks and random numbers of the CPU's."""
    changes = (f"images.precision={precision}", "checks.held_out=16")
    config = config_of(setting.trained_like, method, changes)
    run = open_run(config, 4 * getattr(config, name).batch, device)
    phase = new_phase(run, name)
    phase.draws = MovedDraws(config.seed, device, Group())
    batch = torch.arange(phase.schedule.batch)
    found = []
    for step, x in enumerate(run.domain.batches([batch] * steps)):
        logged = phase.update(step, x, batch)
        found.append({key: float(value) for key, value in logged.items()})
    return found


def scores(
    device: torch.device, setting: Setting
) -> Iterator[tuple[str, Callable[[], Comparison]]]:
    """Score the same samples of generators on both, and compare the histograms."""
    expected: dict[str, np.ndarray] = {}
    for what in ("model:mini/contrast/aae", "a TorchScript module"):
        for precision in ("fp32", "bf16"):
            name = f"{what} {precision}"

            def compare(
                what: str = what, precision: str = precision, name: str = name
            ) -> Comparison:
                if what not in expected:
                    expected[what] = histogram(what, CPU, "fp32", setting)
                found = histogram(what, device, precision, setting)
                moved = float(np.abs(found - expected[what]).sum()) / 2 / setting.scored
                return Comparison(name, moved, MOST_MOVED[precision], "of samples moved")

            yield name, compare


def histogram(what: str, device: torch.device, precision: str, setting: Setting) -> np.ndarray:
    """Return the histogram of a generator's first samples."""
    with tempfile.TemporaryDirectory(prefix="shapeshd-gpu-") as folder:
        name, options = "lite", SourceOptions()
        if setting.untrained:
            name = str(save_untrained(Path(folder) / "untrained.safetensors"))
        if not what.startswith("model:"):
            what, options = str(_script(Path(folder))), SourceOptions(latent_dim=8, range="unit")
        reader = load_recognizer(name, device, precision)
        with open_source(what, trust=True, device=str(device), options=options) as source:
            asked = ScoreSettings(samples=setting.scored, options=options, check_images=False)
            return score_in_memory(source, reader, asked, progress=False)[1]


def _script(folder: Path) -> Path:
    """Save a small TorchScript generator; return its path."""
    torch.manual_seed(0)
    layers = (nn.Linear(8, 3 * 32 * 32), nn.Sigmoid(), nn.Unflatten(1, (3, 32, 32)))
    traced = torch.jit.trace(nn.Sequential(*layers), torch.zeros(2, 8), check_trace=False)
    torch.jit.save(traced, folder / "generator.pt")
    return folder / "generator.pt"


WORKS: dict[str, Work] = {
    "tracer": tracer, "reading": reading, "training": training, "scores": scores,
}  # fmt: skip


def compare_all(work: str, device: torch.device, setting: Setting, path: Path) -> bool:
    """Make all comparisons of a kind, write them, and tell whether all agree."""
    rows: list[Comparison] = []
    for name, compare in WORKS[work](device, setting):
        try:
            rows.append(compare())
        except Exception as error:  # the others are still of use
            rows.append(Comparison(name, None, 0.0, explain(error)))
        print(rows[-1], flush=True)
        wrong = [row for row in rows if not row.agrees]
        said = f"{len(rows) - len(wrong)} of {len(rows)} agree with the CPU"
        if wrong:
            said += "; not " + "; ".join(map(_in_words, wrong))
        found = {"headline": said, "rows": [{**asdict(row), "agrees": row.agrees} for row in rows]}
        write_record(path, found)
    return all(row.agrees for row in rows)


def _in_words(row: Comparison) -> str:
    if row.differs is None:
        return f"{row.name} ({row.unit})"
    return f"{row.name} ({row.differs:.3g} {row.unit}, at most {row.most:g})"


def main() -> None:
    """Compare and write; the exit status is 1 where something does not agree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", choices=list(WORKS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--setting", choices=list(SETTINGS), default="full")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    device, setting = torch.device(options.device), SETTINGS[options.setting]
    sys.exit(0 if compare_all(options.work, device, setting, options.json) else 1)


if __name__ == "__main__":
    main()
