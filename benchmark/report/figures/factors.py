"""Figures of the factors: each one's histogram, what pairs do together, how well each is read."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from shapeshd.benchmark.recognizer.card import FactorAccuracy
from shapeshd.benchmark.result.formatting import MINUS, bin_name, factor_name, percent
from shapeshd.benchmark.result.schema import PairRecord
from shapeshd.benchmark.statistics.intervals import CONFIDENCE
from shapeshd.distribution import Distribution
from shapeshd.factors import FACTORS, NAMES, SHAPES, Factor, FloatArray
from shapeshd.scene.constants import hue_to_srgb

from .style import BAND, BLUE, FAINT, GREY, INK, NARROW, ORANGE, RULE, bare, new_figure

LARGEST_PAIRS = 3
"""Significant pairs that are shown enlarged, at most."""

_DIVERGING = LinearSegmentedColormap.from_list(
    "ratio", ["#7f3b08", "#e08214", "#fdd0a2", "#fbfbfb", "#c6dbef", "#4393c3", "#08306b"]
)
_LEAST_SPAN, _MOST_SPAN = 1.1, 4.0  # largest ratio that the colours tell apart
_CELL_TEXT = 7


def band(samples: int, probability: float) -> tuple[float, float]:
    """Return the interval that holds the count of a bin of this probability at `CONFIDENCE`."""
    if probability in (0, 1):  # nothing is left to chance, and SciPy has no interval
        return samples * probability, samples * probability
    low, high = scipy.stats.binom.interval(CONFIDENCE, samples, probability)
    return float(low), float(high)


def expected_shares(distribution: Distribution | None, factor: Factor) -> FloatArray:
    """Return the probabilities of a factor's bins under a distribution; None is the uniform one."""
    return (
        np.full(factor.bins, 1 / factor.bins)
        if distribution is None
        else distribution.marginal(factor.name)
    )


def _ratio(counts: Sequence[int], shares: FloatArray) -> FloatArray:
    """Return observed / expected samples; NaN where the distribution has none."""
    expected = sum(counts) * shares
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: FloatArray = np.where(shares > 0, np.array(counts) / expected, np.nan)
    return ratio


def _noise(samples: int, shares: FloatArray) -> FloatArray:
    """Return `band` of each bin as multiples of the expectation: (2, bins), NaN as `_ratio`."""
    limits = np.array([band(samples, float(share)) for share in shares]).T
    with np.errstate(invalid="ignore", divide="ignore"):
        relative: FloatArray = np.where(shares > 0, limits / (samples * shares), np.nan)
    return relative


def marginals_figure(
    marginals: Mapping[str, Sequence[int]],
    significant: set[str],
    w: float,
    distribution: Distribution | None = None,
) -> Figure:
    """Draw for each factor the ratio of observed to expected samples in its bins."""
    shares = {f.name: expected_shares(distribution, f) for f in FACTORS}
    columns = 3 if w > NARROW else 2
    rows = len(FACTORS) // columns
    figure = new_figure(w, 2.05 * rows)
    ratios = {f.name: _ratio(marginals[f.name], shares[f.name]) for f in FACTORS}
    bands = {f.name: _noise(sum(marginals[f.name]), shares[f.name]) for f in FACTORS}
    away = [np.nanmax(np.abs(ratio - 1)) for ratio in ratios.values()]
    noise = [np.nanmax(np.abs(limits - 1)) for limits in bands.values()]
    reach = 1.15 * max(*away, 1.6 * max(noise))
    for place, factor in enumerate(FACTORS):
        axes = figure.add_subplot(rows, columns, place + 1)
        _marginal(axes, factor, ratios[factor.name], factor.name in significant, w > NARROW)
        for index, (low, high) in enumerate(bands[factor.name].T):
            left = -0.6 if index == 0 else index - 0.5
            right = factor.bins - 0.4 if index == factor.bins - 1 else index + 0.5
            axes.fill_between((left, right), low, high, color=BAND, lw=0, zorder=0)
        axes.axhline(1, color=FAINT, lw=0.8, zorder=1)
        bottom = max(0.0, 1 - reach)
        span = 1 + reach - bottom
        axes.set_ylim(bottom - 0.04 * span, 1 + reach)
        if place % columns == 0:
            axes.set_ylabel("observed / expected")
        else:
            axes.set_yticklabels([])
    return figure


def _marginal(axes: Any, factor: Factor, ratio: FloatArray, significant: bool, wide: bool) -> None:
    places, colour = np.arange(factor.bins), ORANGE if significant else BLUE
    axes.vlines(places, 1, ratio, color=colour, lw=2.2, alpha=0.65, zorder=2)
    axes.plot(places, ratio, "o", color=colour, ms=4.2, zorder=3)
    weight = "bold" if significant else "normal"
    axes.set_title(factor_name(factor.name), loc="left", fontweight=weight, color=INK)
    axes.set_xlim(-0.6, factor.bins - 0.4)
    bare(axes, "bottom")
    if factor.topology == "circle":
        _hue_axis(axes, factor)
    elif factor.topology == "discrete":
        axes.set_xticks(places, SHAPES, rotation=0 if wide else 30)
    else:
        edges = np.arange(0, factor.bins + 1, 2)
        axes.set_xticks(edges - 0.5, [_edge(factor, int(edge)) for edge in edges])


