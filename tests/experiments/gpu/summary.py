"""What came out of a run, on one page and as one JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .settings import ABLATIONS, TABLE
from .step import DONE, KEPT, Outcome, write_record

_LONGEST = 150  # characters of a line


def page(common: Mapping[str, Any], outcomes: Sequence[Outcome], spent: float, total: float) -> str:
    """Return the summary as text.

    Args:
        common: what all result files say: see `Runner`.
        outcomes: of all steps, in order.
        spent: seconds.
        total: seconds that there were.
    """
    machine = common["machine"]
    lines = [
        f"{machine['name']}, PyTorch {machine['torch']}, {common['setting']} setting: "
        f"{spent / 60:.1f} of {total / 60:.3g} minutes; commit {common['commit'][:12]}",
        "",
    ]
    width = max(len(one.name) for one in outcomes)
    for one in outcomes:
        seconds = f"{one.seconds:6.0f} s" if one.seconds else " " * 8
        lines.append(f"{one.name:{width}}  {one.status:10} {seconds}  {one.said}"[:_LONGEST])
    return "\n".join([*lines, *_table(outcomes)])


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    found = {one.name: one.record["result"] for one in outcomes if one.status in (DONE, KEPT)}
    rows = [found[name] for method in (*TABLE, *ABLATIONS) if (name := f"table-{method}") in found]
    if not rows:
        return []
    lines = ["", f"The table, {rows[0]['share']:.1%} of the configuration's steps:"]
    lines.append(f"{'method':14} {'D':>9} {'interval':>20} {'samples':>10} {'images seen':>12}")
    for row in rows:
        of = row["divergence"]
        interval = f"[{of['low']:.4f}, {of['high']:.4f}]"
        lines.append(
            f"{row['method']:14} {of['value']:9.4f} {interval:>20} {row['samples']:10,} "
            f"{row['images']:12,}"
        )
    return lines


def write_summary(
    path: Path, common: Mapping[str, Any], outcomes: Sequence[Outcome], spent: float, total: float
) -> None:
    """Write everything that the steps gave into one file, without what is the same for all."""
    steps = [
        {
            "name": one.name,
            "status": one.status,
            "said": one.said,
            **{key: value for key, value in one.record.items() if common.get(key) != value},
        }
        for one in outcomes
    ]
    write_record(
        path, {**common, "minutes": total / 60, "spent_seconds": round(spent, 1), "steps": steps}
    )
