"""Several results side by side, the best first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from shapeshd.benchmark.report.tables import (
    AS_READ,
    ScoreRow,
    distribution_name,
    largest_significant,
    outside_text,
    reference_rows,
    source_row,
)
from shapeshd.benchmark.result.files import RESULT
from shapeshd.benchmark.result.formatting import printable
from shapeshd.benchmark.result.read import read_result, result_files
from shapeshd.benchmark.result.schema import Entry, Result, ScoreRecord

from .ranking import Place, places
from .row import (
    Row,
    fidelity_cells,
    fidelity_settings,
    leaderboard_row,
    model_name,
    precision_of,
    protocol_version_of,
    recognizer_identity,
    recognizer_name,
    recognizer_version_of,
    scene_identity,
)


@dataclass(frozen=True)
class ComparisonRow(ScoreRow):
    """A row of a comparison: a source, or a reference, whose further fields are empty.

    Attributes:
        rank: such as "1="; see `Place`.
        mainly_wrong: the largest significant part of D.
        recognizer: its name, and how often it is right.
        fidelity: see `fidelity_cells`.
        numbers: see `Comparison.leaderboard_rows`.
    """

    rank: str
    mainly_wrong: str
    recognizer: str
    fidelity: tuple[str, str, str]
    numbers: Row

    @classmethod
    def of(
        cls,
        row: ScoreRow,
        *,
        rank: str = "",
        mainly_wrong: str = "",
        recognizer: str = "",
        fidelity: tuple[str, str, str] = ("", "", ""),
        numbers: Row | None = None,
    ) -> ComparisonRow:
        """Return the row with further fields."""
        shared = {field.name: getattr(row, field.name) for field in fields(row)}
        return cls(
            **shared, rank=rank, mainly_wrong=mainly_wrong, recognizer=recognizer,
            fidelity=fidelity, numbers=numbers or {},
        )  # fmt: skip


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

    results: tuple[Result | Entry, ...]
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    places: tuple[Place, ...]
    warnings: tuple[str, ...]

    def rows(self) -> list[ComparisonRow]:
        """Return the rows of the table, the best first, the references below."""
        listed = zip(self.results, self.names, self.leaderboard_rows(), strict=True)
        rows = [
            ComparisonRow.of(
                source_row(result, name),
                rank=numbers["rank_text"],
                mainly_wrong=largest_significant(result),
                recognizer=recognizer_name(result),
                fidelity=fidelity_cells(result),
                numbers=numbers,
            )
            for result, name, numbers in listed
        ]
        return rows + [ComparisonRow.of(row) for row in self._references()]

    def leaderboard_rows(self) -> list[Row]:
        """Return `leaderboard_row` of each source, with its rank and the names equal to it.

        ``rank`` is a number, ``rank_text`` ends in "=" where it is shared; ``not_different_from``
        names the results from which it is not significantly different.
        """
        return [
            {
                "rank": place.rank,
                "rank_text": str(place),
                **leaderboard_row(result),
                "model": name,
                "not_different_from": [self.names[other] for other in place.not_different_from],
            }
            for result, name, place in zip(self.results, self.names, self.places, strict=True)
        ]

    def _references(self) -> list[ScoreRow]:
        """Return the references of all results, each once, the best first."""
        rows = {row.name: row for row in self._all_references()}
        return sorted(rows.values(), key=lambda row: row.value)

    def _all_references(self) -> Iterable[ScoreRow]:
        recognizers = len(set(map(recognizer_identity, self.results))) > 1
        precisions = len(set(map(precision_of, self.results))) > 1
        distributions = len(set(map(distribution_name, self.results))) > 1
        for result in self.results:
            for row in reference_rows(result):
                name = row.name
                if row.name.startswith(AS_READ):  # each recognizer has its own
                    name += f" {recognizer_identity(result)}" * recognizers
                    name += f" in {precision_of(result)}" * precisions
                if distributions:  # each distribution has its own bins
                    name += f", {distribution_name(result)}"
                yield replace(row, name=name)

    def to_json(self) -> dict[str, Any]:
        """Return the rows of the sources with their numbers as measured, ready for JSON."""
        listed = zip(self.results, self.paths, self.names, self.leaderboard_rows(), strict=True)
        return {
            "results": [
                {
                    "name": name,
                    "rank": numbers["rank"],
                    "not_different_from": numbers["not_different_from"],
                    "path": str(path),
                    "samples": result.samples,
                    "protocol": result.protocol,
                    "protocol_version": protocol_version_of(result),
                    "distribution": result.distribution and result.distribution.digest,
                    "outside": result.outside and result.outside.to_json(),
                    "recognizer": {
                        "name": result.recognizer.name,
                        "digest": result.recognizer.digest,
                        "version": recognizer_version_of(result),
                        "precision": precision_of(result),
                    },
                    "scene": result.scene and result.scene.to_json(),
                    "reduced_chi_square": result.fit.prediction.reduced_chi_square.to_json(),
                    "divergence": result.fit.divergence.to_json(),
                    "significant": [part.name for part in result.decomposition.significant],
                    "fidelity": result.fidelity and result.fidelity.to_json(),
                }
                for result, path, name, numbers in listed
            ],
            "references": [asdict(row) for row in self._references()],
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
        ShapesHDError: if a field of one is missing, unknown or of the wrong type.
    """
    read = [(read_result(file), file) for file in result_files(paths)]
    read.sort(key=lambda found: found[0].divergence_value)
    results, names = tuple(result for result, _ in read), _names(read)
    return Comparison(
        results,
        tuple(file for _, file in read),
        names,
        tuple(places(results)),
        tuple(comparison_warnings(results, names)),
    )


