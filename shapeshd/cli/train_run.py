"""What ``shapeshd train`` does with the options of the reference models, and what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import UsageError
from shapeshd.models.config import RunConfig
from shapeshd.models.config_file import load_config, to_toml
from shapeshd.models.methods import ROWS
from shapeshd.models.training.distributed import joined_group
from shapeshd.models.training.dry_run import describe_plan, plan_of
from shapeshd.models.training.run import TrainingRun
from shapeshd.models.training.run_files import GENERATOR
from shapeshd.support.distributed import local_number
from shapeshd.support.progress import emit

from .options import pick_device


def run_training(
    dataset: Path | RenderSpec | None,
    phases: tuple[str, ...],
    row: str | None,
    *,
    config_name: str,
    out: Path,
    changes: tuple[str, ...],
    seed: int | None,
    device: str,
    workers: int | None,
    start: Path | None,
    tensorboard: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train as the command line's options say; errors as `TrainingRun`."""
    config = load_config(config_name, changes, seed, row)
    if row is not None:
        phases = ROWS[row].phases
    if start is not None and not start.is_dir():
        raise UsageError(f"--from {start}: no such folder")
    place = torch.device(pick_device(device, local_number()))
    if workers is None:
        workers = 0 if dataset is None or isinstance(dataset, RenderSpec) else 1
    with joined_group(place) as group:
        # What a compiler makes of networks can be neither counted nor measured.
        plain = replace(config, images=replace(config.images, compile=False))
        run = TrainingRun(
            plain if dry_run else config,
            dataset,
            out,
            device=place,
            group=group,
            start=start,
            workers=workers,
        )
        if dry_run:
            if group.first:
                plan = plan_of(run, phases)
                text = f"{to_toml(config)}\n{describe_plan(plan)}"
                emit({"config": config.to_json(), "plan": plan}, text, as_json=as_json)
            return
        results = {}
        for name in phases:
            if name != phases[-1] and run.has(name):
                continue
            results[name] = run.train(name, progress=True, tensorboard=tensorboard)
    if group.first:
        emit(results, describe_results(results, config, out), as_json=as_json)


def describe_results(results: dict[str, Any], config: RunConfig, out: Path) -> str:
    """Return a table of the phases' results for people."""
    lines = []
    for name, result in results.items():
        lines.append(f"{name}: {result['steps']:,} steps in {result['seconds']:,.0f} s")
        if "score" in result:
            fit = result["score"]["fit"]
            found, predicted = fit["divergence"], fit["prediction"]["reduced_chi_square"]
            lines.append(
                f"  D = {found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}], reduced "
                f"chi-square {predicted['value']:.2f} [{predicted['low']:.2f}, "
                f"{predicted['high']:.2f}] at 20 per bin, from {fit['samples']:,} samples"
            )
        elif result.get("why_no_score"):
            lines.append(f"  no chi-square: {result['why_no_score']}")
        if "posterior" in result:
            far = result["posterior"]
            lines.append(
                f"  codes of held-out data: mean {far['mean']:.3f}, covariance "
                f"{far['covariance']:.3f}, sliced Wasserstein {far['sliced']:.4f} from N(0, I); "
                f"its own codes give {far['mean_floor']:.3f}, {far['covariance_floor']:.3f}, "
                f"{far['sliced_floor']:.4f}"
            )
        lines.append(f"  {out / name / GENERATOR}")
    return "\n".join(lines)
