"""Curves over the values of an option: divergence and fidelity, and one against the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure

from shapeshd.benchmark.result.fidelity import IntervalRecord
from shapeshd.benchmark.result.sweep import SweepPointRecord, SweepRecord

from .style import BLUE, FAINT, NARROW, ORANGE, bare, log_ticks, new_figure

_LEAST_DECADES = 1.0  # that a logarithmic axis shows below the largest value
_WIDE_RANGE = 20.0  # of values, from which on they stand on a logarithmic axis

_Values = Sequence[IntervalRecord | None]  # None: infinite


def sweep_figure(sweep: SweepRecord, width: float) -> Figure:
    """Draw divergence and, where it was measured, fidelity against the option's values.

    An infinite divergence is a triangle at the upper end of the axis, and interrupts the line.

    Args:
        sweep: of two values or more.
        width: inches.
    """
    curves: list[tuple[str, _Values, str, bool]] = [
        ("divergence D", _divergences(sweep), BLUE, True)
    ]
    entries = [point.fidelity for point in sweep.points]
    known = [entry for entry in entries if entry is not None]
    if len(known) == len(entries):
        beyond = [
            IntervalRecord(
                value=100 * e.beyond.value, low=100 * e.beyond.low, high=100 * e.beyond.high
            )
            for e in known
        ]
        fid = [e.fid for e in known]
        curves += [
            ("FID", fid, ORANGE, False),
            ("images unlike re-render, %", beyond, ORANGE, False),
        ]
    figure = new_figure(width, 1.0 + 1.8 * len(curves))
    rows: Any = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    places, labels, logarithmic = _places(sweep.points)
    for axes, (name, values, colour, log) in zip(rows, curves, strict=True):
        _curve(axes, places, values, colour, log)
        axes.set_ylabel(name)
        axes.grid(axis="y")
        bare(axes)
    last = rows[-1]
    if logarithmic:
        last.set_xscale("log")
        last.minorticks_off()
    last.set_xticks(places, labels)
    last.set_xlabel(sweep.option_text)
    return figure


def trade_figure(sweep: SweepRecord, width: float) -> Figure:
    """Draw FID against divergence, one point for each value; fidelity must have been measured.

    A point of infinite divergence is a triangle at the right end of the axis.
    """
    figure = new_figure(width, 3.4)
    axes = figure.add_subplot()
    across = _drawn(_divergences(sweep))
    upright = [point.fidelity.fid for point in sweep.points if point.fidelity is not None]
    low, high = _ends(across)
    low, high = 0.7 * low, 1.6 * high
    axes.plot(_line(across), [y.value for y in upright], color=FAINT, lw=1)
    for point, x, y in zip(sweep.points, across, upright, strict=True):
        if x is not None:
            axes.plot([x.low, x.high], [y.value] * 2, color=BLUE, lw=2.2, alpha=0.55)
        place, marker = (high, ">") if x is None else (x.value, "o")
        axes.plot([place] * 2, [y.low, y.high], color=BLUE, lw=2.2, alpha=0.55, clip_on=False)
        axes.plot(
            place, y.value, marker, color=BLUE, ms=6, mec="white", mew=0.6, clip_on=False
        )  # fmt: skip
        axes.annotate(
            point.text, (place, y.value), xytext=(-5 if x is None else 5, 5),
            ha="right" if x is None else "left", textcoords="offset points", color=FAINT,
            annotation_clip=False,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    log_ticks(axes.xaxis, low, high, few=width <= NARROW)
    axes.set_xlabel("divergence D")
    axes.set_ylabel("FID" if width <= NARROW else "FID, distance of features from real images'")
    axes.grid()
    bare(axes)
    return figure


def _divergences(sweep: SweepRecord) -> _Values:
    found = ((point.infinite, point.divergence) for point in sweep.points)
    return [
        None if infinite else IntervalRecord(value=d.reported, low=d.low, high=d.high)
        for infinite, d in found
    ]


def _known(values: _Values) -> Iterable[IntervalRecord]:
    return (value for value in values if value is not None)


def _line(values: _Values) -> list[float]:
    return [math.nan if value is None else value.value for value in values]


def _ends(values: _Values) -> tuple[float, float]:
    """Return the lowest and the highest end of the intervals; 1 and 1 if all are infinite."""
    known = list(_known(values))
    return min((v.low for v in known), default=1.0), max((v.high for v in known), default=1.0)


def _drawn(values: _Values) -> _Values:
    """Return values for a logarithmic axis: what is not above its lower end is drawn there."""
    _, highest = _ends(values)
    seen = [part for value in _known(values) for part in (value.value, value.high) if part > 0]
    floor = min(min(seen, default=1.0), highest / 10**_LEAST_DECADES) / 2
    return [
        one
        and IntervalRecord(
            value=max(one.value, floor), low=max(one.low, floor), high=max(one.high, floor)
        )
        for one in values
    ]


def _curve(axes: Any, places: Sequence[float], values: _Values, colour: str, log: bool) -> None:
    drawn = _drawn(values) if log else values
    low, high = _ends(drawn)
    axes.plot(places, _line(drawn), color=colour, lw=1.2, marker="o", ms=5)
    for place, value in zip(places, drawn, strict=True):
        if value is None:  # at the upper end of the axis, whatever that is
            upper = axes.get_xaxis_transform()
            axes.plot(place, 1, "^", color=colour, ms=7, transform=upper, clip_on=False)
        else:
            axes.plot([place] * 2, [value.low, value.high], color=colour, lw=2.2, alpha=0.55)
    if log:
        axes.set_yscale("log")
        axes.set_ylim(0.8 * low, 1.5 * high)
        log_ticks(axes.yaxis, 0.8 * low, 1.5 * high)
    else:
        axes.set_ylim(0, 1.08 * high if high > 0 else 1)


def _places(points: Sequence[SweepPointRecord]) -> tuple[list[float], list[str], bool]:
    """Return where values stand on the axis, their texts, and whether it is logarithmic."""
    labels = [point.text for point in points]
    values = [point.value for point in points]
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    if len(numbers) < len(values):
        return [float(place) for place in range(len(values))], labels, False
    wide = min(numbers) > 0 and max(numbers) / min(numbers) >= _WIDE_RANGE
    return numbers, labels, wide
