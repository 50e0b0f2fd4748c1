"""Several results side by side: the score's table, and how full the bins are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.replace_file import replace_file

from .figures import occupancy_figure, score_figure
from .page import both_widths, render_page
from .report import WIDTH, guilt, shortened, table
from .result_files import FORMAT, FORMAT_VERSION, RESULT
from .result_rows import REAL, reference_rows, source_row
from .under_law import law_words, outside_words
from .wording import percent, source_name

_NEEDED = ("source", "images", "recognizer", "samples", "fit", "decomposition", "occupancy",
           "references")  # fmt: skip
_LONGEST_NAME, _SHORT_NAME = 36, 22


@dataclass(frozen=True)
class Comparison:
    """Results, the best first.

    Attributes:
        results: what each result.json holds.
        paths: of these files, in the same order.
        names: one for each, no two alike.
        warnings: why some of them do not compare, one line each.
    """

    results: tuple[Mapping[str, Any], ...]
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    warnings: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table, the best first, the references below.

        Each is a row of `result_rows`; a source's has in addition guilt and recognizer (text).
        """
        pairs = zip(self.results, self.names, strict=True)
        rows = [
            {**source_row(result, name), "guilt": guilt(result), "recognizer": _reader(result)}
            for result, name in pairs
        ]
        references = {row["name"]: row for row in self._references()}
        return rows + [
            {"guilt": "", "recognizer": "", **row}
            for row in sorted(references.values(), key=lambda row: row["value"])
        ]

    def _references(self) -> Iterable[dict[str, Any]]:
        several = len({result["recognizer"]["name"] for result in self.results}) > 1
        laws = len(set(map(law_words, self.results))) > 1
        for result in self.results:
            for row in reference_rows(result):
                if laws:  # each law has its own bins
                    row["name"] += f", {law_words(result)}"
                if several and row["name"].startswith(REAL):  # each recognizer has its own
                    row["name"] += f" {result['recognizer']['name']}"
                yield row

    def to_json(self) -> dict[str, Any]:
        """Return the rows of the sources with their numbers as measured, ready for JSON."""
        listed = zip(self.results, self.paths, self.names, strict=True)
        return {
            "results": [
                {
                    "name": name,
                    "path": str(path),
                    "samples": result["samples"],
                    "protocol": result.get("protocol"),
                    "law": (result.get("law") or {}).get("digest"),
                    "outside": result.get("outside"),
                    "recognizer": {
                        key: result["recognizer"].get(key) for key in ("name", "digest")
                    },
                    "reduced_chi_square": result["fit"]["prediction"]["reduced_chi_square"],
                    "divergence": result["fit"]["divergence"],
                    "guilty": [p["name"] for p in result["decomposition"]["parts"] if p["guilty"]],
                }
                for result, path, name in listed
            ],
            "references": [row for row in self.rows() if not row["own"]],
            "warnings": list(self.warnings),
        }


def compare(paths: Sequence[Path]) -> Comparison:
    """Read results and put the best first.

    Args:
        paths: folders that `shapeshd score` wrote, or their result.json; at least one.

    Raises:
        UsageError: if there is none, or one is missing, named twice, no result, or of a newer
            format.
    """
    if not paths:
        raise UsageError("name at least one result to compare")
    files: dict[Path, Path] = {}
    for path in paths:
        file = result_file(path)
        if (same := files.get(file.resolve())) is not None:
            raise UsageError(f"{path}: is the same result as {same}; name it once")
        files[file.resolve()] = path
    read = [(read_result(path), result_file(path)) for path in paths]
    read.sort(key=lambda found: found[0]["fit"]["prediction"]["reduced_chi_square"]["value"])
    results = tuple(result for result, _ in read)
    files_read = tuple(file for _, file in read)
    return Comparison(results, files_read, _names(read), tuple(_warnings(results)))


def result_file(path: Path) -> Path:
    """Return the result.json of a folder, or the file itself.

    Raises:
        UsageError: if there is none.
    """
    if not path.exists():
        raise UsageError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        return path
    if not (path / RESULT).is_file():
        raise UsageError(
            f"{path}: holds no {RESULT}; name a folder that `shapeshd score --out` wrote, "
            "and whose run has ended"
        )
    return path / RESULT


