"""What the sections of a result's page say, as the values that its template takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from shapeshd.benchmark.result.fidelity import JointVerdictRecord
from shapeshd.benchmark.result.fit import AttenuationRecord
from shapeshd.benchmark.result.formatting import (
    Reported,
    bin_name,
    estimate,
    factor_name,
    number,
    p_value,
    part_name,
    percent,
    unit,
    with_interval,
)
from shapeshd.benchmark.result.schema import PairRecord, Result
from shapeshd.benchmark.statistics.chi_square import chi_square_variance, rarity
from shapeshd.benchmark.statistics.decomposition import LEVEL, PARTS_LEVEL
from shapeshd.benchmark.statistics.intervals import CONFIDENCE
from shapeshd.distribution import Distribution
from shapeshd.factors import FACTORS, NAMES

from .figures.factors import (
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
from .figures.style import both_widths
from .pictures import Arrays, example_sheets, rerender_sheets
from .tables import (
    INFINITE,
    distribution_name,
    fidelity_basis,
    fine_structure_text,
    image_check_text,
    outside_text,
    residual_rows,
    score_rows,
    share_text,
    source_row,
    statistic_rows,
)

_ENOUGH_PER_CELL = 5
_NAMED = 5  # significant parts in a sentence

Context = dict[str, Any]


def drawn(result: Result) -> Context:
    """Return the page's figures, each in two widths."""
    significant = {part.name for part in result.decomposition.significant}
    accuracy, rows = result.recognizer.accuracy, score_rows(result)
    series = [(result.source.title, result.bin_counts)]
    distribution = result.expected_distribution
    factors = accuracy.factors if accuracy else None
    return {
        "score": both_widths(lambda width: score_figure(rows, width)),
        "decomposition": both_widths(
            lambda width: decomposition_figure(result.decomposition, width)
        ),
        "marginals": both_widths(
            lambda width: marginals_figure(result.marginals, significant, width, distribution)
        ),
        "pairs": both_widths(
            lambda width: pairs_figure(result.pairs, significant, width, distribution)
        ),
        "largest": [_largest(pair, distribution) for pair in _significant_pairs(result)],
        "bin_counts": both_widths(lambda width: bin_counts_figure(series, width)),
        "confusion": factors and both_widths(lambda width: confusion_figure(factors, width)),
        "fidelity": result.fidelity and both_widths(lambda width: fidelity_figure(result, width)),
    }


def _significant_pairs(result: Result) -> list[PairRecord]:
    pairs = {pair.factors: pair for pair in result.pairs}
    significant = [part.factors for part in result.decomposition.significant]
    return [pairs[factors] for factors in significant if factors in pairs][:LARGEST_PAIRS]


def _largest(pair: PairRecord, distribution: Distribution | None) -> Context:
    ratio = dependence(pair.counts, coupling(distribution, pair.factors))
    return {
        "title": part_name(pair.factors),
        "low": f"{np.nanmin(ratio):.2f}",
        "high": f"{np.nanmax(ratio):.2f}",
        "figure": both_widths(lambda width: pair_figure(pair, width, distribution)),
    }


def headline(result: Result) -> Context:
    """Return title, verdict, the three numbers that matter most, and the table of scores."""
    fit, limit, rows = result.fit, result.detection_limit, score_rows(result)
    fidelity = result.fidelity
    per_bin = fit.prediction.samples / fit.bins
    if result.samples == fit.prediction.samples:
        measured = "The number was measured with the protocol's own number of samples."
    else:
        measured = (
            f"The protocol takes {fit.prediction.samples:,} samples, {per_bin:g} per bin; "
            f"the number is predicted for it from {result.samples:,}."
        )
    return {
        "title": f"{result.source.title} \N{MIDDLE DOT} 3DShapesHD score",
        "name": result.source.title,
        "kind": result.source.kind,
        "samples": f"{result.samples:,}",
        "distribution": distribution_name(result),
        "outside": outside_text(result),
        "bins": f"{fit.bins:,}",
        "freedom": f"{fit.degrees_of_freedom:,}",
        "per_bin": f"{per_bin:g}",
        "passed": result.verdict.passed,
        "conclusion": _conclusion(result),
        "fidelity_text": None if fidelity is None else _without_name(fidelity.verdict),
        "verdict": result.verdict.text,
        "own": source_row(result),
        "interval": _below(result, fit.prediction.reduced_chi_square),
        "divergence": {
            "text": INFINITE if result.is_infinite else estimate(fit.divergence)[0],
            "interval": _below(result, fit.divergence),
        },
        "limit": {
            "divergence": number(limit.divergence),
            "reduced": number(limit.reduced_chi_square),
            "power": percent(limit.power, 0),
        },
        "ideal": f"{1 / LEVEL:.0f}",
        "parts_level": percent(PARTS_LEVEL, 1),
        "rows": rows,
        "score_text": "; ".join(f"{row.name}: {row.interval}" for row in rows) + ".",
        "measured": measured,
    }


