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
from shapeshd.benchmark.recognizer.reader import Reader
from shapeshd.benchmark.scoring.provenance import content_digest, scene_of
from shapeshd.benchmark.sources.base import Source
from shapeshd.benchmark.statistics.attenuation import attenuation
from shapeshd.benchmark.statistics.bin_counts import bin_counts
from shapeshd.benchmark.statistics.chi_square import (
    PER_BIN,
    PROTOCOL,
    GoodnessOfFit,
    goodness_of_fit,
)
from shapeshd.benchmark.statistics.coupled import decompose_under
from shapeshd.benchmark.statistics.decomposition import Decomposition
from shapeshd.benchmark.statistics.measurement_error import (
    MeasurementError,
    distribution_to_json,
    require_inside,
    split_outside,
)
from shapeshd.benchmark.statistics.references import (
    TRAINING_SET,
    Reference,
    detection_limit,
    ideal_sampler,
    memorizer,
)
from shapeshd.distribution import Distribution
from shapeshd.factors import BIN_SHAPE, NAMES, IntArray
from shapeshd.support.atomic_files import replace_file

from .files import FORMAT, FORMAT_VERSION, HISTOGRAM
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
    distribution: Distribution | None = None,
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
        distribution: that the samples should follow; None for the uniform one.

    Raises:
        UsageError: if there are too few samples.
    """
    table, inside = counts.reshape(BIN_SHAPE), counts
    accuracy, floor = reader.card.get("accuracy"), reader.card.get("noise_floor")
    measurement_error = outside = probabilities = None
    if distribution is not None:
        measurement_error, probabilities = (
            MeasurementError.of(distribution, accuracy),
            distribution.expected(),
        )
        inside, outside = split_outside(counts, distribution, measurement_error)
        require_inside(inside, outside, distribution)
    fit, parts = goodness_of_fit(inside, probabilities), decompose_under(inside, distribution)
    samples = int(counts.sum())
    references = [ideal_sampler(fit.bins).to_json(), memorizer(TRAINING_SET, fit.bins).to_json()]
    if distribution is not None:
        references[0]["deviation"] = fit.prediction.run_deviation
    if measurement_error:
        references.insert(1, _as_read(measurement_error, fit).to_json())
    if floor and distribution is None:  # it was measured under the uniform distribution
        predicted = floor["reduced_chi_square"]
        row = {
            "name": "real images",
            "divergence": floor["divergence"]["reported"],
            "reduced_chi_square": predicted["reported"],
            "deviation": predicted["standard_error"],
        }
        references.insert(1, row)
    kept = None
    if accuracy and distribution is None:
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
            "content": content_digest(source),
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
        "scene": scene_of(reader.card),
        "protocol": PROTOCOL if samples == PER_BIN * fit.bins else None,
        "samples": samples,
        "seed": seed,
        "distribution": distribution_to_json(distribution, measurement_error),
        "outside": outside.to_json() if outside else None,
        "fit": fit.to_json(),
        "decomposition": parts.to_json(),
        "bin_counts": bin_counts(inside, probabilities).to_json(),
        "references": references,
        "detection_limit": detection_limit(fit.samples, fit.bins).to_json(),
        "attenuation": kept,
        "marginals": {name: marginal(axis) for axis, name in enumerate(NAMES)},
        "pairs": [{"factors": [NAMES[a], NAMES[b]], "counts": marginal(a, b)} for a, b in pairs],
        "histogram": {
            "file": HISTOGRAM,
            "sha256": hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest(),
        },
        "examples": {"file": None},
        "verdict": verdict(
            counts, fit, parts, accuracy, measurement_error=measurement_error, outside=outside
        ),
        "run": dict(run),
    }
    return result, parts


def _as_read(measurement_error: MeasurementError, fit: GoodnessOfFit) -> Reference:
    """Return the row of a perfect source of the distribution, read by this recognizer."""
    divergence, samples = measurement_error.divergence(), fit.prediction.samples
    reduced = 1 + (samples - 1) * divergence / fit.degrees_of_freedom
    return Reference(
        "the distribution as it is read", divergence, reduced, fit.prediction.run_deviation
    )


def save_result(result: Mapping[str, Any], path: Path) -> None:
    """Write a result as JSON; a reader finds the old file or the new one."""
    text = json.dumps(result, indent=1) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
