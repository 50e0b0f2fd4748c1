"""Builds the result of a score from its histogram."""

from __future__ import annotations

import hashlib
import itertools
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import numpy as np
import scipy
import torch
from pydantic import ValidationError

import shapeshd
from shapeshd.benchmark.recognizer.card import RecognizerCard
from shapeshd.benchmark.recognizer.reader import Reader, card_of, precision_in_use
from shapeshd.benchmark.recognizer.version import recognizer_version
from shapeshd.benchmark.sources.base import Source
from shapeshd.benchmark.statistics.attenuation import attenuation
from shapeshd.benchmark.statistics.bin_counts import bin_counts
from shapeshd.benchmark.statistics.chi_square import (
    PER_BIN,
    PROTOCOL,
    PROTOCOL_VERSION,
    GoodnessOfFit,
    goodness_of_fit,
    rarity,
)
from shapeshd.benchmark.statistics.coupled import decompose_under
from shapeshd.benchmark.statistics.decomposition import Decomposition
from shapeshd.benchmark.statistics.histogram import read_histogram
from shapeshd.benchmark.statistics.measurement_error import (
    MeasurementError,
    require_inside,
    split_outside,
)
from shapeshd.benchmark.statistics.references import TRAINING_SET, ideal_sampler, memorizer
from shapeshd.benchmark.statistics.source_attenuation import Share, corrected_divergence
from shapeshd.distribution import Distribution
from shapeshd.errors import ShapesHDError
from shapeshd.factors import BIN_SHAPE, NAMES, IntArray
from shapeshd.support.schema import first_problem

from .content import content_digest
from .fidelity import FidelityRecord, JointVerdictRecord, ResidualRecord
from .files import FORMAT, FORMAT_VERSION, HISTOGRAM
from .fit import AttenuationRecord, ReferenceRecord
from .image_check import CorrectedRecord, ImageCheckRecord
from .provenance import other_scene, scene_of
from .schema import DistributionRecord, RecognizerRecord, Result
from .source_checks import NearCopiesRecord, RepeatsRecord, ReproducibilityRecord
from .verdict import find, joint_verdict, verdict, with_repeats


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
    converted: Mapping[str, int] | None = None,
    drawn_from: int | None = None,
    repeats: RepeatsRecord | None = None,
    near_copies: NearCopiesRecord | None = None,
    reproducibility: ReproducibilityRecord | None = None,
    image_check: ImageCheckRecord | None = None,
) -> tuple[Result, Decomposition]:
    """Return the result of a histogram, and its decomposition.

    Args:
        counts: samples in each joint bin, int64 (k,).
        source: what was scored.
        reader: what read it.
        seed: of the samples.
        side: width and height of the source's images, pixels.
        resized: how they were brought to the recognizer's size; None if they had it.
        run: how long it took, and where: the fields of a `RunRecord`.
        distribution: that the samples should follow; None for the uniform one.
        converted: how many of their images were made 8-bit sRGB, by what was done to them.
        drawn_from: how many images there are, if the samples were drawn from them.
        repeats: equal images among the samples, which the verdict names first.
        near_copies: nearly equal ones, which it names next.
        reproducibility: whether the source makes the same images again.
        image_check: what a look at the images found; None if there was none.

    Raises:
        UsageError: if there are too few samples.
        ShapesHDError: if the recognizer's card or the source says what no result can hold.
    """
    card = card_of(reader)
    recognizer = _recognizer(reader, card)
    inside, confusions = counts, _confusions(recognizer)
    measurement_error = outside = probabilities = None
    if distribution is not None:
        measurement_error = MeasurementError.of(distribution, confusions) if confusions else None
        probabilities = distribution.expected()
        inside, outside = split_outside(counts, distribution, measurement_error)
        require_inside(inside, outside, distribution)
    fit, parts = goodness_of_fit(inside, probabilities), decompose_under(inside, distribution)
    samples = int(counts.sum())
    findings = find(
        counts, fit, parts, recognizer.accuracy,
        measurement_error=measurement_error, outside=outside, image_check=image_check,
    )  # fmt: skip
    corrected = _corrected(parts, fit, image_check)
    values = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "shapeshd": shapeshd.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "torch": str(torch.__version__),
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
            "drawn_from": drawn_from,
            "converted": dict(sorted((converted or {}).items())),
        },
        "recognizer": recognizer,
        "scene": scene_of(card),
        "protocol_version": PROTOCOL_VERSION,
        "protocol": PROTOCOL if samples == PER_BIN * fit.bins else None,
        "samples": samples,
        "seed": seed,
        "distribution": _distribution(distribution, measurement_error),
        "outside": outside,
        "fit": fit,
        "collapse": findings.collapse,
        "decomposition": {
            "total": parts.total,
            "parts": parts.parts,
            "summary": parts.summary(),
        },
        "bin_counts": bin_counts(inside, probabilities),
        "references": _references(
            fit,
            recognizer,
            distribution,
            measurement_error,
            rarity(read_histogram(inside, probabilities).weights),
        ),
        "detection_limit": findings.limit,
        "attenuation": AttenuationRecord.model_validate(attenuation(confusions, parts))
        if confusions and distribution is None
        else None,
        **_marginals(counts.reshape(BIN_SHAPE)),
        "histogram": {
            "file": HISTOGRAM,
            "sha256": hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest(),
        },
        "examples": {"file": None},
        "repeats": repeats,
        "near_copies": near_copies,
        "reproducibility": reproducibility,
        "verdict": with_repeats(
            verdict(findings, fit, image_check, corrected, other_scene(source)),
            repeats,
            near_copies,
        ),
        "image_check": image_check,
        "corrected": corrected,
        "run": dict(run),
    }
    try:
        return Result.model_validate(values), parts
    except ValidationError as error:
        raise ShapesHDError(f"{source.name}: gives no result: {first_problem(error)}") from None


