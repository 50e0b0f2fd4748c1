"""The files in the folder of a run, which has a folder for each phase, and what their cards say.

A phase begins only with the networks of earlier ones whose cards fit its own configuration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shapeshd.engines.engine import current_name
from shapeshd.models.config import FACTORS, IMAGES
from shapeshd.models.networks.run_folder import CONFIG as CONFIG
from shapeshd.models.networks.run_folder import GENERATOR as GENERATOR
from shapeshd.models.networks.run_folder import PHASES as PHASES

RESULT = "result.json"
ENCODER = "encoder.safetensors"
ENCODER_KIND = "encoder"
SHEETS = "sheets"
FEATURES = "features.npy"

_OF_NO_NETWORK: Mapping[str, tuple[str, ...]] = {
    "codes": ("width", "layers"),  # of the discriminators of codes
    IMAGES: ("group", "precision", "compile"),
    FACTORS: ("images",),
}
"""By table, what encoder and generator do not depend on."""


def write_json(values: Mapping[str, Any]) -> Callable[[Path], Any]:
    """Return what writes `values` into a file, for `replace_file`."""
    text = json.dumps(values, indent=1) + "\n"
    return lambda path: path.write_text(text, encoding="utf-8")


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


def data_settings(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a card says of data and split, but for a name, which may change.

    Args:
        card: with ``data`` (see `Domain.describe`) and ``held_out``.
    """
    data = renamed(card.get("data", {}))
    kept = {key: value for key, value in data.items() if key != "name"}
    return {"data": kept, "held_out": card.get("held_out")}


def renamed(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a description of data in the words of this version."""
    renderer = data.get("renderer")
    return {**data, "renderer": current_name(renderer)} if renderer else data
