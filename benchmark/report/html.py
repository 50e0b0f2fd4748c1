"""One self-contained HTML page of a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from shapeshd.benchmark.result.files import REPORT
from shapeshd.benchmark.statistics.measurement_error import (
    distribution_of,
    distribution_words,
    outside_words,
)
from shapeshd.distribution import Distribution
from shapeshd.factors import FACTORS, NAMES
from shapeshd.support.atomic_files import replace_file

from .fidelity import fidelity_context, load_pictures
from .figures.factors import (
    CONFIDENCE,
    LARGEST_PAIRS,
    band,
    confusion_figure,
    coupling,
    dependence,
    expected_shares,
    marginals_figure,
    pair_figure,
    pairs_figure,
)
from .figures.fidelity import fidelity_figure
from .figures.score import bin_counts_figure, decomposition_figure, score_figure
from .figures.style import NARROW, WIDE, data_uri, style
from .formatting import (
    bin_name,
    estimate,
    factor_name,
    number,
    p_value,
    part_name,
    percent,
    source_name,
    unit,
    with_interval,
)
from .provenance import facts
from .sheets import Arrays, load_examples, sheets
from .table import score_rows, significant_parts, source_row

_ENOUGH_PER_CELL = 5
_NAMED = 5  # significant parts in a sentence
_TEMPLATES = Path(__file__).parent / "templates"

Context = dict[str, Any]


def write_report(result: Mapping[str, Any], out: Path) -> Path:
    """Write the page of a result.

    Args:
        result: what result.json holds.
        out: the folder of the result, in which `REPORT` is written and which holds the
            images that the result names; or the page's own path, ending in .html, beside them.

    Returns:
        the path of the page.

    Raises:
        ShapesHDError: if the images cannot be read.
    """
    path = out if out.suffix.lower() in (".html", ".htm") else out / REPORT
    name = (result.get("examples") or {}).get("file")
    examples = load_examples(path.parent / Path(name).name) if name else None
    pictured = ((result.get("fidelity") or {}).get("examples") or {}).get("file")
    pictures = load_pictures(path.parent / Path(pictured).name) if pictured else None
    text = report_page(result, examples, pictures)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def report_page(
    result: Mapping[str, Any], examples: Arrays | None = None, pictures: Arrays | None = None
) -> str:
    """Return the page of a result as HTML.

    Args:
        result: what result.json holds.
        examples: those of `choose_examples`.
        pictures: those of `choose_fidelity_examples`.
    """
    context = {
        **_headline(result),
        **_decomposition(result),
        **_factors(result),
        **_bins(result),
        **_sheets(result, examples),
        **_recognizer(result),
        "fidelity": fidelity_context(result, pictures),
        "figures": _figures(result),
        "facts": facts(result),
    }
    return render_page("report.html", context)


def render_page(template: str, context: Context) -> str:
    """Fill a template; all texts are escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(context)


def both_widths(draw: Callable[[float], Figure]) -> dict[str, str]:
    """Draw a figure for a window and for a phone, as ``data:`` URIs."""
    with style():
        return {"wide": data_uri(draw(WIDE)), "narrow": data_uri(draw(NARROW))}


def _figures(result: Mapping[str, Any]) -> Context:
    significant = {part["name"] for part in significant_parts(result)}
    accuracy, name = result["recognizer"].get("accuracy"), source_name(result)
    rows, series = score_rows(result), [(name, result["bin_counts"])]
    distribution = distribution_of(result)
    return {
        "score": both_widths(lambda width: score_figure(rows, width)),
        "decomposition": both_widths(
            lambda width: decomposition_figure(result["decomposition"], width)
        ),
        "marginals": both_widths(
            lambda width: marginals_figure(result["marginals"], significant, width, distribution)
        ),
        "pairs": both_widths(
            lambda width: pairs_figure(result["pairs"], significant, width, distribution)
        ),
        "largest": [_largest(pair, distribution) for pair in _significant_pairs(result)],
        "bin_counts": both_widths(lambda width: bin_counts_figure(series, width)),
        "confusion": both_widths(lambda width: confusion_figure(accuracy["factors"], width))
        if accuracy
        else None,
        "fidelity": both_widths(lambda width: fidelity_figure(result, width))
        if result.get("fidelity")
        else None,
    }


