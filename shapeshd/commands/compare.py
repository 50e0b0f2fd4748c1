"""``shapeshd compare``."""

from __future__ import annotations

from pathlib import Path

import click

from .params import json_option


@click.command("compare")
@click.argument(
    "results", nargs=-1, required=True, metavar="RESULT...", type=click.Path(path_type=Path)
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PAGE.html",
    help="Write the table and the figures as one HTML page.",
)
@json_option
def command(results: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Set scores side by side, the best first.

    RESULT is a folder that `shapeshd score --out` wrote, or its result.json.
    """
    from ..benchmark.compare import check_page, compare, describe_comparison, write_comparison
    from ..progress import emit, note

    if out is not None:
        check_page(out)
    comparison = compare(results)
    emit(comparison.to_json(), describe_comparison(comparison), as_json=as_json)
    if out is not None:
        note(f"page: {write_comparison(comparison, out)}")
