"""One result as a row of a leaderboard: raw numbers by name, as a CSV file holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from shapeshd.benchmark.report.fidelity_table import share_words, with_its_interval
from shapeshd.benchmark.report.formatting import number
from shapeshd.benchmark.report.table import significant_parts
from shapeshd.benchmark.statistics.measurement_error import distribution_words

from .comparability import fidelity_of, model_name, scene_words

Row = dict[str, Any]


def leaderboard_row(result: Mapping[str, Any]) -> Row:
    """Return what a leaderboard says of a result: numbers as measured, not rounded or cut off.

    Unbiased estimates below 0 (D) or 1 (reduced chi-square) stay there. Where samples lie outside
    of the distribution, D is infinite, and so is the reduced chi-square. What is not known is None.
    """
    fit, recognizer, source = result["fit"], result["recognizer"], result["source"]
    predicted, divergence = fit["prediction"]["reduced_chi_square"], fit["divergence"]
    significant = significant_parts(result)
    infinite = is_infinite(result)
    return {
        "model": model_name(result),
        **_estimate("reduced_chi_square", predicted, infinite),
        **_estimate("divergence", divergence, infinite),
        "p_value": fit["p_value"],
        "passed": result["verdict"]["passed"],
        "mainly_wrong": significant[0]["name"] if significant else None,
        "mainly_wrong_divergence": significant[0]["delta"]["value"] if significant else None,
        "samples": result["samples"],
        "protocol": result.get("protocol"),
        "seed": result["seed"],
        "recognizer": PurePath(recognizer["name"]).name,
        "recognizer_sha256": recognizer.get("digest"),
        "source": source["name"],
        "source_kind": source["kind"],
        "source_content": source.get("content"),
        "image_size": result["images"]["width"],
        "distribution": distribution_words(result),
        "scene": scene_words(result),
        **fidelity_columns(result),
        "shapeshd": result.get("versions", {}).get("shapeshd"),
        "created": result.get("created"),
        "command": result.get("run", {}).get("command"),
    }


def is_infinite(result: Mapping[str, Any]) -> bool:
    """Whether more samples lie where the distribution has none than errors explain."""
    return bool((result.get("outside") or {}).get("wrong"))


def fidelity_columns(result: Mapping[str, Any]) -> Row:
    """Return the quality of single images, each number with its 95% interval; None if unknown.

    Returns:
        ``residual_psnr``: mean PSNR of an image and the rendering of its recognised factors, dB,
        and that of real images; ``beyond_real``: share of images farther from it than real ones
        are; ``fid``: on the features named in ``features``, and ``fid_of_real``, what as many
        real images get.
    """
    found = fidelity_of(result)
    if found is None:
        return dict.fromkeys(_FIDELITY)
    residual, statistics = found["residual"], found["statistics"]
    values = {
        "fidelity_images": found["settings"]["images"],
        **_interval("residual_psnr", residual["psnr"]["mean"]),
        "residual_psnr_of_real": residual["psnr"]["floor"]["mean"]["value"],
        **_interval("beyond_real", residual["beyond"]),
        **_interval("fid", statistics["fid"]),
        "fid_of_real": found["theoretical"]["fid"]["value"],
        "features": found["settings"]["features"]["name"],
        "quality_verdict": (found.get("verdict") or {}).get("name"),
    }
    return {name: values[name] for name in _FIDELITY}


FIDELITY = ("PSNR of re-render, dB (real)", "beyond real images", "FID (real)")
"""Heads of `fidelity_cells`."""


def fidelity_cells(result: Mapping[str, Any]) -> tuple[str, str, str]:
    """Write the quality of single images with intervals; empty texts where it is not known.

    In brackets behind: what as many real images get.
    """
    found = fidelity_of(result)
    if found is None:
        return "", "", ""
    psnr, fid = found["residual"]["psnr"], found["statistics"]["fid"]
    real = psnr["floor"]["mean"]["value"]
    return (
        f"{with_its_interval(psnr['mean'])} ({number(real)})",
        share_words(found["residual"]["beyond"]),
        f"{with_its_interval(fid)} ({number(found['theoretical']['fid']['value'])})",
    )


_FIDELITY = (
    "fidelity_images",
    *("residual_psnr", "residual_psnr_low", "residual_psnr_high", "residual_psnr_of_real"),
    *("beyond_real", "beyond_real_low", "beyond_real_high"),
    *("fid", "fid_low", "fid_high", "fid_of_real", "features", "quality_verdict"),
)


def _interval(name: str, values: Mapping[str, float]) -> Row:
    ends = {f"{name}_{end}": values[end] for end in ("low", "high")}
    return {name: values["value"], **ends}


def _estimate(name: str, values: Mapping[str, float], infinite: bool) -> Row:
    if infinite:
        return {name: math.inf, f"{name}_low": None, f"{name}_high": None, f"{name}_error": None}
    return {**_interval(name, values), f"{name}_error": values["standard_error"]}
