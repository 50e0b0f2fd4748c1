"""Says for people what training a run gave, or would take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shapeshd.support.progress import human_bytes, human_time

from .files import GENERATOR


def describe_plan(plan: Mapping[str, Any]) -> str:
    """Return what `dry_run.plan_of` found in lines for people."""
    lines = []
    for name, values in plan.items():
        steps, batch = values["steps"], values["batch"]
        lines.append(f"{name}: {steps:,} steps of {batch:,} samples, {steps * batch:,} in all")
        for network, count in values["parameters"].items():
            lines.append(f"  {network:<15} {count:>12,} parameters")
        state, peak = values["state_bytes"], values["peak_bytes"]
        more = values["features_bytes"]
        lines.append(
            f"  memory, about   {human_bytes(peak + more)}: networks "
            f"{human_bytes(state)}, a step {human_bytes(peak - state)}"
            + (f", features {human_bytes(more)}" if more else "")
        )
        per_step = values["flops"]
        lines.append(
            f"  work            {per_step / 1e9:,.1f} GFLOP a step, "
            f"{per_step * steps / 1e15:,.3f} PFLOP in all"
        )
        if "seconds_a_step" in values:
            lines.append(f"  {_time(values)}")
    every = [values.get("seconds_a_step") for values in plan.values()]
    if every and None not in every:
        total = sum(values["seconds_a_step"] * values["steps"] for values in plan.values())
        less = any(values["compiled_in_training"] for values in plan.values())
        lines.append(
            f"all of these steps: about {human_time(total)}; reading images, augmentation, checks "
            "and scores come on top of that"
            + ("; compiled networks, which were not tried, are faster" if less else "")
        )
    return "\n".join(lines)


def _time(values: Mapping[str, Any]) -> str:
    seconds = values["seconds_a_step"]
    if seconds is None:
        return f"time            not measured: {values['why_not_timed']}"
    return (
        f"time, about     {human_time(seconds * values['steps'])}: {seconds:.3g} s a step, "
        f"{values['batch'] / seconds:,.0f} samples/s, measured on this machine"
    )


def describe_results(results: Mapping[str, Any], out: Path) -> str:
    """Return the results of phases in lines for people.

    Args:
        results: by the phase's name; see `TrainingRun.train_all`.
        out: folder of the run.
    """
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
