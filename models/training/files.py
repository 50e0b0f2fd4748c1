"""Names of the files in the folder of a run, which has a folder for each phase."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CONFIG = "config.toml"
RESULT = "result.json"
ENCODER = "encoder.safetensors"
ENCODER_KIND = "encoder"
GENERATOR = "generator.safetensors"
SHEETS = "sheets"
FEATURES = "features.npy"
PHASES = ("vae", "aae", "gan")


def write_json(values: Mapping[str, Any]) -> Callable[[Path], Any]:
    """Return what writes `values` into a file, for `replace_file`."""
    text = json.dumps(values, indent=1) + "\n"
    return lambda path: path.write_text(text, encoding="utf-8")
