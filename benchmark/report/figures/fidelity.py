"""The figure that sets distribution against image fidelity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from shapeshd.benchmark.report.tables import REAL, ScoreRow, reference_rows, source_row
from shapeshd.benchmark.result.fidelity import IntervalRecord
from shapeshd.benchmark.result.schema import Result

from .style import BLUE, FAINT, GREY, NARROW, bare, log_ticks, new_figure

CORNERS = ("right and real", "pretty, wrong distribution", "diverse but bad", "bad and wrong")
"""What the four fields mean: below left, below right, above left, above right."""

_LEAST = 0.05  # levels of 255: what is less is drawn there, as the axis has no 0


def fidelity_figure(result: Result, width: float) -> Figure:
    """Draw reduced chi-square against the residual, for the source and for real images.

    Args:
        result: one whose image fidelity was measured.
        width: inches.
    """
    assert result.fidelity is not None
    rmse, own = result.fidelity.residual.rmse, source_row(result)
    real = [row for row in reference_rows(result) if row.name.startswith(REAL)]
    known = real[0] if real else replace(own, value=1.0, low=None, high=None)
    points: list[tuple[ScoreRow, IntervalRecord, str, str]] = [
        (own, rmse.mean, BLUE, "this source"),
        (known, rmse.floor.mean, FAINT, "real images"),
    ]
    figure = new_figure(width, 3.4)
    axes = figure.add_subplot()
    limit = max(rmse.floor.quantile, _LEAST)
    edge = (result.detection_limit.reduced_chi_square, limit)
    reach = _reach(edge[0], *(row.high or row.value for row, *_ in points))
    height = _reach(edge[1], *(mean.high for _, mean, *_ in points))
    bottom = 0.6 * min(limit, *(max(mean.low, _LEAST) for _, mean, *_ in points))
    axes.axvline(edge[0], color=GREY, lw=1, ls=(0, (4, 3)), zorder=0)
    axes.axhline(edge[1], color=GREY, lw=1, ls=(0, (4, 3)), zorder=0)
    for row, mean, colour, name in points:
        across = [row.low or row.value, row.high or row.value]
        value = max(mean.value, _LEAST)
        axes.plot(across, [value] * 2, color=colour, lw=2.2, alpha=0.55)
        upright = [max(mean.low, _LEAST), max(mean.high, _LEAST)]
        axes.plot([row.value] * 2, upright, color=colour, lw=2.2, alpha=0.55)
        axes.plot(row.value, value, "o", color=colour, ms=6.5, mec="white", mew=0.6, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.9, reach)
    axes.set_ylim(bottom, height)
    log_ticks(axes.xaxis, 0.9, reach, few=width <= NARROW)
    log_ticks(axes.yaxis, bottom, height)
    _name_fields(axes)
    short = width <= NARROW
    axes.set_xlabel("reduced chi-square" + ("" if short else " at 20 samples per bin"))
    axes.set_ylabel("mean RMSE to the re-render" + ("" if short else ", levels of 255"))
    bare(axes)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _reach(edge: float, *values: float) -> float:
    """Return the end of a logarithmic axis: some room beyond the largest value and the edge."""
    return float(max(4 * edge, *(1.8 * value for value in values)))


def _name_fields(axes: Any) -> None:
    places = [(0.02, 0.03), (0.98, 0.03), (0.02, 0.97), (0.98, 0.97)]
    for text, (x, y) in zip(CORNERS, places, strict=True):
        axes.text(
            x, y, text, transform=axes.transAxes, color=FAINT, style="italic",
            ha="left" if x < 0.5 else "right", va="bottom" if y < 0.5 else "top",
        )  # fmt: skip