def _names(read: Sequence[tuple[ScoreRecord, Path]]) -> tuple[str, ...]:
    """Name each result after its source; where that is needed, after its place in the files, too.

    A name takes as many folders, from the last one on, as set it apart from all others.
    """
    places = [_place(file) for _, file in read]
    names = [model_name(result) for result, _ in read]
    plain = tuple(names)
    for depth in range(max(map(len, places))):
        repeated = [names.count(name) > 1 for name in names]
        for row, place in enumerate(places):
            if repeated[row] and depth < len(place):
                names[row] = f"{plain[row]} ({place[depth]})"
    return tuple(names)


def _place(file: Path) -> list[str]:
    """Return texts for where a result lies: its folder or entry alone, then with folders above."""
    whole = file.absolute()
    parts = whole.parent.parts if file.name == RESULT else whole.parts
    longer = ["/".join(parts[-depth:]) for depth in range(2, len(parts) + 1)]
    # The suffix of an entry then tells it from the folder of a result beside it.
    short = parts[-1] if file.name == RESULT else file.stem
    return list(map(printable, [short, *longer]))


def comparison_warnings(results: Sequence[ScoreRecord], names: Sequence[str]) -> list[str]:
    """Say why some results do not compare, one line each; nothing where all do."""
    checks: list[tuple[str, Callable[[ScoreRecord], str | None]]] = [
        ("they were read by different recognizers", recognizer_identity),
        ("the recognizer read them in different precisions", precision_of),
        ("they were tested against different distributions", distribution_name),
        ("they are of different scenes", scene_identity),
        (
            "their numbers were computed by different versions of the protocol",
            lambda result: str(protocol_version_of(result)),
        ),
        ("they follow different protocols", lambda result: result.protocol or "none"),
        ("they have different numbers of samples", lambda result: f"{result.samples:,}"),
        (
            "their images differ in size",
            lambda result: f"{result.images.width} x {result.images.height}",
        ),
        ("the fidelity of their images was measured differently", fidelity_settings),
    ]
    found = []
    for what, identity in checks:
        named = dict.fromkeys(text for text in map(identity, results) if text is not None)
        if len(named) > 1:
            found.append(f"{what}: {', '.join(named)}")
    found += [
        f"{name}: {outside_text(result)}"
        for name, result in zip(names, results, strict=True)
        if result.is_infinite
    ]
    return found
