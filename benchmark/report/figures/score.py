"""Figures of one result: the score, the parts of the divergence, how full the bins are."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from shapeshd.benchmark.report.tables import ScoreRow
from shapeshd.benchmark.result.fit import BinCountsRecord, DecompositionRecord, PartRecord
from shapeshd.benchmark.result.formatting import brief, number, part_name, percent

from .style import BLUE, FAINT, GREY, INK, LINES, NARROW, ORANGE, bare, log_ticks, new_figure

_ROW = 0.27  # inches
_ROWS = {1: _ROW, 2: 0.4, 3: 0.53, 4: 0.66}  # by the lines of the longest name
LARGEST_PARTS = 22
_SHOWN_TAIL = 0.5  # bins: an expectation below this is none


def score_figure(rows: Sequence[ScoreRow], width: float) -> Figure:
    """Draw reduced chi-square with intervals on a log axis, one row a source or reference.

    An infinite one is a triangle at the end of the axis.
    """
    short = width <= NARROW
    names = [_on_lines(row.name, 20, 4) if short else _on_lines(row.name, 38, 2) for row in rows]
    lines = 1 + max(name.count("\n") for name in names)
    figure = new_figure(width, 0.85 + _ROWS[lines] * len(rows))
    axes = figure.add_subplot()
    places = np.arange(len(rows))[::-1]
    values = [row.high or row.value for row in rows if not row.infinite]
    low, high = 0.9, max(10.0, 1.6 * max(values, default=0.0))
    axes.axvline(1, color=GREY, lw=1, ls=(0, (4, 3)), zorder=0)
    for row, place in zip(rows, places, strict=True):
        colour, size = (BLUE, 6.5) if row.own else (FAINT, 5)
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place] * 2, color=colour, lw=2.2, alpha=0.55)
        value, marker = (0.95 * high, ">") if row.infinite else (row.value, "o")
        axes.plot(value, place, marker, color=colour, ms=size, mec="white", mew=0.6)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    log_ticks(axes.xaxis, low, high, few=short)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(places, names)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.own else "normal")
    axes.set_xlabel("reduced chi-square" + ("" if short else " at 20 samples per bin (1 is ideal)"))
    axes.grid(axis="x")
    bare(axes, "left")
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, [row.text for row in rows])
    bare(right, "right")
    return figure


def _named(part: PartRecord, width: float) -> str:
    """Name a part, in two lines if it is a triple in a narrow figure."""
    if width > NARROW or len(part.factors) < 3:
        return part_name(part.factors)
    return f"{part_name(part.factors[:-1])}\n\N{MULTIPLICATION SIGN} {part_name(part.factors[-1:])}"


def decomposition_figure(decomposition: DecompositionRecord, width: float) -> Figure:
    """Draw the largest parts of the divergence and all significant ones, which are marked."""
    parts = [
        part
        for place, part in enumerate(decomposition.parts)
        if place < LARGEST_PARTS or part.significant
    ]
    figure = new_figure(width, 0.8 + 0.215 * len(parts))
    axes = figure.add_subplot()
    places = np.arange(len(parts))[::-1]
    axes.axvline(0, color=FAINT, lw=0.8)
    for part, place in zip(parts, places, strict=True):
        delta, colour = part.delta, ORANGE if part.significant else GREY
        axes.plot([delta.low, delta.high], [place] * 2, color=colour, lw=2, alpha=0.6)
        marker = "D" if part.significant else "o"
        axes.plot(delta.reported, place, marker, color=colour, ms=5, mec="white", mew=0.5)
    axes.set_yticks(places, [_named(part, width) for part in parts])
    for label, part in zip(axes.get_yticklabels(), parts, strict=True):
        label.set_fontweight("bold" if part.significant else "normal")
        label.set_color(ORANGE if part.significant else INK)
    axes.set_ylim(-0.7, len(parts) - 0.3)
    high = max(part.delta.high for part in parts)
    axes.set_xlim(-0.02 * high or -0.001, 1.05 * high or 0.01)
    axes.xaxis.set_major_locator(MaxNLocator(4 if width <= NARROW else 7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.set_xlabel("contribution to the divergence D")
    axes.grid(axis="x")
    bare(axes, "left")
    right = axes.secondary_yaxis("right")
    texts = [_amount(part) for part in parts]
    right.set_yticks(places, texts)
    bare(right, "right")
    return figure


def bin_counts_figure(series: Sequence[tuple[str, BinCountsRecord]], width: float) -> Figure:
    """Draw how many bins hold exactly j samples, and the binomial expectation.

    Args:
        series: name and bin counts of each source; where their expectations differ
            (they have different sizes), each is drawn.
        width: inches.
    """
    figure = new_figure(width, 3.1 if width > NARROW else 3.0)
    axes = figure.add_subplot()
    last = max(_last(bin_counts) for _, bin_counts in series)
    several = len({tuple(bin_counts.expected) for _, bin_counts in series}) > 1
    drawn: list[tuple[float, ...]] = []
    for (name, bin_counts), colour in zip(series, _colours(len(series)), strict=True):
        expected = tuple(bin_counts.expected)
        if expected not in drawn:
            label = "binomial expectation"
            if several:
                label += f" at {_mean(bin_counts)} samples per bin"
            line = colour if several else INK
            shown = np.array([value if value >= _SHOWN_TAIL else np.nan for value in expected])
            axes.plot(shown, "-", color=line, lw=1.1, label=label)
            if len(shown) < 30:
                axes.plot(shown, "_", color=line, ms=13, mew=1.3)
            drawn.append(expected)
        observed = np.array([value or np.nan for value in bin_counts.observed], dtype=float)
        size = 4 if len(observed) < 30 else 2.6
        axes.plot(observed, "o", color=colour, ms=size, label=_in_legend(name))
        if bin_counts.observed_beyond:
            axes.plot(last + 1, bin_counts.observed_beyond, ">", color=colour, ms=6)
    beyond = any(bin_counts.observed_beyond for _, bin_counts in series)
    axes.set_yscale("log")
    axes.set_ylim(0.6, None)
    low, high = axes.get_ylim()
    log_ticks(axes.yaxis, low, max(high, 10))
    axes.set_xlim(-0.03 * last - 0.3, last + 0.5 + beyond)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("samples in a bin, j" + (" (triangle: all that hold more)" if beyond else ""))
    axes.set_ylabel("number of bins")
    axes.grid(axis="y")
    figure.legend(loc="outside upper left", ncols=1 if width <= NARROW else 2)
    return figure


def _colours(number: int) -> list[str]:
    return [LINES[index % len(LINES)] for index in range(number)]


def _last(bin_counts: BinCountsRecord) -> int:
    """Return the largest j that is worth to be shown."""
    observed, expected = np.array(bin_counts.observed), np.array(bin_counts.expected)
    if bin_counts.observed_beyond:
        return len(observed) - 1
    return int(np.flatnonzero((observed > 0) | (expected >= _SHOWN_TAIL)).max())


def _mean(bin_counts: BinCountsRecord) -> str:
    """Return the samples per bin, as the expectation gives them."""
    expected = np.array(bin_counts.expected)
    return number(float(np.arange(len(expected)) @ expected / expected.sum()))


def _amount(part: PartRecord) -> str:
    value = brief(part.delta)
    share = part.share
    return f"{value} ({percent(max(share, 0.0), 0)})" if part.significant and share else value


def _on_lines(text: str, length: int, lines: int) -> str:
    """Break a text between words, and words that are too long; more is cut in the middle."""
    broken = textwrap.wrap(_short(text, length * lines, escaped=False), length)
    if len(broken) > lines:  # words left room at the ends of lines
        whole = _short(text, length * lines, escaped=False)
        broken = [whole[start : start + length] for start in range(0, len(whole), length)]
    return "\n".join(broken).replace("$", r"\$")  # which would begin a formula


def _in_legend(name: str) -> str:
    """Shorten a name; Matplotlib leaves out of a legend what begins with an underscore."""
    return "\N{WORD JOINER}" * name.startswith("_") + _short(name, 40)


def _short(text: str, length: int, *, escaped: bool = True) -> str:
    """Cut a name in the middle; Matplotlib then shows its letters as they are."""
    if len(text) > length:
        tail = (length - 1) // 2
        text = f"{text[: length - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{text[-tail:]}"
    return text.replace("$", r"\$") if escaped else text  # it would begin a formula
