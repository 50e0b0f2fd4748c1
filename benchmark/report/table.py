"""The rows of the score's table: the source, and what stands beside every score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .formatting import estimate, number, source_name, with_interval

REAL = "real images"
"""How the name of the row of real images through the recognizer begins."""


def source_row(result: Mapping[str, Any], name: str | None = None) -> dict[str, Any]:
    """Return the row of a result's own source.

    Returns:
        name; own (True); value, low and high of the reduced chi-square at 20 samples per bin;
        text, the value as written; interval, the value and its interval as written;
        divergence, the same of D; note.
    """
    fit = result["fit"]
    predicted, divergence = fit["prediction"]["reduced_chi_square"], fit["divergence"]
    return {
        "name": name or source_name(result),
        "own": True,
        "value": predicted["reported"],
        "low": predicted["low"],
        "high": predicted["high"],
        "text": estimate(predicted)[0],
        "interval": with_interval(predicted),
        "divergence": with_interval(divergence),
        "note": f"{result['samples']:,} samples",
    }


def reference_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the references: exact ones, and real images with their interval."""
    rows = []
    floor = result["recognizer"].get("noise_floor") or {}
    for reference in result["references"]:
        row = {
            "name": reference["name"],
            "own": False,
            "value": reference["reduced_chi_square"],
            "low": None,
            "high": None,
            "text": f"{reference['reduced_chi_square']:,.2f}",
            "interval": f"{reference['reduced_chi_square']:,.2f}",
            "divergence": number(reference["divergence"]),
            "note": f"one run scatters by \N{PLUS-MINUS SIGN}{number(reference['deviation'], 2)}",
        }
        if reference["name"].startswith(REAL) and "reduced_chi_square" in floor:
            measured = floor["reduced_chi_square"]
            row |= {
                "value": measured["reported"],
                "low": measured["low"],
                "high": measured["high"],
                "text": estimate(measured)[0],
                "interval": with_interval(measured),
                "divergence": with_interval(floor["divergence"]),
                "note": f"{floor['images']:,} images",
            }
        rows.append(row)
    return rows


def score_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the source's row, and the references' below it."""
    return [source_row(result), *reference_rows(result)]


def significant_parts(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the significant parts of the decomposition, the largest first."""
    return [part for part in result["decomposition"]["parts"] if part["significant"]]
