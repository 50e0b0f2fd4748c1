"""``shapeshd compare``."""

from __future__ import annotations

from pathlib import Path

import click

from shapeshd.errors import UsageError

from .command import Command
from .options import json_option


@click.command(
    "compare",
    cls=Command,
    examples={
        "shapeshd compare score-a score-b": "Two results, in the terminal.",
        "shapeshd compare results --out leaderboard.html": "All results of a folder, as a page.",
    },
)
@click.argument(
    "results", nargs=-1, required=True, metavar="RESULT...", type=click.Path(path_type=Path)
)
@click.option(
    "--out",
    "outs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Write a leaderboard: a page with figures (.html), Markdown (.md), or numbers with all "
    "digits (.csv). May be given several times.",
)
@click.option(
    "--entry",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write an entry of a leaderboard for each RESULT: a few KiB of JSON without histograms, "
    "pictures or folders of this machine.",
)
@json_option
def command(
    results: tuple[Path, ...], outs: tuple[Path, ...], entry: Path | None, as_json: bool
) -> None:
    """Set scores side by side, the best first, with ranks.

    RESULT is a folder that `shapeshd score --out` wrote, its result.json, an entry of a
    leaderboard, or a folder of these.
    """
    for path in results:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")

    from shapeshd.benchmark.leaderboard.compare import compare
    from shapeshd.benchmark.leaderboard.entry import write_entries
    from shapeshd.benchmark.leaderboard.terminal import describe_comparison
    from shapeshd.benchmark.leaderboard.writers import check_outputs, write_comparison
    from shapeshd.support.progress import emit, note

    check_outputs(outs)
    comparison = compare(results)
    written = [] if entry is None else write_entries(comparison, entry)
    emit(comparison.to_json(), describe_comparison(comparison), as_json=as_json)
    for out in outs:
        write_comparison(comparison, out)
    for path in (*outs, *written):
        note(f"written: {path}")