def _significant_pairs(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    pairs = {tuple(pair["factors"]): pair for pair in result["pairs"]}
    significant = [tuple(part["factors"]) for part in significant_parts(result)]
    return [pairs[factors] for factors in significant if factors in pairs][:LARGEST_PAIRS]


def _largest(pair: Mapping[str, Any], distribution: Distribution | None) -> Context:
    ratio = dependence(pair["counts"], coupling(distribution, pair["factors"]))
    return {
        "title": part_name(pair["factors"]),
        "low": f"{np.nanmin(ratio):.2f}",
        "high": f"{np.nanmax(ratio):.2f}",
        "figure": both_widths(lambda width: pair_figure(pair, width, distribution)),
    }


def _headline(result: Mapping[str, Any]) -> Context:
    fit, limit, own = result["fit"], result["detection_limit"], source_row(result)
    _, low, high = estimate(fit["prediction"]["reduced_chi_square"])
    rows, name = score_rows(result), source_name(result)
    per_bin = fit["prediction"]["samples"] / fit["bins"]
    if result["samples"] == fit["prediction"]["samples"]:
        measured = "The number was measured with the protocol's own number of samples."
    else:
        measured = (
            f"The protocol takes {fit['prediction']['samples']:,} samples, {per_bin:g} per bin; "
            f"the number is predicted for it from {result['samples']:,}."
        )
    return {
        "title": f"{name} \N{MIDDLE DOT} 3DShapesHD score",
        "name": name,
        "kind": result["source"]["kind"],
        "samples": f"{result['samples']:,}",
        "distribution": distribution_words(result),
        "outside": outside_words(result),
        "bins": f"{fit['bins']:,}",
        "freedom": f"{fit['degrees_of_freedom']:,}",
        "per_bin": f"{per_bin:g}",
        "passed": bool(result["verdict"]["passed"]),
        "verdict": result["verdict"]["text"],
        "own": own,
        "interval": f"{low} to {high}",
        "divergence": estimate(fit["divergence"]),
        "limit": {
            "divergence": number(limit["divergence"]),
            "reduced": number(limit["reduced_chi_square"]),
            "power": percent(limit["power"], 0),
            "level": percent(limit["level"], 0),
        },
        "rows": rows,
        "score_words": "; ".join(f"{row['name']}: {row['interval']}" for row in rows) + ".",
        "measured": measured,
    }


def _decomposition(result: Mapping[str, Any]) -> Context:
    parts = [
        {
            "name": part_name(part["factors"]),
            "delta": with_interval(part["delta"]),
            "share": percent(max(part["share"], 0.0), 0) if part["share"] is not None else "–",
            "p": p_value(part["p_holm"]).removeprefix("p = ").removeprefix("p "),
            "significant": part["significant"],
        }
        for part in result["decomposition"]["parts"]
    ]
    return {"summary": _summary([part for part in parts if part["significant"]]), "parts": parts}


def _summary(significant: list[Context]) -> str:
    """Say in one sentence which parts are significant; figure and table have all of them."""
    if not significant:
        return "No factor, pair of factors or rest differs significantly from the distribution."
    listed = [f"{part['name']} ({part['delta']}; {part['share']})" for part in significant[:_NAMED]]
    more = f"; and {len(significant) - _NAMED} more" if len(significant) > _NAMED else ""
    return (
        f"Differs significantly from the distribution, by its part of D: {'; '.join(listed)}{more}."
    )


def _factors(result: Mapping[str, Any]) -> Context:
    rows: list[Context] = []
    distribution = distribution_of(result)
    for factor in FACTORS:
        counts = result["marginals"][factor.name]
        for index, share in enumerate(expected_shares(distribution, factor)):
            low, high = band(sum(counts), float(share))
            rows.append(
                {
                    "factor": factor_name(factor.name),
                    "bin": bin_name(factor, index),
                    "count": f"{counts[index]:,}",
                    "expected": number(sum(counts) * share, 4),
                    "low": f"{low:,.0f}",
                    "high": f"{high:,.0f}",
                    "outside": not low <= counts[index] <= high,
                }
            )
    outside = sum(bool(row["outside"]) for row in rows)
    significant = [part_name(pair["factors"]) for pair in _significant_pairs(result)]
    return {
        "marginals": rows,
        "marginal_bins": len(rows),
        "marginal_chance": round((1 - CONFIDENCE) * len(rows)),
        "marginal_words": f"{outside} of {len(rows)} bins lie outside of the 95% band.",
        "pair_words": f"Guilty: {', '.join(significant)}."
        if significant
        else "No pair is significant.",
    }


def _bins(result: Mapping[str, Any]) -> Context:
    fit = result["fit"]
    empty, distances = fit["empty_bins"], fit["distances"]
    expected = number(empty["expected"], 4)
    return {
        "empty": {
            "observed": f"{empty['observed']:,}",
            "expected": expected,
            "deviation": number(empty["deviation"], 2),
        },
        "empty_words": f"{empty['observed']:,} bins are empty, expected {expected}.",
        "distances": {
            "kl": number(distances["kullback_leibler"], 2),
            "tv": number(distances["total_variation"], 4),
            "tv_ideal": number(distances["total_variation_ideal"], 4),
        },
        "mean": number(fit["expected_per_bin"]),
        "reduced": number(fit["reduced_chi_square"], 5),
        "reduced_deviation": number(float(np.sqrt(2 / fit["degrees_of_freedom"])), 2),
        "p_value": p_value(fit["p_value"]),
    }


def _sheets(result: Mapping[str, Any], examples: Arrays | None) -> Context:
    if examples is None:
        return {"sheets": [], "sheet_words": ""}
    part = next((p for p in significant_parts(result) if p["name"] == str(examples["part"])), None)
    words = ["All are samples of the source, the first that fell into the cell, unless marked."]
    mean = result["fit"]["expected_per_bin"]
    if mean < _ENOUGH_PER_CELL:
        words.append(
            f"With {number(mean)} samples expected per joint bin, an empty joint bin says little "
            "by itself."
        )
    named = part_name(part["factors"]) if part else str(examples["part"])
    return {"sheets": sheets(examples, named), "sheet_words": " ".join(words)}


def _recognizer(result: Mapping[str, Any]) -> Context:
    found = result["recognizer"].get("accuracy")
    left = result.get("attenuation") or {}
    context: Context = {"recognizer": result["recognizer"], "accuracy": None, "attenuation": None}
    if left.get("of_this_source") is not None or left.get("joint") is not None:
        context["attenuation"] = {"words": _left(left), "meaning": left.get("meaning", "")}
    if found:
        borders = found.get("border_errors")
        context["accuracy"] = {
            "images": f"{found['images']:,}",
            "joint": percent(found["joint_accuracy"]),
            "gross_errors": f"{found['gross_errors']['count']:,}",
            "borders": None if borders is None else f"{borders:,}",
            "factors": [
                {
                    "name": factor_name(name),
                    "accuracy": percent(found["factors"][name]["accuracy"]),
                    "error": _error(name, found["factors"][name]["mean_absolute_error"]),
                    "left": percent((left.get("factors") or {}).get(name), 1),
                }
                for name in NAMES
            ],
        }
    return context


def _error(name: str, value: float | None) -> str:
    return "\N{EN DASH}" if value is None else number(value, 2) + unit(name)


def _left(attenuation: Mapping[str, Any]) -> str:
    words = []
    if attenuation.get("of_this_source") is not None:
        share = percent(attenuation["of_this_source"], 1)
        words.append(f"Of this source's divergence the recognizer's errors leave {share}.")
    if attenuation.get("joint") is not None:
        share = percent(attenuation["joint"], 1)
        words.append(f"Of noise over all joint bins they leave {share}.")
    return " ".join(words)
