"""Compares a phase's card with the run that begins with its networks, or goes on with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shapeshd.models.config import FACTORS, IMAGES

_OF_NO_NETWORK: Mapping[str, tuple[str, ...]] = {
    "codes": ("width", "layers"),  # of the discriminators of codes
    IMAGES: ("group", "precision", "compile"),
    FACTORS: ("images",),
}
"""By table, what encoder and generator do not depend on."""


def network_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what an encoder's and a generator's weights mean.

    Not all of them are seen from the shapes of tensors: `images.mapping_rate` scales weights.

    Args:
        config: as `RunConfig.to_json` gives it.
    """
    domain = config["domain"]
    tables = {
        table: {
            key: value for key, value in config[table].items() if key not in _OF_NO_NETWORK[table]
        }
        for table in ("codes", domain)
    }
    return {"domain": domain, **tables}


def data_settings(card: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a card says of data and split, but for a name, which may change.

    Args:
        card: with ``data`` (see `Domain.describe`) and ``held_out``.
        now: what the data are called in this version.
    """
    data = renamed(card.get("data", {}), now)
    kept = {key: value for key, value in data.items() if key != "name"}
    return {"data": kept, "held_out": card.get("held_out")}


def renamed(data: Mapping[str, Any], now: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a description of data in the words of this version.

    The ray tracer was once called "twin".
    """
    renderer = now.get("renderer") or ""
    if "twin" in (data.get("renderer") or "") and "ray tracer" in renderer:
        return {**data, "renderer": renderer}
    return data


def first_other(card: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Return the name of the first table, or value, that a card has not as it is wanted.

    Args:
        card: its tables may hold more.
        wanted: values, or tables of them, by name.
    """
    for name, value in wanted.items():
        found = card.get(name)
        if isinstance(value, Mapping) and isinstance(found, Mapping):
            if not value.items() <= found.items():
                return name
        elif found != value:
            return name
    return None