def _below(result: Result, values: Reported) -> str:
    """Return what stands below a key number: its interval, or why it is infinite."""
    if result.is_infinite:
        return "samples lie where the distribution has none"
    _, low, high = estimate(values)
    return f"{CONFIDENCE:.0%} interval {low} to {high}"


def _conclusion(result: Result) -> str:
    """Return the few words above the verdict."""
    if result.fidelity:
        return result.fidelity.verdict.name.capitalize()
    if result.image_check and not result.image_check.ok:
        return "These images do not look like the dataset"
    return "No difference found" if result.verdict.passed else "Differs from the distribution"


def _without_name(verdict: JointVerdictRecord) -> str:
    """Return a verdict's text without its name, which stands above it."""
    text = verdict.text.removeprefix(f"{verdict.name.capitalize()}: ")
    return text[:1].upper() + text[1:]


def decomposition_section(result: Result) -> Context:
    """Return the parts of the divergence, and a sentence on the significant ones."""
    parts = [
        {
            "name": part_name(part.factors),
            "delta": with_interval(part.delta),
            "share": "–" if part.share is None else percent(max(part.share, 0.0), 0),
            "p": p_value(part.p_holm).removeprefix("p = ").removeprefix("p "),
            "significant": part.significant,
        }
        for part in result.decomposition.parts
    ]
    together = [
        f"{part_name(part.factors)} ({percent(part.share, 0)})"
        for part in result.decomposition.together
    ]
    summary = _summary([part for part in parts if part["significant"]], together)
    if result.verdict.passed and result.decomposition.significant:
        summary += " That is within the recognizer's errors."
    return {"summary": summary, "parts": parts}


def _summary(significant: list[Context], together: list[str]) -> str:
    """Say in one sentence which parts are significant; figure and table have all of them."""
    if not significant:
        return (
            "No factor and no interaction of factors differs significantly from the distribution."
        )
    listed = [f"{part['name']} ({part['delta']}; {part['share']})" for part in significant[:_NAMED]]
    more = f"; and {len(significant) - _NAMED} more" if len(significant) > _NAMED else ""
    made = f" Together these make {', '.join(together)}." if together else ""
    return (
        f"Differs significantly from the distribution, by its part of D: {'; '.join(listed)}{more}."
        f"{made}"
    )


def factor_section(result: Result) -> Context:
    """Return the counts of each factor's bins, and sentences on factors and pairs."""
    rows: list[Context] = []
    distribution = result.expected_distribution
    for factor in FACTORS:
        counts = result.marginals[factor.name]
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
    significant = [part_name(pair.factors) for pair in _significant_pairs(result)]
    return {
        "marginals": rows,
        "marginal_bins": len(rows),
        "marginal_chance": round((1 - CONFIDENCE) * len(rows)),
        "marginal_text": f"{outside} of {len(rows)} bins lie outside of the {CONFIDENCE:.0%} band.",
        "pair_text": f"Significant: {', '.join(significant)}."
        if significant
        else "No pair is significant.",
    }