def _hue_axis(axes: Any, factor: Factor) -> None:
    """Label the bins of a hue with a strip of their colours and degrees at some edges."""
    strip = axes.inset_axes((0, -0.09, 1, 0.07))
    edges = np.linspace(0, 1, 12 * factor.bins, endpoint=False)
    strip.imshow(
        hue_to_srgb(edges)[None], extent=(-0.5, factor.bins - 0.5, 0, 1), aspect="auto",
        interpolation="none",
    )  # fmt: skip
    strip.set_xlim(-0.6, factor.bins - 0.4)
    strip.set_yticks([])
    marks = np.arange(0, factor.bins, 3)
    strip.set_xticks(marks - 0.5, [f"{360 * mark // factor.bins}°" for mark in marks])
    bare(strip, "left", "bottom")
    axes.set_xticks([])


def _edge(factor: Factor, edge: int) -> str:
    value = factor.low + factor.period * edge / factor.bins
    return f"{value:g}".replace("-", MINUS) + ("°" if factor.unit == "degree" else "")


def dependence(counts: Any, joint: FloatArray | None = None) -> FloatArray:
    """Return observed samples of a pair's cells / expected from its two own marginals.

    NaN where a row or a column holds no sample at all, or where the distribution has none.

    Args:
        counts: the pair's table.
        joint: its probabilities under a distribution that couples the factors; what is expected is
            then coupled likewise.
    """
    table = np.asarray(counts, dtype=np.float64)
    expected = np.multiply.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    if joint is not None:
        product = np.multiply.outer(joint.sum(axis=1), joint.sum(axis=0))
        expected *= joint / np.where(product > 0, product, 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: FloatArray = np.where(expected > 0, table / expected, np.nan)
    return ratio


def _ratio_scale(tables: Sequence[FloatArray]) -> tuple[Normalize, list[float]]:
    """Return a scale of log2 ratios, centred at 1, and its ticks as ratios."""
    values = np.concatenate([table[np.isfinite(table)].ravel() for table in tables])
    away = np.exp(np.abs(np.log(np.clip(values, 1 / _MOST_SPAN, _MOST_SPAN))).max())
    span = min(max(float(away), _LEAST_SPAN), _MOST_SPAN)
    steps = next(s for s in ((1.05, 1.1), (1.1, 1.25), (1.5,), (2, 4)) if s[-1] >= span * 0.8)
    ticks = [1.0, *(t for t in steps if t <= span)]
    reach = np.log2(span)
    return Normalize(-reach, reach), sorted({1 / tick for tick in ticks} | set(ticks))


def coupling(distribution: Distribution | None, factors: Sequence[str]) -> FloatArray | None:
    """Return the table of a pair that the distribution couples; None of others."""
    coupled = distribution is not None and any(
        unit.names == tuple(factors) for unit in distribution.pairs
    )
    return distribution.marginal(*factors) if distribution is not None and coupled else None


def pairs_figure(
    pairs: Sequence[PairRecord],
    significant: set[str],
    w: float,
    distribution: Distribution | None = None,
) -> Figure:
    """Draw what each pair of factors does beyond its two marginals: 15 small heat maps."""
    tables = {
        pair.factors: dependence(pair.counts, coupling(distribution, pair.factors))
        for pair in pairs
    }
    scale, ticks = _ratio_scale(list(tables.values()))
    figure = new_figure(w, 0.82 * w)
    bins = [factor.bins + 3 for factor in FACTORS]  # room for the small ones
    grid = figure.add_gridspec(5, 5, width_ratios=bins[:5], height_ratios=bins[1:])
    for (a, b), table in tables.items():
        column, row = NAMES.index(a), NAMES.index(b) - 1
        axes = figure.add_subplot(grid[row, column])
        _heat(axes, table.T, scale)
        framed = f"{a} x {b}" in significant
        for side in axes.spines.values():
            side.set(visible=True, color=ORANGE if framed else RULE, lw=2.4 if framed else 0.7)
        axes.set_xticks([])
        axes.set_yticks([])
        if column == 0:
            axes.set_ylabel(factor_name(b).replace(" ", "\n"), rotation=0, ha="right", va="center")
        if row == len(FACTORS) - 2:
            axes.set_xlabel(factor_name(a).replace(" ", "\n"))
    bar_axes = figure.add_subplot(grid[0, 2 if w > NARROW else 1 :])
    bar_axes.axis("off")
    _scale_bar(figure, bar_axes.inset_axes((0.1, 0.55, 0.8, 0.16)), scale, ticks)
    return figure


def pair_figure(pair: PairRecord, width: float, distribution: Distribution | None = None) -> Figure:
    """Draw one pair enlarged: its ratios in figures, its bins named."""
    table = dependence(pair.counts, coupling(distribution, pair.factors))
    scale, _ = _ratio_scale([table])
    across, down = (FACTORS[NAMES.index(name)] for name in pair.factors)
    if across.bins < down.bins:
        across, down, table = down, across, table.T
    height = min(width * 0.8, 0.9 + 0.32 * down.bins)
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    _heat(axes, table.T, scale)
    size = _CELL_TEXT if width > NARROW else (4.6 if across.bins > 6 else _CELL_TEXT)
    for x, y in itertools.product(range(across.bins), range(down.bins)):
        value = table[x, y]
        dark = np.isfinite(value) and abs(np.log2(max(value, 1e-9))) > 0.62 * (scale.vmax or 0)
        text = f"{value:.2f}" if np.isfinite(value) else "\N{EN DASH}"
        axes.text(x, y, text, ha="center", va="center", size=size, color="white" if dark else INK)
    axes.set_xticks(range(across.bins), [_tick(across, i) for i in range(across.bins)])
    axes.set_yticks(range(down.bins), [_tick(down, i) for i in range(down.bins)])
    if across.topology == "circle":
        axes.tick_params(axis="x", rotation=60 if width <= NARROW else 40)
    axes.set_xlabel(factor_name(across.name) + (", degrees" if across.topology == "circle" else ""))
    axes.set_ylabel(factor_name(down.name) + (", degrees" if down.topology == "circle" else ""))
    bare(axes, "left", "bottom")
    for factor, labels in ((across, axes.get_xticklabels()), (down, axes.get_yticklabels())):
        if factor.topology == "circle":
            for index, label in enumerate(labels):
                _swatch(label, (index + 0.5) / factor.bins)
    return figure


def _tick(factor: Factor, index: int) -> str:
    return (
        bin_name(factor, index).rstrip("°")
        if factor.topology == "circle"
        else bin_name(factor, index)
    )


def _swatch(label: Any, hue: float) -> None:
    """Put a patch of the bin's colour behind a label."""
    colour = tuple(float(c) for c in hue_to_srgb(np.array(hue)))
    label.set_bbox({"facecolor": (*colour, 0.45), "edgecolor": "none", "pad": 1.2})


def _heat(axes: Any, ratio: FloatArray, scale: Normalize) -> None:
    colours = _DIVERGING.with_extremes(bad="#d0d0d0")
    logs = np.log2(np.maximum(ratio, 1e-9))
    axes.imshow(logs, cmap=colours, norm=scale, aspect="auto", interpolation="none")


def _scale_bar(figure: Figure, axes: Any, scale: Normalize, ticks: list[float]) -> None:
    mappable = ScalarMappable(scale, _DIVERGING)
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal")
    bar.set_ticks([float(np.log2(tick)) for tick in ticks], labels=[f"{t:.2f}" for t in ticks])
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.set_title("observed / expected from both marginals", fontsize=8.5)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)


