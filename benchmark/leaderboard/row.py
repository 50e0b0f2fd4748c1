"""One result as a row of a leaderboard: its names, and raw numbers as a CSV file holds them."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

from shapeshd.benchmark.recognizer.version import recognizer_version
from shapeshd.benchmark.report.tables import distribution_name, largest_part, share_text
from shapeshd.benchmark.result.formatting import Interval, interval, number, percent, printable
from shapeshd.benchmark.result.schema import Entry, ScoreRecord
from shapeshd.benchmark.statistics.record import EstimateRecord
from shapeshd.engines.engine import current_name
from shapeshd.scene.version import scene_version

Row = dict[str, Any]

_SHORT = 8  # digits of a digest
_UNKNOWN = "not recorded"
_FIDELITY = (
    "fidelity_images",
    *("residual_psnr", "residual_psnr_low", "residual_psnr_high", "residual_psnr_of_real"),
    *("beyond_real", "beyond_real_low", "beyond_real_high"),
    *("fid", "fid_low", "fid_high", "fid_of_real", "features", "fidelity_verdict"),
)

FIDELITY = ("PSNR of re-render, dB (real)", "beyond real images", "FID (real)")
"""Heads of `fidelity_cells`."""


def model_name(result: ScoreRecord) -> str:
    """Return what an entry calls its model, else what the user called the source, on one line."""
    given = printable(result.model) if isinstance(result, Entry) else ""
    return given or result.source.title


def recognizer_name(result: ScoreRecord) -> str:
    """Name the recognizer, and how often it is right."""
    accuracy = result.recognizer.accuracy
    right = f" ({percent(accuracy.joint_accuracy)} right)" if accuracy else ""
    precision = " in bf16" if result.recognizer.precision == "bf16" else ""
    return f"{result.recognizer.name}{precision}{right}"


def scene_name(result: ScoreRecord) -> str:
    """Name the scene: the recognizer's own where it is known to be another than the installed."""
    scene = result.scene
    if scene is None:
        return _UNKNOWN
    digest = scene.trained_on if scene.installed is False else scene.sha256
    return digest[:_SHORT] if digest else _UNKNOWN


def scene_version_of(result: ScoreRecord) -> int | None:
    """Return the version of the scene; of older files by its digest; None if it is not known."""
    scene = result.scene
    if scene is None:
        return None
    return scene.version or scene_version(scene.trained_on or scene.sha256)


def recognizer_version_of(result: ScoreRecord) -> int | None:
    """Return the version of a recognizer that comes with the program; None of another."""
    return result.recognizer.version or recognizer_version(result.recognizer.digest)


def precision_of(result: ScoreRecord) -> str:
    """Return the precision in which the recognizer read; older results were read in fp32."""
    return result.recognizer.precision or "fp32"


def protocol_version_of(result: ScoreRecord) -> int:
    """Return the version of what turns images into numbers; older files were made by the first."""
    return result.protocol_version or 1


def scene_identity(result: ScoreRecord) -> str:
    """Name the scene by its version, or by its digest where the version is not known."""
    version = scene_version_of(result)
    return scene_name(result) if version is None else f"version {version}"


def recognizer_identity(result: ScoreRecord) -> str:
    """Name the recognizer so that no other has this name."""
    version = recognizer_version_of(result)
    said = "" if version is None else f" version {version}"
    return f"{result.recognizer.name}{said} {(result.recognizer.digest or '')[:_SHORT]}".strip()


def fidelity_settings(result: ScoreRecord) -> str | None:
    """Name what decides the numbers of image fidelity; None where there are none."""
    if result.fidelity is None:
        return None
    settings = result.fidelity.settings
    digest = (settings.features.digest or "")[:_SHORT]
    features = f"features {settings.features.name} {digest}".strip()
    engine = current_name(settings.engine.name)
    return (
        f"{settings.images:,} images, {features}, rendered by {engine} of scene "
        f"{settings.engine.scene_sha256[:_SHORT]}, version {settings.version}"
    )


def leaderboard_row(result: ScoreRecord) -> Row:
    """Return what a leaderboard says of a result: numbers as measured, not rounded or cut off.

    Unbiased estimates below 0 (D) or 1 (reduced chi-square) stay there. Where samples lie outside
    of the distribution, D is infinite, and so is the reduced chi-square. What is not known is None.
    """
    fit, source = result.fit, result.source
    worst = largest_part(result)
    return {
        "model": model_name(result),
        **_estimate("reduced_chi_square", fit.prediction.reduced_chi_square, result.is_infinite),
        **_estimate("divergence", fit.divergence, result.is_infinite),
        "p_value": fit.p_value,
        "passed": result.verdict.passed,
        "mainly_wrong": worst and worst.name,
        "mainly_wrong_divergence": worst and worst.delta.value,
        "samples": result.samples,
        "protocol": result.protocol,
        "protocol_version": protocol_version_of(result),
        "seed": result.seed,
        "recognizer": PurePath(result.recognizer.name).name,
        "recognizer_version": recognizer_version_of(result),
        "recognizer_sha256": result.recognizer.digest,
        "source": source.name,
        "source_kind": source.kind,
        "source_content": source.content,
        "image_size": result.images.width,
        "distribution": distribution_name(result),
        "scene": scene_name(result),
        "scene_version": scene_version_of(result),
        **fidelity_columns(result),
        "shapeshd": result.versions.get("shapeshd"),
        "created": result.created,
        "command": result.run.command,
    }


def fidelity_columns(result: ScoreRecord) -> Row:
    """Return image fidelity, each number with its 95% interval; None if unknown.

    Returns:
        ``residual_psnr``: mean PSNR of an image and the rendering of its recognised factors, dB,
        and that of real images; ``beyond_real``: share of images farther from it than real ones
        are; ``fid``: on the features named in ``features``, and ``fid_of_real``, what as many
        real images get.
    """
    found = result.fidelity
    if found is None:
        return dict.fromkeys(_FIDELITY)
    psnr = found.residual.psnr
    values = {
        "fidelity_images": found.settings.images,
        **_interval("residual_psnr", psnr.mean),
        "residual_psnr_of_real": psnr.floor.mean.value,
        **_interval("beyond_real", found.residual.beyond),
        **_interval("fid", found.statistics.fid),
        "fid_of_real": found.theoretical.fid.value,
        "features": found.settings.features.name,
        "fidelity_verdict": found.verdict.name,
    }
    return {name: values[name] for name in _FIDELITY}


def fidelity_cells(result: ScoreRecord) -> tuple[str, str, str]:
    """Write image fidelity with intervals; empty texts where it is not known.

    In brackets behind: what as many real images get.
    """
    found = result.fidelity
    if found is None:
        return "", "", ""
    psnr = found.residual.psnr
    return (
        f"{interval(psnr.mean)} ({number(psnr.floor.mean.value)})",
        share_text(found.residual.beyond),
        f"{interval(found.statistics.fid)} ({number(found.theoretical.fid.value)})",
    )


def _interval(name: str, values: Interval) -> Row:
    return {name: values.value, f"{name}_low": values.low, f"{name}_high": values.high}


def _estimate(name: str, values: EstimateRecord, infinite: bool) -> Row:
    if infinite:
        return {name: math.inf, f"{name}_low": None, f"{name}_high": None, f"{name}_error": None}
    return {**_interval(name, values), f"{name}_error": values.standard_error}
