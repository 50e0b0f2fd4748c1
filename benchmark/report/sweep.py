"""What people read of a sweep: a table for the terminal, and a page with the curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shapeshd.benchmark.result.files import REPORT
from shapeshd.benchmark.result.formatting import interval, percent, with_interval
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.result.sweep import (
    SweepPointRecord,
    SweepRecord,
    build_sweep,
    save_sweep,
)
from shapeshd.benchmark.statistics.intervals import CONFIDENCE

from .tables import INFINITE
from .terminal import table

HEADS = ("reduced chi-square", "divergence D")
FIDELITY_HEADS = ("images unlike their re-render", "FID", "precision", "recall")


def finish_sweep(
    option: str,
    results: Sequence[tuple[float | int | str, str, Result]],
    out: Path,
    command: str | None = None,
) -> SweepRecord:
    """Write the record and the page of finished scores into the sweep's folder.

    Args:
        option: whose values were swept.
        results: value, folder in `out` and result of each score.
        out: the folder.
        command: the command line; None from a program.
    """
    from .html import draw_or_say

    record = build_sweep(option, results, command)
    save_sweep(record, out)
    draw_or_say(lambda folder: write_sweep_page(record, folder), out)
    return record


def describe_sweep(sweep: SweepRecord) -> str:
    """Return the table for the terminal."""
    heads = HEADS + (FIDELITY_HEADS if _has_fidelity(sweep) else ())
    rows = [(point.text, *_cells(point)) for point in sweep.points]
    lines = [f"{sweep.title} ({sweep.kind}), by {sweep.option_text}", ""]
    lines += table((sweep.option_text, *heads), rows)
    lines.append(f"  reduced chi-square at 20 samples per bin; in brackets: {CONFIDENCE:.0%}")
    return "\n".join(line.rstrip() for line in lines)


def write_sweep_page(sweep: SweepRecord, out: Path) -> Path:
    """Write the page of a sweep into its folder, and return its path."""
    path = out / REPORT
    from .html import write_page

    text = sweep_page(sweep)
    write_page(text, path)
    return path


def sweep_page(sweep: SweepRecord) -> str:
    """Return the page of a sweep as HTML: the curves, and a table with links to the scores."""
    # Only here: Matplotlib takes a second to import.
    from .figures.style import both_widths
    from .figures.sweep import sweep_figure, trade_figure
    from .html import render_page

    fidelity = _has_fidelity(sweep)
    return render_page(
        "sweep.html",
        {
            "title": f"{sweep.title} by {sweep.option_text} \N{MIDDLE DOT} 3DShapesHD scores",
            "name": sweep.title,
            "kind": sweep.kind,
            "option": sweep.option_text,
            "seed": sweep.seed,
            "command": sweep.command,
            "samples": f"{sweep.points[0].samples:,}",
            "images": f"{sweep.points[0].fidelity.images:,}" if sweep.points[0].fidelity else None,
            "heads": HEADS + (FIDELITY_HEADS if fidelity else ()),
            "rows": [
                {
                    "value": point.text,
                    "cells": _cells(point),
                    "link": f"{point.folder}/{REPORT}",
                }
                for point in sweep.points
            ],
            "figure_of_values": both_widths(lambda width: sweep_figure(sweep, width)),
            "infinite": any(point.infinite for point in sweep.points),
            "trade": both_widths(lambda width: trade_figure(sweep, width)) if fidelity else None,
            "text": "; ".join(f"{point.text}: D {_divergence(point)}" for point in sweep.points)
            + ".",
        },
    )


def _has_fidelity(sweep: SweepRecord) -> bool:
    return all(point.fidelity is not None for point in sweep.points)


def _divergence(point: SweepPointRecord) -> str:
    return INFINITE if point.infinite else with_interval(point.divergence)


def _cells(point: SweepPointRecord) -> tuple[str, ...]:
    first = INFINITE if point.infinite else with_interval(point.reduced_chi_square)
    cells = (first, _divergence(point))
    if (entry := point.fidelity) is None:
        return cells
    return (
        *cells,
        percent(entry.beyond.value),
        interval(entry.fid),
        interval(entry.precision),
        interval(entry.recall),
    )
