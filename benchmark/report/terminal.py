"""What people read of a result: a table for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from shapeshd.benchmark.result.fidelity import FidelityRecord
from shapeshd.benchmark.result.fit import AttenuationRecord
from shapeshd.benchmark.result.formatting import (
    number,
    p_value,
    part_name,
    percent,
    unit,
    with_interval,
)
from shapeshd.benchmark.result.schema import RecognizerRecord, Result
from shapeshd.benchmark.statistics.decomposition import LEVEL
from shapeshd.benchmark.statistics.intervals import CONFIDENCE

from .facts import run_time
from .tables import (
    converted_text,
    fidelity_basis,
    fine_structure_text,
    image_check_text,
    outside_text,
    residual_rows,
    score_rows,
    statistic_rows,
)

WIDTH = 100
_MOST_SIGNIFICANT = 8
_LONGEST_NAME = 34


def describe(result: Result) -> str:
    """Return a table for the terminal, at most `WIDTH` columns wide, what matters most first."""
    per_bin = result.fit.prediction.samples / result.fit.bins
    lines = [*_heading(result), ""]
    rows = [(shortened(row.name), row.interval, row.divergence) for row in score_rows(result)]
    lines += table(("", "reduced chi-square", "divergence D"), rows)
    predicted = result.samples != result.fit.prediction.samples
    how = f", predicted from {result.samples:,} samples" if predicted else ", measured"
    lines.append(
        f"  reduced chi-square at {per_bin:g} samples per bin{how}; in brackets: {CONFIDENCE:.0%}"
    )
    lines += ["", *_parts(result), ""]
    if result.fidelity:
        lines += [*_fidelity(result.fidelity), ""]
    lines += fields(
        [
            *_distribution(result),
            *_images(result),
            *_facts(result),
            *_source(result),
            *_recognizer(result.recognizer),
            *_run(result),
        ]
    )
    return "\n".join(lines)


def _heading(result: Result) -> list[str]:
    texts = [result.verdict.text]
    mark = "ok" if result.verdict.passed else "DIFFERS"
    bad = result.image_check is not None and not result.image_check.ok
    if result.fidelity:
        texts.insert(0, result.fidelity.verdict.text)
        bad |= not result.fidelity.verdict.fidelity
    if bad:
        mark = "WRONG IMAGES"
    text = " ".join(" ".join(texts).split())
    rest = f" ({result.source.kind}), {result.samples:,} samples"
    return [
        shortened(result.source.title, WIDTH - len(rest)) + rest,
        *textwrap.wrap(f"{mark}: {text}", WIDTH),
    ]


def _fidelity(entry: FidelityRecord) -> list[str]:
    limit = percent(entry.residual.quantile, 1)
    heads = ("residual", "mean", "real images", f"beyond {limit} of real")
    return [
        *table(heads, [row[:4] for row in residual_rows(entry)]),
        "",
        *table(("features", "this source", "a perfect generator"), statistic_rows(entry)),
        *fields([("fidelity", fidelity_basis(entry))]),
    ]


def _parts(result: Result) -> list[str]:
    significant = result.decomposition.significant
    if not significant:
        return [
            "  no factor and no interaction of factors differs significantly from the distribution"
        ]
    rows = [
        (part_name(part.factors), with_interval(part.delta), percent(part.share, 0))
        for part in significant[:_MOST_SIGNIFICANT]
    ]
    made = [
        (f"together: {part_name(part.factors)}", with_interval(part.delta), percent(part.share, 0))
        for part in result.decomposition.together
    ]
    rows = [*made, *rows]  # which are the larger ones
    # A part of a source that passed is no more than the recognizer's errors can make.
    head = "within the errors" if result.verdict.passed else "what is wrong"
    lines = table((head, "its part of D", "share"), rows)
    if len(significant) > _MOST_SIGNIFICANT:
        lines.append(
            f"  ... and {len(significant) - _MOST_SIGNIFICANT} more (result.json lists all)"
        )
    return lines


def _distribution(result: Result) -> list[tuple[str, str]]:
    """Say against which distribution a result was tested, unless it is the uniform one."""
    lines = []
    if found := result.distribution:
        text = f"{found.text}, {found.bins:,} bins"
        if found.measurement_error:
            own = number(found.measurement_error.divergence, 2)
            text += f"; images of it would be read with D = {own}"
        lines.append(("distribution", text))
    if outside := outside_text(result):
        lines.append(("  outside", outside))
    return lines


def _images(result: Result) -> list[tuple[str, str]]:
    """Say of which images the samples are, what was done to them, and how they look."""
    lines = []
    if count := result.images.drawn_from:
        lines.append(("images", f"{result.samples:,} of {count:,}, drawn by the seed"))
    if text := converted_text(result.images):
        lines.append(("  converted", f"to 8-bit sRGB: {text}"))
    if result.image_check is not None:
        lines.append(("like real ones", image_check_text(result.image_check)))
    if left := fine_structure_text(result):
        lines.append(("  read with", left))
    return lines


def _facts(result: Result) -> list[tuple[str, str]]:
    fit = result.fit
    empty, distances = fit.empty_bins, fit.distances
    return [
        (
            "test",
            f"chi-square {number(fit.reduced_chi_square, 4)} x {fit.degrees_of_freedom:,}"
            f" at {number(fit.expected_per_bin)} samples per bin, {p_value(fit.p_value)}",
        ),
        (
            "detection limit",
            f"D = {number(result.detection_limit.divergence)}: found in "
            f"{result.detection_limit.power:.0%} of runs with so many samples",
        ),
        ("level", f"of {1 / LEVEL:.0f} ideal sources one is called wrong"),
        (
            "empty bins",
            f"{empty.observed:,}, expected {number(empty.expected, 4)}"
            f" \N{PLUS-MINUS SIGN} {number(empty.deviation, 2)}",
        ),
        (
            "other distances",
            f"KL {number(distances.kullback_leibler, 2)} nats, total variation "
            f"{number(distances.total_variation)} "
            f"(ideal sampler {number(distances.total_variation_ideal)})",
        ),
    ]


def _source(result: Result) -> list[tuple[str, str]]:
    """Say which images are equal or nearly so, and whether the source makes the same ones again."""
    found = (
        ("equal images", result.repeats),
        ("near copies", result.near_copies),
        ("reproducible", result.reproducibility),
    )
    return [(name, record.text) for name, record in found if record is not None]


def _recognizer(recognizer: RecognizerRecord) -> list[tuple[str, str]]:
    name, accuracy = f"{recognizer.name}, {recognizer.size} px", recognizer.accuracy
    if recognizer.precision == "bf16":
        name += ", in bf16"
    if not accuracy:
        return [("recognizer", f"{name}; its accuracy is not recorded")]
    right = f"right joint bin for {percent(accuracy.joint_accuracy)}"
    errors = [
        f"{factor} {number(found.mean_absolute_error, 2)}{unit(factor)}"
        for factor, found in (accuracy.factors or {}).items()
        if found.mean_absolute_error is not None
    ]
    return [
        ("recognizer", f"{name}; {right} of {accuracy.images:,} real images"),
        ("  mean errors", ", ".join(errors).replace("_", " ")),
    ]


def _run(result: Result) -> list[tuple[str, str]]:
    lines = []
    if result.attenuation and (share := result.attenuation.of_this_source) is not None:
        lines.append(("  attenuation", _survives(share, result.attenuation)))
    lines.append(("run", f"seed {result.seed}, {run_time(result.run, 'img/s', ', resumed')}"))
    return lines


def _survives(share: float, attenuation: AttenuationRecord) -> str:
    text = f"{percent(share, 1)} of this D survives its errors on average"
    if (least := attenuation.least_of_this_source) is not None:
        text += f", {percent(least, 1)} in the worst pattern"
    return text


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
