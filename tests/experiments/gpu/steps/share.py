"""Says how many steps of each phase the table's methods take, so that they fit into the time:
python -m tests.experiments.gpu.steps.share --rates FILE --config lite --seconds 600 ...

All phases of all methods are shortened by one share, with their averages and what else counts
steps, and a method with one phase sees as many images as the three phases of the others together.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shapeshd.models.config import RunConfig
from shapeshd.models.config_file import load_config
from shapeshd.models.methods import METHODS
from shapeshd.models.training.files import PHASES
from tests.experiments.gpu.settings import ABLATIONS, TABLE
from tests.experiments.gpu.step import read_record, write_record

OF_TIME = 0.85
"""Share of the time that the table's three methods may take; costs are estimates."""

SMALLEST = 0.02
"""Smallest share of a training; what is shorter says nothing of the methods."""

_CHECK_SECONDS = 10.0
"""What is guessed for the end of a phase: codes of held-out images, sheets, files."""

_COUNTS_STEPS = ("half_life", "head_start", "warm_up")


def reused(method: str) -> tuple[str, ...]:
    """Return the phases that a method takes over from `ours`, with which it has them in common."""
    if method == "ours" or METHODS[method].phases != PHASES:
        return ()
    ours, own = (load_config("lite", (), 0, name).to_json() for name in ("ours", method))
    found: list[str] = []
    for phase in PHASES[:-1]:  # the last is always trained
        if ours[phase] != own[phase]:
            break
        found.append(phase)
    return tuple(found)


def changes_of(config: RunConfig, ours: RunConfig, method: str, share: float) -> list[str]:
    """Return what a method's configuration changes (``--set``) where steps are cut to a share."""
    shown = sum(
        cut_steps(getattr(ours, phase).steps, share) * getattr(ours, phase).batch
        for phase in PHASES
    )
    phases, changes = METHODS[method].phases, []
    for phase in phases:
        table = getattr(config, phase)
        steps = cut_steps(table.steps, share) if phases == PHASES else shown // table.batch
        changes.append(f"{phase}.steps={steps}")
        if share < 1:
            for name in _COUNTS_STEPS:
                if value := getattr(table, name, 0):
                    kept = type(value)(max(1, round(value * share)))
                    changes.append(f"{phase}.{name}={kept}")
    return changes


def cut_steps(steps: int, share: float) -> int:
    """Return a share of steps, at least one."""
    return max(1, round(steps * share))


def images_shown(changes: list[str], config: RunConfig, method: str) -> int:
    """Return how many real images a method's phases see."""
    known = dict(change.split("=") for change in changes)
    return sum(
        int(known[f"{phase}.steps"]) * int(getattr(config, phase).batch)
        for phase in METHODS[method].phases
    )


def seconds_of(
    changes: list[str], method: str, rates: dict[str, Any], images: int, score: float
) -> float:
    """Estimate what a method takes: steps, checks, the features of phase 2, and its score."""
    known = dict(change.split("=") for change in changes)
    timed = {(row["method"], row["phase"]): row["seconds_per_step"] for row in rates["phases"]}
    total = score
    for phase in METHODS[method].phases:
        if phase in reused(method):
            continue
        plain = (method, phase)
        each = timed[plain] if plain in timed else timed["ours", phase]
        total += int(known[f"{phase}.steps"]) * each + _CHECK_SECONDS
        if phase == "aae":
            total += images / rates["features_images_per_s"]
    return total


def plan(options: argparse.Namespace) -> dict[str, Any]:
    """Return the largest share that fits, and the plan of each method."""
    rates = read_record(options.rates)["result"]
    if any(row["seconds_per_step"] is None for row in rates["phases"]):
        raise SystemExit("a phase of the table does not fit into the memory")
    configs = {name: load_config(options.config, (), 0, name) for name in (*TABLE, *ABLATIONS)}

    def methods_at(share: float) -> dict[str, Any]:
        found = {}
        for name, config in configs.items():
            changes = changes_of(config, configs["ours"], name, share)
            found[name] = {
                "changes": changes,
                "images": images_shown(changes, config, name),
                "seconds": seconds_of(
                    changes, name, rates, options.images, options.samples / options.score_rate
                ),
                "after_ours": list(reused(name)),
            }
        return found

    def fits(share: float) -> bool:
        methods = methods_at(share)
        return sum(methods[name]["seconds"] for name in TABLE) <= OF_TIME * options.seconds

    share = largest(fits)
    methods = methods_at(share)
    seconds = sum(methods[name]["seconds"] for name in TABLE)
    return {
        "headline": f"{share:.1%} of the steps of {Path(options.config).stem}: "
        f"{methods['ours']['images']:,} images seen by each method, about {seconds:.0f} s for "
        f"{', '.join(TABLE)}",
        "share": share,
        "seconds_given": options.seconds,
        "methods": methods,
    }


def largest(fits: Callable[[float], bool]) -> float:
    """Return the largest share that fits, at least the smallest that is worth a training."""
    if fits(1.0):
        return 1.0
    low, high = SMALLEST, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return round(low, 4)


def main() -> None:
    """Plan and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rates", type=Path, required=True, help="result file of the rates")
    parser.add_argument("--config", required=True)
    parser.add_argument("--seconds", type=float, required=True, help="for the table")
    parser.add_argument("--images", type=int, required=True, help="in the dataset")
    parser.add_argument("--samples", type=int, required=True, help="of a score")
    parser.add_argument("--score-rate", type=float, required=True, help="samples per second")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    write_record(options.json, plan(options))


if __name__ == "__main__":
    main()
