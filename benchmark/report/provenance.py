"""How a result was made, as names and texts for a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shapeshd.benchmark.statistics.measurement_error import outside_words
from shapeshd.support.progress import human_time

from .fidelity_table import basis
from .formatting import number

Fact = tuple[str, str, bool]
"""Name, text, and whether the text is code."""


def facts(result: Mapping[str, Any]) -> list[Fact]:
    """Return what one needs to repeat a result: source, recognizer, run, versions, digests."""
    source, images, recognizer, run = (
        result[key] for key in ("source", "images", "recognizer", "run")
    )
    size = f"{images['width']} x {images['height']} pixels"
    if images["resized_to"]:
        size += f", resized to {images['resized_to']} x {images['resized_to']} with antialiasing"
    found: list[Fact] = [
        ("Source", str(source["name"]), True),
        ("Kind of source", str(source["kind"]), False),
        ("Images", size, False),
        *_details(source),
        ("Samples", _samples(result), False),
        *_distribution(result),
        ("Recognizer", f"{recognizer['name']}, {recognizer['size']} pixels", False),
    ]
    if recognizer.get("digest"):
        found.append(("Recognizer, SHA-256", str(recognizer["digest"]), True))
    histogram = result.get("histogram") or {}
    if histogram.get("sha256"):
        found.append(("Histogram, SHA-256", str(histogram["sha256"]), True))
    if entry := result.get("fidelity"):
        found += _fidelity(entry)
    if run.get("command"):
        found.append(("Command", str(run["command"]), True))
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return [
        *found,
        ("Time", _time(run), False),
        ("Made", str(result["created"]), False),
        ("Versions", versions, False),
    ]


def _fidelity(entry: Mapping[str, Any]) -> Iterator[Fact]:
    """Yield how the quality of images was measured."""
    settings = entry["settings"]
    yield "Quality", basis(entry), False
    if digest := settings["features"]["digest"]:
        yield "Features, SHA-256", str(digest), True
    yield "Scene of the re-renders, SHA-256", str(settings["engine"]["scene_sha256"]), True
    if entry.get("command"):
        yield "Command of the quality", str(entry["command"]), True


def _distribution(result: Mapping[str, Any]) -> Iterator[Fact]:
    """Yield what is known of a distribution that is not the uniform one."""
    if distribution := result.get("distribution"):
        yield "Law", str(distribution["text"]), False
        yield "Law, SHA-256", str(distribution["digest"]), True
        if distribution["measurement_error"]:
            error = number(distribution["measurement_error"]["divergence"], 2)
            text = f"{error} for images of the distribution itself"
            yield "D that the recognizer's errors alone would give", text, False
    if outside := outside_words(result):
        yield "Outside of the distribution", outside, False


def _samples(result: Mapping[str, Any]) -> str:
    protocol = f", protocol {result['protocol']}" if result.get("protocol") else ""
    return f"{result['samples']:,}, seed {result['seed']}{protocol}"


def _time(run: Mapping[str, Any]) -> str:
    devices = run["device"] + (f" x {run['world_size']}" if run["world_size"] > 1 else "")
    resumed = "; stopped and resumed" if run["resumed"] else ""
    rate = number(run["images_per_second"])
    return f"{human_time(run['seconds'])}, {rate} images/s on {devices}{resumed}"


def _details(source: Mapping[str, Any], prefix: str = "Source") -> Iterator[Fact]:
    """Yield how the source was read: all else that it says of itself."""
    for name, value in source.items():
        if (prefix == "Source" and name in ("name", "kind")) or value is None:
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
    return str(value)