def bin_count_section(result: Result) -> Context:
    """Return the empty bins, the other distances and the test of this run."""
    fit = result.fit
    empty, distances = fit.empty_bins, fit.distances
    expected = number(empty.expected, 4)
    q = None if result.distribution is None else result.distribution.distribution.expected()
    rare = 0.0 if q is None else rarity(1 / q[q > 0])
    variance = chi_square_variance(fit.samples, fit.bins, rare)
    return {
        "empty": {
            "observed": f"{empty.observed:,}",
            "expected": expected,
            "deviation": number(empty.deviation, 2),
        },
        "empty_text": f"{empty.observed:,} bins are empty, expected {expected}.",
        "distances": {
            "kl": number(distances.kullback_leibler, 2),
            "tv": number(distances.total_variation, 4),
            "tv_ideal": number(distances.total_variation_ideal, 4),
        },
        "mean": number(fit.expected_per_bin),
        "reduced": number(fit.reduced_chi_square, 5),
        "reduced_deviation": number(math.sqrt(variance) / fit.degrees_of_freedom, 2),
        "p_value": p_value(fit.p_value),
    }


def example_section(result: Result, examples: Arrays | None) -> Context:
    """Return the sheets of images from the fullest and the emptiest cells."""
    if examples is None:
        return {"sheets": [], "sheet_text": ""}
    worst = str(examples["part"])
    part = next((part for part in result.decomposition.significant if part.name == worst), None)
    words = ["All are samples of the source, the first that fell into the cell, unless marked."]
    mean = result.fit.expected_per_bin
    if mean < _ENOUGH_PER_CELL:
        words.append(
            f"With {number(mean)} samples expected per joint bin, an empty joint bin says little "
            "by itself."
        )
    named = part_name(part.factors) if part else worst
    return {"sheets": example_sheets(examples, named), "sheet_text": " ".join(words)}


def recognizer_section(result: Result) -> Context:
    """Return how well the recognizer reads, and what its errors leave of a divergence."""
    found, left = result.recognizer.accuracy, result.attenuation
    context: Context = {"recognizer": result.recognizer, "accuracy": None, "attenuation": None}
    if left is not None:
        context["attenuation"] = {"text": _left(left), "meaning": left.meaning}
    if found and found.factors:
        borders = found.border_errors
        context["accuracy"] = {
            "images": f"{found.images:,}",
            "joint": percent(found.joint_accuracy),
            "gross_errors": f"{found.gross_errors.count:,}" if found.gross_errors else None,
            "borders": None if borders is None else f"{borders:,}",
            "factors": [
                {
                    "name": factor_name(name),
                    "accuracy": percent(found.factors[name].accuracy),
                    "error": _error(name, found.factors[name].mean_absolute_error),
                    "left": percent(left.factors.get(name) if left else None, 1),
                }
                for name in NAMES
            ],
        }
    return context


def image_check_section(result: Result) -> Context | None:
    """Return what a look at the images found; None if there was none."""
    found = result.image_check
    if found is None:
        return None
    return {
        "ok": found.ok,
        "text": image_check_text(found),
        "fine_structure": fine_structure_text(result),
        "tried": [
            (one.name or "nothing: the images as they are", number(one.error))
            for one in sorted(found.tried, key=lambda one: one.error)
        ],
    }


def _error(name: str, value: float | None) -> str:
    return "\N{EN DASH}" if value is None else number(value, 2) + unit(name)


def _left(attenuation: AttenuationRecord) -> str:
    words = []
    if attenuation.of_this_source is not None:
        share = percent(attenuation.of_this_source, 1)
        words.append(
            f"Of this source's divergence the recognizer's errors leave {share} on average."
        )
    share = percent(attenuation.joint, 1)
    words.append(f"Of noise over all joint bins they leave {share}.")
    if attenuation.least_joint is not None:
        least = percent(attenuation.least_joint, 1)
        words.append(f"Of the pattern that loses most, alternating from bin to bin, {least}.")
    return " ".join(words)


def fidelity_section(result: Result, rerenders: Arrays | None) -> Context | None:
    """Return verdict, tables and pictures of image fidelity; None if it was not measured."""
    entry = result.fidelity
    if entry is None:
        return None
    residual = entry.residual
    return {
        "verdict": entry.verdict,
        "basis": fidelity_basis(entry),
        "beyond": share_text(residual.beyond),
        "real_beyond": percent(residual.real_beyond.value),
        "quantile": percent(residual.quantile, 1),
        "tolerated": percent(residual.tolerated),
        "residual": residual_rows(entry),
        "statistics": statistic_rows(entry),
        "images": f"{entry.settings.images:,}",
        "sheets": [] if rerenders is None else rerender_sheets(rerenders),
    }
