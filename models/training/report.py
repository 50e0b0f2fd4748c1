"""Says for people what training a run gave."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import GENERATOR


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
