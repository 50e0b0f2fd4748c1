"""One look for all figures: colours, axes, and how a figure gets into a page."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

INK, FAINT, BAND, RULE = "#1d2733", "#5c6773", "#dde3ea", "#c9d0d8"
BLUE, ORANGE, GREY = "#1f5f9e", "#c2410c", "#8a94a0"
LINES = ("#1f5f9e", "#c2410c", "#2e7d4f", "#7b4ea3", "#a16207", "#0e7490", "#be185d", "#4b5563")
"""Colours of sources that are compared."""

WIDE, NARROW = 7.4, 4.0
"""Width of a figure in inches: in a window, and on a phone."""

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, sharp and to be searched
    "svg.hashsalt": "shapeshd",  # the same result gives the same page
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": BAND,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}

_FONTS = "system-ui, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


def style() -> Any:
    """Return a context in which figures are made and drawn in the common style."""
    return matplotlib.rc_context(STYLE)


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of so many inches that has no state outside itself."""
    return Figure(figsize=(width, height), layout="constrained")


def data_uri(figure: Figure) -> str:
    """Draw a figure as SVG and return it as a ``data:`` URI."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Text stays text: a reader's system has the letters that DejaVu has not.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    # DejaVu is wider than the fonts of a reader's system: what fits here fits there.
    text = buffer.getvalue().replace(b"'DejaVu Sans'", _FONTS.replace("'", "&apos;").encode())
    return "data:image/svg+xml;base64," + base64.b64encode(text).decode()


def both_widths(draw: Callable[[float], Figure]) -> dict[str, str]:
    """Draw a figure for a window and for a phone, as ``data:`` URIs."""
    with style():
        return {"wide": data_uri(draw(WIDE)), "narrow": data_uri(draw(NARROW))}


def plain(value: float, _: Any = None) -> str:
    """Write a tick of a logarithmic axis: 0.5, 1, 20, 10,000."""
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def log_ticks(axis: Any, low: float, high: float, *, few: bool = False) -> None:
    """Put few, plain ticks on a logarithmic axis that shows `low` to `high`.

    Args:
        axis: of Matplotlib.
        low: above 0.
        high: above `low`.
        few: leave room for long numbers side by side, as on a narrow horizontal axis.
    """
    decades = high / low
    steps = (1, 2, 5) if decades < 60 else (1, 3) if decades < 1500 else (1,)
    ticks = [step * 10.0**power for power in range(-6, 10) for step in steps]
    every = math.ceil(math.log10(decades) / 3) if few and decades >= 1e4 else 1
    if every > 1 or decades >= 1e6:
        ticks = [tick for tick in ticks if round(math.log10(tick)) % max(every, 2) == 0]
    axis.set_ticks([tick for tick in ticks if low <= tick <= high])
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


def bare(axes: Any, *sides: str) -> None:
    """Take away the named sides and the small lines of ticks of `axes`."""
    for side in sides:
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
