"""Several results side by side, the best first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapeshd.benchmark.report.table import REAL, reference_rows, source_row
from shapeshd.benchmark.report.terminal import significant_parts_text
from shapeshd.benchmark.result.files import RESULT
from shapeshd.benchmark.result.read import read_result, result_files
from shapeshd.benchmark.statistics.measurement_error import distribution_words

from .comparability import comparison_warnings, model_name, recognizer_words
from .order import Place, places, ranking_value
from .row import fidelity_cells, leaderboard_row


@dataclass(frozen=True)
class Comparison:
    """Results, the best first.

    Attributes:
        results: what each result.json or entry holds.
        paths: of these files, in the same order.
        names: one for each, no two alike.
        places: their ranks.
        warnings: why some of them do not compare, one line each.
    """

    results: tuple[Mapping[str, Any], ...]
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    places: tuple[Place, ...]
    warnings: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table, the best first, the references below.

        Each is a row of `result_rows`; a source's has in addition rank, guilt, recognizer and
        quality (texts), and numbers, see `leaderboard_rows`.
        """
        listed = zip(self.results, self.names, self.leaderboard_rows(), strict=True)
        rows = [
            {
                **source_row(result, name),
                "rank": numbers["rank_text"],
                "significant_parts_text": significant_parts_text(result),
                "recognizer": recognizer_words(result),
                "fidelity": fidelity_cells(result),
                "numbers": numbers,
            }
            for result, name, numbers in listed
        ]
        references = {row["name"]: row for row in self._references()}
        return rows + [
            {
                "rank": "",
                "significant_parts_text": "",
                "recognizer": "",
                "fidelity": ("", "", ""),
                **row,
            }
            for row in sorted(references.values(), key=lambda row: row["value"])
        ]

    def leaderboard_rows(self) -> list[dict[str, Any]]:
        """Return `leaderboard_row` of each source, with its rank and the names not told from it.

        ``rank`` is a number, ``rank_text`` ends in "=" where it is shared.
        """
        return [
            {
                "rank": place.rank,
                "rank_text": str(place),
                **leaderboard_row(result),
                "model": name,
                "not_told_from": [self.names[other] for other in place.not_told_from],
            }
            for result, name, place in zip(self.results, self.names, self.places, strict=True)
        ]

    def _references(self) -> Iterable[dict[str, Any]]:
        several = len({result["recognizer"]["name"] for result in self.results}) > 1
        distributions = len(set(map(distribution_words, self.results))) > 1
        for result in self.results:
            for row in reference_rows(result):
                if distributions:  # each distribution has its own bins
                    row["name"] += f", {distribution_words(result)}"
                if several and row["name"].startswith(REAL):  # each recognizer has its own
                    row["name"] += f" {result['recognizer']['name']}"
                yield row

    def to_json(self) -> dict[str, Any]:
        """Return the rows of the sources with their numbers as measured, ready for JSON."""
        listed = zip(self.results, self.paths, self.names, self.leaderboard_rows(), strict=True)
        return {
            "results": [
                {
                    "name": name,
                    "rank": numbers["rank"],
                    "not_told_from": numbers["not_told_from"],
                    "path": str(path),
                    "samples": result["samples"],
                    "protocol": result.get("protocol"),
                    "distribution": (result.get("distribution") or {}).get("digest"),
                    "outside": result.get("outside"),
                    "recognizer": {
                        key: result["recognizer"].get(key) for key in ("name", "digest")
                    },
                    "scene": result.get("scene"),
                    "reduced_chi_square": result["fit"]["prediction"]["reduced_chi_square"],
                    "divergence": result["fit"]["divergence"],
                    "significant": [
                        p["name"] for p in result["decomposition"]["parts"] if p["significant"]
                    ],
                    "fidelity": result.get("fidelity"),
                }
                for result, path, name, numbers in listed
            ],
            "references": [row for row in self.rows() if not row["own"]],
            "warnings": list(self.warnings),
        }


def compare(paths: Sequence[Path]) -> Comparison:
    """Read results and put the best first.

    Args:
        paths: folders that `shapeshd score` wrote, their result.json, entries of a leaderboard,
            or folders of these; at least one.

    Raises:
        UsageError: if there is none, or one is missing, named twice, no result, or of a newer
            format.
        ShapesHDError: if one is incomplete.
    """
    read = [(read_result(file), file) for file in result_files(paths)]
    read.sort(key=lambda found: ranking_value(found[0]))
    results = tuple(result for result, _ in read)
    return Comparison(
        results,
        tuple(file for _, file in read),
        _names(read),
        tuple(places(results)),
        tuple(comparison_warnings(results)),
    )


def _names(read: Sequence[tuple[Mapping[str, Any], Path]]) -> tuple[str, ...]:
    """Name each result after its source; after its folder or file, too, where that is needed."""
    plain = [model_name(result) for result, _ in read]
    return tuple(
        f"{name} ({_place(file)})" if plain.count(name) > 1 else name
        for name, (_, file) in zip(plain, read, strict=True)
    )


def _place(file: Path) -> str:
    return (file.parent.name or str(file.parent)) if file.name == RESULT else file.stem
