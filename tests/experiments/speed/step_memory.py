"""The memory of a step that `--dry-run` tells, beside that of a computed one.

    python -m tests.experiments.speed.step_memory --config smoke --batch 8

The computed step is one of a CPU with all penalties; its peak is what PyTorch's allocator gave.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.models.config_file import load_config
from shapeshd.models.training.dry_run import plan_of
from shapeshd.models.training.run import TrainingRun
from tests.support.step_memory import EACH_STEP, allocated, batches_of, computed_phase


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="smoke")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--phases", nargs="+", default=["vae", "aae", "gan", "flow"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    changes = [*EACH_STEP, *batches_of(arguments.batch), f"images.precision={arguments.precision}"]
    config = load_config(arguments.config, changes, method="ours")
    source = RenderSpec(0, 20_000, config.images.size)
    run = TrainingRun(config, source, Path("no-folder"), workers=0, compiled=False)
    for name in arguments.phases:
        told = plan_of(run, (name,))[name]["peak_bytes"]
        torch.manual_seed(0)
        phase, x, rows = computed_phase(run, name)
        phase.update(0, x, rows)
        found = allocated(phase, x, rows)
        print(
            f"{arguments.config}, {arguments.precision}, batch {arguments.batch}, {name}: "
            f"--dry-run {told / 1e6:,.1f} MB, computed {found / 1e6:,.1f} MB: {told / found:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