def confusion_figure(factors: Mapping[str, FactorAccuracy], width: float) -> Figure:
    """Draw for each factor which share of the images of a bin is read as another one."""
    columns = 3 if width > NARROW else 2
    rows = len(FACTORS) // columns
    figure = new_figure(width, width * (0.8 if columns == 3 else 1.65))
    norm = LogNorm(1e-4, 1)
    shades = LinearSegmentedColormap.from_list("share", ["#f2f5f8", "#9ec1df", BLUE, "#08264a"])
    colours = shades.with_extremes(under="white")
    every = []
    for place, factor in enumerate(FACTORS):
        confusion = np.asarray(factors[factor.name].confusion, dtype=np.float64)
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(np.maximum(shares, 1e-9), cmap=colours, norm=norm, interpolation="none")
        axes.set_title(
            f"{factor_name(factor.name)}  {percent(factors[factor.name].accuracy)}", loc="left"
        )
        _confusion_ticks(axes, factor)
        for side in axes.spines.values():
            side.set(visible=True, color=RULE)
        every.append(axes)
    bar = figure.colorbar(
        ScalarMappable(norm, colours), ax=every, orientation="horizontal", aspect=45,
        shrink=0.7, extend="min",
    )  # fmt: skip
    bar.set_label("share of the images of a true bin (row) that is read as a bin (column)")
    if columns == 2:
        bar.set_label("share of a true bin (row) read as (column)")
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.outline.set(edgecolor=GREY, linewidth=0.5)
    return figure


def _confusion_ticks(axes: Any, factor: Factor) -> None:
    if factor.topology == "discrete":
        axes.set_xticks(range(factor.bins), SHAPES, rotation=35, ha="right")
        axes.set_yticks(range(factor.bins), SHAPES)
        return
    step = {"circle": 3, "interval": 2}[factor.topology]
    edges = np.arange(0, factor.bins + 1, step)
    if factor.topology == "circle":
        names = [f"{360 * edge // factor.bins}°" for edge in edges]
    else:
        names = [_edge(factor, int(edge)) for edge in edges]
    axes.set_xticks(edges - 0.5, names)
    axes.set_yticks(edges - 0.5, names)
