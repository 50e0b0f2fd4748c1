"""How a result was made, as names and texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shapeshd.benchmark.result.fidelity import FidelityRecord
from shapeshd.benchmark.result.formatting import number, printable
from shapeshd.benchmark.result.schema import Result, RunRecord
from shapeshd.support.progress import human_time

from .tables import converted_text, fidelity_basis, outside_text

Fact = tuple[str, str, bool]
"""Name, text, and whether the text is code."""


def facts(result: Result) -> list[Fact]:
    """Return what one needs to repeat a result: source, recognizer, run, versions, digests."""
    images, recognizer = result.images, result.recognizer
    size = f"{images.width} x {images.height} pixels"
    if images.resized_to:
        size += f", resized to {images.resized_to} x {images.resized_to} with antialiasing"
    found: list[Fact] = [
        ("Source", result.source.title, True),
        ("Kind of source", result.source.kind, False),
        ("Images", size, False),
        *_converted(result),
        *_details(result.source.details),
        ("Samples", _samples(result), False),
        *_source_checks(result),
        *_distribution(result),
        (
            "Recognizer",
            f"{recognizer.name}, {recognizer.size} pixels, in {recognizer.precision or 'fp32'}",
            False,
        ),
    ]
    if recognizer.digest:
        found.append(("Recognizer, SHA-256", recognizer.digest, True))
    found.append(("Histogram, SHA-256", result.histogram.sha256, True))
    if result.fidelity:
        found += _fidelity(result.fidelity)
    if result.run.command:
        found.append(("Command", result.run.command, True))
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return [
        *found,
        ("Time", run_time(result.run, "images/s", "; stopped and resumed"), False),
        ("Made", result.created, False),
        ("Versions", versions, False),
        *_versions(result),
    ]


def _versions(result: Result) -> Iterator[Fact]:
    """Yield the versions that decide with which results this one compares, where known."""
    found = {
        "scene": result.scene and result.scene.version,
        "recognizer": result.recognizer.version,
        "protocol": result.protocol_version,
    }
    known = [f"{name} {version}" for name, version in found.items() if version is not None]
    if known:
        yield "Compares with results of", ", ".join(known), False


def _converted(result: Result) -> Iterator[Fact]:
    """Yield what was done to images to make 8-bit sRGB of them, if anything."""
    if text := converted_text(result.images):
        yield "Images, converted to 8-bit sRGB", text, False


def _fidelity(entry: FidelityRecord) -> Iterator[Fact]:
    """Yield how image fidelity was measured."""
    settings = entry.settings
    yield "Image fidelity", fidelity_basis(entry), False
    if digest := settings.features.digest:
        yield "Features, SHA-256", digest, True
    yield "Scene of the re-renders, SHA-256", settings.engine.scene_sha256, True
    if entry.command:
        yield "Command of the image fidelity", entry.command, True


def _source_checks(result: Result) -> Iterator[Fact]:
    """Yield which images are equal or nearly so, and whether the source makes them again."""
    if result.repeats:
        yield "Equal images", result.repeats.text, False
    if result.near_copies:
        yield "Nearly equal images", result.near_copies.text, False
    if result.reproducibility:
        yield "Reproducible", result.reproducibility.text, False


def _distribution(result: Result) -> Iterator[Fact]:
    """Yield what is known of a distribution that is not the uniform one."""
    if distribution := result.distribution:
        yield "Distribution", distribution.text, False
        yield "Distribution, SHA-256", distribution.digest, True
        if distribution.measurement_error:
            error = number(distribution.measurement_error.divergence, 2)
            text = f"{error} for images of the distribution itself"
            yield "D that the recognizer's errors alone would give", text, False
    if outside := outside_text(result):
        yield "Outside of the distribution", outside, False


def _samples(result: Result) -> str:
    protocol = f", protocol {result.protocol}" if result.protocol else ""
    if count := result.images.drawn_from:
        return f"{result.samples:,} of {count:,}, drawn by seed {result.seed}{protocol}"
    return f"{result.samples:,}, seed {result.seed}{protocol}"


def run_time(run: RunRecord, unit: str, resumed: str) -> str:
    """Write how long a run took, how fast and where; `resumed` ends it if it was resumed."""
    rate = f"{number(run.images_per_second)} {unit} on {run.device}"
    ranks = f" x {run.world_size}" if run.world_size > 1 else ""
    return f"{human_time(run.seconds)}, {rate}{ranks}" + (resumed if run.resumed else "")


def _details(source: Mapping[str, Any], prefix: str = "Source") -> Iterator[Fact]:
    """Yield how the source was read: all else that it says of itself."""
    for name, value in source.items():
        if value is None:
            continue
        title = f"{prefix}, {str(name).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _details(value, title)
        else:
            yield title, _value(value), False


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 4)
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return printable(str(value))