def with_fidelity(
    result: Result, measured: Mapping[str, Any], *, command: str | None, pictures: str | None
) -> Result:
    """Return a result with its image fidelity and the verdict on both.

    Args:
        result: of the score.
        measured: settings, residual, statistics and theoretical, as `Fidelity.finish` gives.
        command: by which it was measured.
        pictures: the file of images beside their re-renders; None if there is none.
    """
    try:
        residual = ResidualRecord.model_validate(measured["residual"])
        fidelity = FidelityRecord.model_validate(
            {
                **measured,
                "residual": residual,
                "verdict": _joint(result, residual),
                "command": command,
                "examples": {"file": pictures},
            }
        )
    except ValidationError as error:
        raise ShapesHDError(f"image fidelity gives no result: {first_problem(error)}") from None
    return result.model_copy(update={"fidelity": fidelity})


def with_joint_verdict(result: Result) -> Result:
    """Return a result whose verdict on distribution and image fidelity is that of its numbers."""
    if result.fidelity is None:
        return result
    found = _joint(result, result.fidelity.residual)
    fidelity = result.fidelity.model_copy(update={"verdict": found})
    return result.model_copy(update={"fidelity": fidelity})


def _joint(result: Result, residual: ResidualRecord) -> JointVerdictRecord:
    return joint_verdict(result.verdict.passed, residual, result.collapse)


def _recognizer(reader: Reader, card: RecognizerCard) -> RecognizerRecord:
    precision = precision_in_use(reader)
    measured = card.measured(precision)
    try:
        return RecognizerRecord(
            name=reader.name,
            digest=reader.digest,
            size=reader.size,
            accuracy=measured.accuracy,
            noise_floor=measured.noise_floor,
            version=recognizer_version(reader.digest),
            precision=precision,
        )
    except ValidationError as error:
        raise ShapesHDError(f"{reader.name}: the recognizer's {first_problem(error)}") from None


def _confusions(recognizer: RecognizerRecord) -> dict[str, Any] | None:
    """Return each factor's confusion; None where the recognizer's errors are not known."""
    factors = recognizer.accuracy.factors if recognizer.accuracy else None
    return {name: factors[name].confusion for name in NAMES} if factors else None


def _corrected(
    parts: Decomposition, fit: GoodnessOfFit, image_check: ImageCheckRecord | None
) -> CorrectedRecord | None:
    """Return D corrected for the attenuation of the source, where that was measured."""
    if image_check is None or image_check.attenuation is None:
        return None
    left = image_check.attenuation.higher_order
    found = corrected_divergence(parts, Share(left.value, left.standard_error, left.low, left.high))
    per_divergence = (fit.prediction.samples - 1) / fit.degrees_of_freedom
    divergence = asdict(found)
    return CorrectedRecord.model_validate(
        {
            "divergence": divergence,
            "reduced_chi_square": {
                name: 1 + per_divergence * value for name, value in divergence.items()
            },
        }
    )


def _distribution(
    distribution: Distribution | None, measurement_error: MeasurementError | None
) -> DistributionRecord | None:
    if distribution is None:
        return None
    read = measurement_error and {
        "divergence": measurement_error.divergence(),
        "outside": measurement_error.outside,
    }
    return DistributionRecord.model_validate(
        {
            "text": str(distribution),
            "digest": distribution.digest,
            "bins": distribution.bins,
            "probabilities": distribution.to_json(),
            "measurement_error": read,
        }
    )


def _references(
    fit: GoodnessOfFit,
    recognizer: RecognizerRecord,
    distribution: Distribution | None,
    measurement_error: MeasurementError | None,
    rare: float,
) -> tuple[ReferenceRecord, ...]:
    """Return the ideal sampler, what real images would get where that is known, the memorizer."""
    ideal = ReferenceRecord.model_validate(ideal_sampler(fit.bins, rare))
    memory = ReferenceRecord.model_validate(memorizer(TRAINING_SET, fit.bins, rare))
    known = []
    floor = recognizer.noise_floor
    if distribution is None and floor:  # it was measured under the uniform distribution
        predicted = floor.reduced_chi_square
        known.append(
            ReferenceRecord(
                name="real images",
                divergence=floor.divergence.reported,
                reduced_chi_square=predicted.reported,
                deviation=predicted.standard_error,
            )
        )
    if measurement_error is not None:
        divergence, samples = measurement_error.divergence(), fit.prediction.samples
        known.append(
            ReferenceRecord(
                name="the distribution as it is read",
                divergence=divergence,
                reduced_chi_square=1 + (samples - 1) * divergence / fit.degrees_of_freedom,
                deviation=fit.prediction.run_deviation,
            )
        )
    return (ideal, *known, memory)


def _marginals(table: IntArray) -> dict[str, Any]:
    """Return the histograms of one factor and of two, of counts of shape `BIN_SHAPE`."""
    axes = range(len(NAMES))

    def marginal(*kept: int) -> Any:
        return table.sum(axis=tuple(axis for axis in axes if axis not in kept)).tolist()

    return {
        "marginals": {name: marginal(axis) for axis, name in enumerate(NAMES)},
        "pairs": [
            {"factors": (NAMES[a], NAMES[b]), "counts": marginal(a, b)}
            for a, b in itertools.combinations(axes, 2)
        ],
    }
