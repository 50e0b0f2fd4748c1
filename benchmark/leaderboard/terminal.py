"""The tables of a comparison for the terminal."""

from __future__ import annotations

from shapeshd.benchmark.report.tables import distribution_name
from shapeshd.benchmark.report.terminal import WIDTH, shortened, table
from shapeshd.benchmark.statistics.intervals import CONFIDENCE

from .compare import Comparison, ComparisonRow
from .row import FIDELITY

_LONGEST_NAME, _SHORT_NAME = 36, 22

RANKS_MEAN = (
    "equal ranks (=) are not significantly different: two-sided z test of D, 5% for all pairs "
    "together; a rank is one more than the number of models that are surely better"
)


def describe_comparison(comparison: Comparison) -> str:
    """Return the tables for the terminal and the warnings, at most `WIDTH` columns wide.

    Warnings may be longer.
    """
    rows = comparison.rows()
    lines = _scores(rows)
    lines += [f"  in brackets: {CONFIDENCE:.0%}; at 20 samples per bin; the best first", ""]
    own = [row for row in rows if row.own]
    lines += table(
        ("", "mainly wrong (its part of D)", "recognizer"),
        [
            (
                shortened(row.name, _SHORT_NAME),
                row.mainly_wrong,
                shortened(row.recognizer, 28),
            )
            for row in own
        ],
    )
    if any(row.fidelity[0] for row in own):
        columns = zip(FIDELITY, *(row.fidelity for row in own), strict=True)
        longest = WIDTH - 2 - sum(2 + max(map(len, column)) for column in columns)
        cells = [(shortened(row.name, longest), *row.fidelity) for row in own]
        lines += ["", *table(("", *FIDELITY), cells)]
    distributions = set(map(distribution_name, comparison.results))
    if any(place.shared for place in comparison.places):
        lines.append(
            "  equal ranks (=) are not significantly different (z test of D, 5% for all pairs)"
        )
    if comparison.results[0].distribution and len(distributions) == 1:
        lines.append(f"  tested against {distributions.pop()}")
    lines += [f"warning: {warning}" for warning in comparison.warnings]
    return "\n".join(line.rstrip() for line in lines)


def _scores(rows: list[ComparisonRow]) -> list[str]:
    heads = ("reduced chi-square", "divergence D", "samples")
    cells = [
        (
            row.interval,
            row.divergence,
            row.note.removesuffix(" samples") if row.own else "",
        )
        for row in rows
    ]
    columns = zip(heads, *cells, strict=True)
    taken = sum(2 + max(map(len, column)) for column in columns)
    place = 2 + max(len(row.rank) for row in rows)
    longest = min(_LONGEST_NAME, WIDTH - 2 - taken - place)
    names = [f"{row.rank:<{place}}{shortened(row.name, longest)}" for row in rows]
    return table(("", *heads), [(name, *cell) for name, cell in zip(names, cells, strict=True)])
