"""Times a training step of each phase, and measures its memory beside what --dry-run says:
python -m tests.experiments.gpu.steps.rates --config lite --device cuda --json FILE
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from shapeshd.models.training.dry_run import plan_of
from shapeshd.models.training.run import TrainingRun
from shapeshd.support.batching import NO_MEMORY, says_no_memory
from tests.experiments.gpu.step import write_record

from .phases import config_of, new_phase, open_run

TIMED = (("ours", "vae"), ("ours", "aae"), ("ours", "gan"), ("stylegan2", "gan"), ("flow", "flow"))
"""The steps that differ in cost, as methods and their phases."""

_FEATURES = 2_048  # images whose features are computed to time that


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed_phase(run: TrainingRun, name: str, steps: int) -> dict[str, Any]:
    """Time `steps` steps of a phase, images included, after as many that warm up."""
    device, domain = run.device, run.domain
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    phase = new_phase(run, name)
    batch = phase.schedule.batch
    rows = [torch.arange(batch) * (step + 1) % domain.count for step in range(2 * steps)]
    began = 0.0
    for step, x in enumerate(domain.batches(rows)):
        if step == steps:
            synchronize(device)
            began = time.perf_counter()
        phase.update(step, x, rows[step])
    synchronize(device)
    seconds = (time.perf_counter() - began) / steps
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"batch": batch, "seconds_per_step": seconds, "peak_bytes": peak}


def features_rate(run: TrainingRun) -> float:
    """Return images per second whose features phase 2 computes before it begins."""
    trunk = run.domain.encoder().trunk
    run.domain.features(trunk, None, "")  # warms up
    synchronize(run.device)
    began = time.perf_counter()
    found = run.domain.features(trunk, None, "")
    return len(found) / (time.perf_counter() - began)


def measure(config: str, device: torch.device, steps: int) -> dict[str, Any]:
    """Measure all phases of a configuration."""
    found: dict[str, Any] = {"config": Path(config).stem, "steps": steps, "phases": []}
    for method, name in TIMED:
        changes = ("checks.held_out=16",)
        settings = config_of(config, method, changes)
        batch = getattr(settings, name).batch
        run = open_run(settings, max(4 * batch, 64), device)
        planned = plan_of(run, [name])[name]
        kept = planned["state_bytes"] + planned["activation_bytes"]
        row = {
            "method": method, "phase": name, "flops_per_step": planned["flops"],
            "planned_bytes": planned.get("peak_bytes", kept) + planned["features_bytes"],
        }  # fmt: skip
        try:
            row |= timed_phase(run, name, steps)
            row["tflops"] = planned["flops"] / row["seconds_per_step"] / 1e12
        except NO_MEMORY as error:
            if not says_no_memory(error):
                raise
            row |= {"batch": batch, "seconds_per_step": None, "peak_bytes": None}
        found["phases"].append(row)
        print(row, flush=True)
    count = max(_FEATURES if device.type == "cuda" else 0, 4 * settings.vae.batch)
    run = open_run(config_of(config, "ours", ("checks.held_out=16",)), count, device)
    found["features_images_per_s"] = features_rate(run)
    found["headline"] = f"{found['config']}: " + ", ".join(map(_in_words, found["phases"]))
    return found


def _in_words(row: dict[str, Any]) -> str:
    name = f"{row['method']} {row['phase']}" if row["method"] != "ours" else row["phase"]
    if row["seconds_per_step"] is None:
        return f"{name} out of memory"
    said = f"{name} {1_000 * row['seconds_per_step']:.1f} ms"
    if row["peak_bytes"]:
        ratio = row["peak_bytes"] / row["planned_bytes"]
        said += f" {row['peak_bytes'] / 1e9:.1f} GB ({ratio:.2f} of the dry run)"
    return said


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    found = measure(options.config, torch.device(options.device), options.steps)
    write_record(options.json, found)


if __name__ == "__main__":
    main()
