"""Brings results of format version 1 to version 2, which has other names for the same things."""

from __future__ import annotations

from typing import Any

from shapeshd.benchmark.statistics.decomposition import HIGHER_ORDER

_NAMES = {
    "law": "distribution",
    "misread": "measurement_error",
    "guilty": "significant",
    "occupancy": "bin_counts",
    "blunders": "gross_errors",
}
_FREE = ("source", "versions")  # whose keys are not ours


def migrated(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a file of version 1 holds as version 2 would have written it.

    Numbers and sentences stay as they are. What is damaged stays damaged: the schema refuses it.
    """
    new = {
        key: value if key in _FREE else _renamed(value)
        for key, value in ((_NAMES.get(key, key), value) for key, value in content.items())
    }
    new["format_version"] = 2
    parts = _inside(new, "decomposition").get("parts")
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict) and part.get("name") == "rest":
            part["name"] = HIGHER_ORDER
    verdict = _inside(_inside(new, "fidelity"), "verdict")
    if "quality" in verdict:
        verdict["fidelity"] = verdict.pop("quality")
    return new


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {_NAMES.get(key, key): _renamed(item) for key, item in value.items()}
    return [_renamed(item) for item in value] if isinstance(value, list) else value


def _inside(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}
