"""The figure that sets distribution against image fidelity."""

from __future__ import annotations

from dataclasses import replace

from matplotlib.figure import Figure

from shapeshd.benchmark.report.tables import AS_READ, ScoreRow, reference_rows, source_row
from shapeshd.benchmark.result.fidelity import IntervalRecord
from shapeshd.benchmark.result.schema import Result

from .style import BLUE, FAINT, GREY, NARROW, bare, log_ticks, new_figure

_LEAST = 0.05  # levels of 255: what is less is drawn there, as the axis has no 0


def fidelity_figure(result: Result, width: float) -> Figure:
    """Draw reduced chi-square against the residual, for the source and for real images.

    The source is labelled with its verdict: parts of D and shares of images decide that, too, so
    that no field of the figure has a verdict of its own. An infinite value is a triangle at the
    end of the axis.

    Args:
        result: one whose image fidelity was measured.
        width: inches.
    """
    assert result.fidelity is not None
    rmse, own = result.fidelity.residual.rmse, source_row(result)
    real = [row for row in reference_rows(result) if row.name.startswith(AS_READ)]
    known = real[0] if real else replace(own, value=1.0, low=None, high=None)
    points: list[tuple[ScoreRow, IntervalRecord, str, str]] = [
        (own, rmse.mean, BLUE, f"this source: {result.fidelity.verdict.name}"),
        (known, rmse.floor.mean, FAINT, "real images"),
    ]
    figure = new_figure(width, 3.4)
    axes = figure.add_subplot()
    limit = max(rmse.floor.quantile, _LEAST)
    edge = (result.detection_limit.reduced_chi_square, limit)
    reach = _reach(edge[0], *(row.high or row.value for row, *_ in points if not row.infinite))
    height = _reach(edge[1], *(mean.high for _, mean, *_ in points))
    bottom = 0.6 * min(limit, *(max(mean.low, _LEAST) for _, mean, *_ in points))
    axes.axvline(edge[0], color=GREY, lw=1, ls=(0, (4, 3)), zorder=0)
    axes.axhline(edge[1], color=GREY, lw=1, ls=(0, (4, 3)), zorder=0)
    for row, mean, colour, name in points:
        x, marker = (reach, ">") if row.infinite else (row.value, "o")
        value = max(mean.value, _LEAST)
        across = [row.low or x, row.high or x]
        axes.plot(across, [value] * 2, color=colour, lw=2.2, alpha=0.55)
        upright = [max(mean.low, _LEAST), max(mean.high, _LEAST)]
        axes.plot([x] * 2, upright, color=colour, lw=2.2, alpha=0.55)
        axes.plot(
            x, value, marker, color=colour, ms=6.5, mec="white", mew=0.6, label=name, clip_on=False
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.9, reach)
    axes.set_ylim(bottom, height)
    log_ticks(axes.xaxis, 0.9, reach, few=width <= NARROW)
    log_ticks(axes.yaxis, bottom, height)
    short = width <= NARROW
    axes.set_xlabel("reduced chi-square" + ("" if short else " at 20 samples per bin"))
    axes.set_ylabel("mean RMSE to the re-render" + ("" if short else ", levels of 255"))
    bare(axes)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _reach(edge: float, *values: float) -> float:
    """Return the end of a logarithmic axis: some room beyond the largest value and the edge."""
    return float(max(4 * edge, *(1.8 * value for value in values)))
