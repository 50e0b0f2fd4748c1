"""What people read of a result: a table for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shapeshd.benchmark.statistics.measurement_error import outside_words
from shapeshd.factors import NAMES
from shapeshd.support.progress import human_time

from .fidelity_table import basis, residual_rows, statistic_rows
from .formatting import brief, number, p_value, part_name, percent, source_name, unit, with_interval
from .html import write_report
from .table import score_rows, significant_parts

__all__ = ["describe", "write_report"]

WIDTH = 100
_MOST_SIGNIFICANT = 8
_LONGEST_NAME = 34


def describe(result: Mapping[str, Any]) -> str:
    """Return a table for the terminal, at most `WIDTH` columns wide, what matters most first.

    Args:
        result: what result.json holds.
    """
    fit = result["fit"]
    lines = [*_heading(result), ""]
    rows = [
        (shortened(row["name"]), row["interval"], row["divergence"]) for row in score_rows(result)
    ]
    lines += table(("", "reduced chi-square", "divergence D"), rows)
    lines.append(f"  reduced chi-square at {_per_bin(fit)} samples per bin; in brackets: 95%")
    lines += ["", *_parts(result), ""]
    if entry := result.get("fidelity"):
        lines += [*_fidelity(entry), ""]
    lines += fields(
        [*_distribution(result), *_facts(result), *_recognizer(result["recognizer"]), *_run(result)]
    )
    return "\n".join(lines)


def _heading(result: Mapping[str, Any]) -> list[str]:
    text = " ".join(str(result["verdict"]["text"]).split())
    mark = "ok" if result["verdict"]["passed"] else "DIFFERS"
    rest = f" ({result['source']['kind']}), {result['samples']:,} samples"
    both = []
    if entry := result.get("fidelity"):
        fine = result["verdict"]["passed"] and entry["verdict"]["fidelity"]
        both = textwrap.wrap(f"{'ok' if fine else 'WRONG'}: {entry['verdict']['text']}", WIDTH)
    return [
        shortened(source_name(result), WIDTH - len(rest)) + rest,
        *both,
        *textwrap.wrap(f"{mark}: {text}", WIDTH),
    ]


def _fidelity(entry: Mapping[str, Any]) -> list[str]:
    limit = percent(entry["residual"]["quantile"], 1)
    heads = ("residual", "mean", "real images", f"beyond {limit} of real")
    return [
        *table(heads, [row[:4] for row in residual_rows(entry)]),
        "",
        *table(("features", "this source", "a perfect generator"), statistic_rows(entry)),
        *fields([("fidelity", basis(entry))]),
    ]


def _per_bin(fit: Mapping[str, Any]) -> str:
    return f"{fit['prediction']['samples'] / fit['bins']:g}"


def _parts(result: Mapping[str, Any]) -> list[str]:
    significant = significant_parts(result)
    if not significant:
        return ["  no factor, pair of factors or rest differs significantly from the distribution"]
    rows = [
        (part_name(part["factors"]), with_interval(part["delta"]), percent(part["share"], 0))
        for part in significant[:_MOST_SIGNIFICANT]
    ]
    lines = table(("what is wrong", "its part of D", "share"), rows)
    if len(significant) > _MOST_SIGNIFICANT:
        lines.append(
            f"  ... and {len(significant) - _MOST_SIGNIFICANT} more (result.json lists all)"
        )
    return lines


def _distribution(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say against which distribution a result was tested, unless it is the uniform one."""
    found, lines = result.get("distribution"), []
    if found:
        text = f"{found['text']}, {found['bins']:,} bins"
        if found["measurement_error"]:
            own = number(found["measurement_error"]["divergence"], 2)
            text += f"; images of it would be read with D = {own}"
        lines.append(("distribution", text))
    if outside := outside_words(result):
        lines.append(("  outside", outside))
    return lines


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    fit, limit = result["fit"], result["detection_limit"]
    empty, distances = fit["empty_bins"], fit["distances"]
    return [
        (
            "test",
            f"chi-square {number(fit['reduced_chi_square'], 4)} x {fit['degrees_of_freedom']:,}"
            f" at {number(fit['expected_per_bin'])} samples per bin, {p_value(fit['p_value'])}",
        ),
        ("detection limit", f"D = {number(limit['divergence'])} at this number of samples"),
        (
            "empty bins",
            f"{empty['observed']:,}, expected {number(empty['expected'], 4)}"
            f" \N{PLUS-MINUS SIGN} {number(empty['deviation'], 2)}",
        ),
        (
            "other distances",
            f"KL {number(distances['kullback_leibler'], 2)} nats, total variation "
            f"{number(distances['total_variation'])} "
            f"(ideal sampler {number(distances['total_variation_ideal'])})",
        ),
    ]


def _recognizer(recognizer: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [("recognizer", f"{recognizer['name']}, {recognizer['size']} px")]
    accuracy = recognizer.get("accuracy")
    if not accuracy:
        return [("recognizer", lines[0][1] + "; its accuracy is not recorded")]
    lines[0] = (
        "recognizer",
        f"{lines[0][1]}; right joint bin for {percent(accuracy['joint_accuracy'])}"
        f" of {accuracy['images']:,} real images",
    )
    errors = [
        f"{name} {number(found['mean_absolute_error'], 2)}{unit(name)}"
        for name, found in accuracy["factors"].items()
        if name in NAMES and found["mean_absolute_error"] is not None
    ]
    lines.append(("  mean errors", ", ".join(errors).replace("_", " ")))
    return lines


def _run(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines, attenuation = [], result.get("attenuation") or {}
    if attenuation.get("of_this_source") is not None:
        text = f"{percent(attenuation['of_this_source'], 1)} of this D survives its errors"
        lines.append(("  attenuation", text))
    run = result["run"]
    lines.append(
        (
            "run",
            f"seed {result['seed']}, {human_time(run['seconds'])}, "
            f"{number(run['images_per_second'])} img/s on {run['device']}"
            + (f" x {run['world_size']}" if run["world_size"] > 1 else "")
            + (", resumed" if run["resumed"] else ""),
        )
    )
    return lines


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Align columns of text: the first at the left, the others at the right."""
    cells = [list(heads), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        f"  {row[0]:{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in cells
    ]


def fields(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Write names and texts in two columns; long texts go on in the next line."""
    indent = " " * 19
    return [
        line
        for name, text in rows
        for line in textwrap.wrap(
            text, WIDTH, initial_indent=f"  {name:15}  ", subsequent_indent=indent
        )
    ]


def shortened(text: str, longest: int = _LONGEST_NAME) -> str:
    """Cut a name in the middle, where it is longer than that; its end often tells more."""
    if len(text) <= longest:
        return text
    tail = (longest - 3) // 2
    return f"{text[: longest - 3 - tail]}...{text[-tail:]}"


def significant_parts_text(result: Mapping[str, Any]) -> str:
    """Say in a few words which part is the largest significant one."""
    significant = significant_parts(result)
    return (
        f"{part_name(significant[0]['factors'])} {brief(significant[0]['delta'])}"
        if significant
        else "none"
    )