def read_result(path: Path) -> dict[str, Any]:
    """Read a result.

    Args:
        path: folder or file.

    Raises:
        UsageError: if it is missing, no result, or of a newer format.
        ShapesHDError: if it is incomplete.
    """
    file = result_file(path)
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # also what is no UTF-8
        raise UsageError(f"{file}: is no result of `shapeshd score` (not JSON)") from None
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise UsageError(f"{file}: is no result of `shapeshd score`")
    version = result.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise UsageError(f"{file}: is no result of `shapeshd score` (format version {version!r})")
    if version > FORMAT_VERSION:
        raise UsageError(
            f"{file}: has format version {version}, but this shapeshd reads up to "
            f"{FORMAT_VERSION}; install a newer one"
        )
    missing = [key for key in _NEEDED if key not in result]
    if missing:
        raise ShapesHDError(f"{file}: is incomplete, it lacks {', '.join(missing)}")
    try:  # what the table takes
        for read in (
            source_row,
            reference_rows,
            guilt,
            _reader,
            _identity,
            law_words,
            outside_words,
        ):
            read(result)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ShapesHDError(f"{file}: is incomplete ({type(error).__name__}: {error})") from None
    return result


def describe_comparison(comparison: Comparison) -> str:
    """Return the table for the terminal and the warnings, at most `WIDTH` columns wide.

    Warnings may be longer.
    """
    rows = comparison.rows()
    heads = ("", "reduced chi-square", "divergence D", "samples")
    cells = [
        (
            row["interval"],
            row["divergence"],
            row["note"].removesuffix(" samples") if row["own"] else "",
        )
        for row in rows
    ]
    columns = zip(heads[1:], *cells, strict=True)
    taken = sum(2 + max(map(len, column)) for column in columns)
    names = [shortened(row["name"], min(_LONGEST_NAME, WIDTH - 2 - taken)) for row in rows]
    lines = table(heads, [(name, *cell) for name, cell in zip(names, cells, strict=True)])
    lines += ["  in brackets: 95%; at 20 samples per bin; the best first", ""]
    lines += table(
        ("", "mainly wrong (its part of D)", "recognizer"),
        [
            (shortened(row["name"], _SHORT_NAME), row["guilt"], shortened(row["recognizer"], 28))
            for row in rows
            if row["own"]
        ],
    )
    laws = {law_words(result): result for result in comparison.results}
    if len(laws) == 1 and comparison.results[0].get("law"):
        lines.append(f"  tested against {next(iter(laws))}")
    lines += [f"warning: {warning}" for warning in comparison.warnings]
    return "\n".join(line.rstrip() for line in lines)


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write a self-contained page with the table and both figures.

    Raises:
        UsageError: if `out` cannot be a page.
    """
    check_page(out)
    rows = comparison.rows()
    series = [
        (name, result["occupancy"])
        for name, result in zip(comparison.names, comparison.results, strict=True)
    ]
    context = {
        "title": "3DShapesHD scores side by side",
        "rows": rows,
        "warnings": comparison.warnings,
        "score_words": "; ".join(f"{row['name']}: {row['interval']}" for row in rows) + ".",
        "figures": {
            "score": both_widths(lambda width: score_figure(rows, width)),
            "occupancy": both_widths(lambda width: occupancy_figure(series, width)),
        },
    }
    text = render_page("compare.html", context)
    replace_file(out, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return out


def check_page(out: Path) -> None:
    """Raise `UsageError` if a page cannot be written as `out`."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: the name of the page must end in .html")
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; give the name of a file")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}")


def _reader(result: Mapping[str, Any]) -> str:
    recognizer = result["recognizer"]
    accuracy = recognizer.get("accuracy")
    right = f" ({percent(accuracy['joint_accuracy'])} right)" if accuracy else ""
    return f"{recognizer['name']}{right}"


def _names(read: Sequence[tuple[Mapping[str, Any], Path]]) -> tuple[str, ...]:
    """Name each result after its source; after its folder, too, where that is not enough."""
    plain = [source_name(result) for result, _ in read]
    return tuple(
        f"{name} ({file.parent.name or file.parent})" if plain.count(name) > 1 else name
        for name, (_, file) in zip(plain, read, strict=True)
    )


def _warnings(results: Sequence[Mapping[str, Any]]) -> list[str]:
    checks: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("they were read by different recognizers", _identity),
        ("they were tested against different laws", law_words),
        ("they follow different protocols", lambda r: str(r.get("protocol") or "none")),
        ("they have different numbers of samples", lambda r: f"{r['samples']:,}"),
        ("their images differ in size", lambda r: "{width} x {height}".format(**r["images"])),
    ]
    found = []
    for what, key in checks:
        values = list(dict.fromkeys(key(result) for result in results))
        if len(values) > 1:
            found.append(f"{what}: {', '.join(values)}")
    for result in results:
        if (result.get("outside") or {}).get("wrong"):
            found.append(f"{source_name(result)}: {outside_words(result)}")
    return found


def _identity(result: Mapping[str, Any]) -> str:
    recognizer = result["recognizer"]
    return f"{recognizer['name']} {str(recognizer.get('digest') or '')[:8]}".strip()
