"""Whether results compare: what must be equal for two numbers to mean the same, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shapeshd.benchmark.report.formatting import percent, source_name
from shapeshd.benchmark.statistics.measurement_error import distribution_words, outside_words

_SHORT = 8  # digits of a digest
_UNKNOWN = "not recorded"

Result = Mapping[str, Any]


def comparison_warnings(results: Sequence[Result]) -> list[str]:
    """Say why some results do not compare, one line each; nothing where all do."""
    checks: list[tuple[str, Callable[[Result], str | None]]] = [
        ("they were read by different recognizers", recognizer_identity),
        ("they were tested against different distributions", distribution_words),
        ("they are of different scenes", scene_words),
        ("they follow different protocols", lambda r: str(r.get("protocol") or "none")),
        ("they have different numbers of samples", lambda r: f"{r['samples']:,}"),
        ("their images differ in size", lambda r: "{width} x {height}".format(**r["images"])),
        ("the quality of their images was measured differently", _fidelity_words),
    ]
    found = []
    for what, words in checks:
        said = [text for text in map(words, results) if text is not None]
        values = list(dict.fromkeys(said))
        if len(values) > 1:
            found.append(f"{what}: {', '.join(values)}")
    for result in results:
        if (result.get("outside") or {}).get("wrong"):
            found.append(f"{model_name(result)}: {outside_words(result)}")
    return found


def model_name(result: Result) -> str:
    """Return what an entry calls its model, else what the user called the source, on one line."""
    name = " ".join(str(result.get("model") or source_name(result)).split())
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def recognizer_words(result: Result) -> str:
    """Name the recognizer, and how often it is right."""
    recognizer = result["recognizer"]
    accuracy = recognizer.get("accuracy")
    right = f" ({percent(accuracy['joint_accuracy'])} right)" if accuracy else ""
    return f"{recognizer['name']}{right}"


def recognizer_identity(result: Result) -> str:
    """Name the recognizer so that no other has this name."""
    recognizer = result["recognizer"]
    return f"{recognizer['name']} {str(recognizer.get('digest') or '')[:_SHORT]}".strip()


def scene_words(result: Result) -> str:
    """Name the scene: the recognizer's own where it is known to be another than the installed."""
    scene = result.get("scene") or {}
    digest = scene.get("trained_on" if scene.get("installed") is False else "sha256")
    return str(digest)[:_SHORT] if digest else _UNKNOWN


def fidelity_of(result: Result) -> Mapping[str, Any] | None:
    """Return what was measured of the quality of single images; None if nothing was."""
    found: Mapping[str, Any] | None = result.get("fidelity")
    return found or None


def _fidelity_words(result: Result) -> str | None:
    """Name what decides those numbers; None where there are none."""
    found = fidelity_of(result)
    if found is None:
        return None
    settings = found["settings"]
    features = settings["features"]
    digest = str(features.get("digest") or "")[:_SHORT]
    return f"{settings['images']:,} images, features {features['name']} {digest}".strip()
