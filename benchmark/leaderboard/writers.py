"""Writes a comparison: as a page, as Markdown, or as CSV with all digits."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.statistics.intervals import CONFIDENCE
from shapeshd.errors import UsageError, named
from shapeshd.support.atomic_files import replace_file

from .compare import Comparison, ComparisonRow
from .row import FIDELITY
from .terminal import RANKS_MEAN

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write a comparison in the format that the suffix of `out` names, see `check_outputs`."""
    check_outputs([out])
    text = _WRITERS[out.suffix.lower()](comparison)
    # A csv writer ends lines by itself.
    replace_file(out, lambda temporary: temporary.write_text(text, encoding="utf-8", newline=""))
    return out


def check_outputs(outs: Sequence[Path]) -> None:
    """Raise `UsageError` if one of the files cannot be written, or is named twice."""
    for out in outs:
        if out.suffix.lower() not in _WRITERS:
            raise UsageError(f"{out}: the name must end in .html (a page), .md or .csv")
        if out.is_dir():
            raise UsageError(f"{out}: is a folder; give the name of a file")
        if not out.parent.is_dir():
            raise UsageError(f"{out}: there is no folder {out.parent}")
    resolved = [out.resolve() for out in outs]
    for out, path in zip(outs, resolved, strict=True):
        if resolved.count(path) > 1:
            raise UsageError(f"{out}: is named twice as {named('out')}")


def comparison_csv(comparison: Comparison) -> str:
    """Return the sources' rows as CSV (RFC 4180): numbers as measured, with all their digits.

    Columns are those of `leaderboard_row`; what is not known is empty.
    """
    rows = comparison.leaderboard_rows()
    names = [name for name in rows[0] if name != "rank_text"]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([_raw(row[name]) for name in names] for row in rows)
    return text.getvalue()


def _raw(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        value = "; ".join(value)
    text = str(value)
    # A file name must not become a formula where the table is opened.
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text


def comparison_markdown(comparison: Comparison) -> str:
    """Return the table as GitHub's Markdown, with the references below and the warnings."""
    rows = comparison.rows()
    fidelity = any(row.fidelity[0] for row in rows)
    heads = [
        *("rank", "model", "reduced chi-square", "divergence D", "mainly wrong", "samples"),
        *("seed", "recognizer", "source"),
        *(FIDELITY if fidelity else ()),
        "command",
    ]
    lines = [_line(heads), _line(["---"] * len(heads))]
    lines += [_line(_cells(row, fidelity)) for row in rows]
    remarks = [RANKS_MEAN[0].upper() + RANKS_MEAN[1:] + "."]
    remarks += [f"Warning: {warning}." for warning in comparison.warnings]
    intro = (
        "Reduced chi-square at 20 samples per bin (1 is ideal) and D, "
        f"with {CONFIDENCE:.0%} intervals."
    )
    return "\n".join([intro, "", *lines, "", *(f"- {_escaped(text)}" for text in remarks), ""])


def _cells(row: ComparisonRow, fidelity: bool) -> list[str]:
    texts = [
        row.rank,
        _escaped(row.name),
        row.interval,
        row.divergence,
        row.mainly_wrong,
    ]
    if not row.own:
        return [*texts, *[""] * (4 + 3 * fidelity + 1)]
    numbers = row.numbers
    texts += [f"{numbers['samples']:,}", str(numbers["seed"]), _escaped(row.recognizer)]
    texts.append(_escaped(numbers["source_kind"]))
    if fidelity:
        texts += row.fidelity
    return [*texts, _code(numbers["command"])]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Write a text so that Markdown shows just its characters, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


def _code(text: str | None) -> str:
    """Write a text as code in a cell of a table."""
    if not text:
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{' '.join(text.split())}{space}{fence}".replace("|", "\\|")


def comparison_page(comparison: Comparison) -> str:
    """Return a self-contained page with the table and the figures."""
    # Only here: Matplotlib takes a second to import, and a comparison mostly goes to the terminal.
    from shapeshd.benchmark.report.figures.score import bin_counts_figure, score_figure
    from shapeshd.benchmark.report.figures.style import both_widths
    from shapeshd.benchmark.report.html import render_page

    rows = comparison.rows()
    series = [
        (name, result.bin_counts)
        for name, result in zip(comparison.names, comparison.results, strict=True)
        if isinstance(result, Result)  # an entry of a leaderboard has none
    ]
    figures = {"score": both_widths(lambda width: score_figure(rows, width))}
    if series:
        figures["bin_counts"] = both_widths(lambda width: bin_counts_figure(series, width))
    return render_page(
        "compare.html",
        {
            "title": "3DShapesHD scores side by side",
            "rows": rows,
            "warnings": comparison.warnings,
            "ranks_mean": RANKS_MEAN,
            "fidelity_heads": FIDELITY if any(row.fidelity[0] for row in rows) else (),
            "score_text": "; ".join(f"{row.name}: {row.interval}" for row in rows) + ".",
            "figures": figures,
        },
    )


_WRITERS: dict[str, Callable[[Comparison], str]] = {
    ".html": comparison_page,
    ".htm": comparison_page,
    ".md": comparison_markdown,
    ".markdown": comparison_markdown,
    ".csv": comparison_csv,
}
