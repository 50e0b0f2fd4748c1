"""Names of the files in the folder of a run, which has a folder for each phase."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shapeshd.models.networks.run_folder import CONFIG as CONFIG
from shapeshd.models.networks.run_folder import GENERATOR as GENERATOR
from shapeshd.models.networks.run_folder import PHASES as PHASES

RESULT = "result.json"
ENCODER = "encoder.safetensors"
ENCODER_KIND = "encoder"
SHEETS = "sheets"
FEATURES = "features.npy"


def write_json(values: Mapping[str, Any]) -> Callable[[Path], Any]:
    """Return what writes `values` into a file, for `replace_file`."""
    text = json.dumps(values, indent=1) + "\n"
    return lambda path: path.write_text(text, encoding="utf-8")
