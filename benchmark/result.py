"""The result of a score: everything that is known of it, as JSON."""

from __future__ import annotations

import hashlib
import itertools
import json
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

import shapeshd
from shapeshd.factors import BIN_SHAPE, NAMES, NUM_BINS, IntArray
from shapeshd.replace_file import replace_file

from .attenuation import attenuation
from .counting import Reader
from .decomposition import Decomposition, decompose
from .occupancy import occupancy
from .reference import TRAINING_SET, detection_limit, ideal_sampler, memorizer
from .result_files import FORMAT, FORMAT_VERSION, HISTOGRAM
from .sources.base import Source
from .statistic import PER_BIN, PROTOCOL, goodness_of_fit
from .verdict import verdict


def build_result(
    counts: IntArray,
    source: Source,
    reader: Reader,
    *,
    seed: int,
    side: int,
    resized: str | None,
    run: Mapping[str, Any],
) -> tuple[dict[str, Any], Decomposition]:
    """Return the result of a histogram, and its decomposition.

    Args:
        counts: samples in each joint bin, int64 (k,).
        source: what was scored.
        reader: what read it.
        seed: of the samples.
        side: width and height of the source's images, pixels.
        resized: how they were brought to the recognizer's size; None if they had it.
        run: how long it took, and where.

    Raises:
        UsageError: if there are too few samples.
    """
    table = counts.reshape(BIN_SHAPE)
    fit, parts = goodness_of_fit(counts), decompose(counts)
    accuracy, floor = reader.card.get("accuracy"), reader.card.get("noise_floor")
    references = [ideal_sampler().to_json(), memorizer(TRAINING_SET).to_json()]
    if floor:
        predicted = floor["reduced_chi_square"]
        row = {
            "name": "real images",
            "divergence": floor["divergence"]["reported"],
            "reduced_chi_square": predicted["reported"],
            "deviation": predicted["standard_error"],
        }
        references.insert(1, row)
    kept = None
    if accuracy:
        confusions = {name: accuracy["factors"][name]["confusion"] for name in NAMES}
        kept = attenuation(confusions, parts)

    def marginal(*axes: int) -> list[Any]:
        rest = tuple(axis for axis in range(len(NAMES)) if axis not in axes)
        values: list[Any] = table.sum(axis=rest).tolist()
        return values

    pairs = itertools.combinations(range(len(NAMES)), 2)
    result = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "shapeshd": shapeshd.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "torch": torch.__version__,
        },
        "source": {
            "name": source.name,
            "kind": source.kind,
            "count": source.count,
            **source.describe(),
        },
        "images": {
            "height": side,
            "width": side,
            "resized_to": reader.size if resized else None,
            "resized_by": resized,
        },
        "recognizer": {
            "name": reader.name,
            "digest": reader.digest,
            "size": reader.size,
            "accuracy": accuracy,
            "noise_floor": floor,
        },
        "protocol": PROTOCOL if fit.samples == PER_BIN * NUM_BINS else None,
        "samples": fit.samples,
        "seed": seed,
        "fit": fit.to_json(),
        "decomposition": parts.to_json(),
        "occupancy": occupancy(counts).to_json(),
        "references": references,
        "detection_limit": detection_limit(fit.samples).to_json(),
        "attenuation": kept,
        "marginals": {name: marginal(axis) for axis, name in enumerate(NAMES)},
        "pairs": [{"factors": [NAMES[a], NAMES[b]], "counts": marginal(a, b)} for a, b in pairs],
        "histogram": {
            "file": HISTOGRAM,
            "sha256": hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest(),
        },
        "examples": {"file": None},
        "verdict": verdict(counts, fit, parts, accuracy),
        "run": dict(run),
    }
    return result, parts


def save_result(result: Mapping[str, Any], path: Path) -> None:
    """Write a result as JSON; a reader finds the old file or the new one."""
    text = json.dumps(result, indent=1) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
