"""How well a recognizer reads: its accuracy on images whose factors are known.

A wrong bin is one of two kinds. The true value can lie so close to the border of its bin that
a tiny error carries it over: such errors are as many as the mean error is large, and hardly
change a histogram, because as many go the other way. Or the image was misread: the error is
more than half a bin, or the shape is wrong. That is a *gross error*, and there should be none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from shapeshd.errors import UsageError
from shapeshd.factors import FACTORS, FloatArray, IntArray, bin_indices

_DEGREES = 360.0
SHOWN_GROSS_ERRORS = 20


@dataclass(frozen=True)
class FactorAccuracy:
    """How well one factor is read.

    Attributes:
        name: of the factor.
        unit: of the errors: degrees for hues and orientation, the scale's own; none for shape.
        accuracy: share of images in the right bin.
        mean_absolute_error: in `unit`; None for the shape.
        median_absolute_error: the same.
        p99_absolute_error: 99% of errors are smaller.
        largest_error: the same unit.
        bias: mean signed error, recognised less true.
        confusion: int64 (bins, bins): images of the true bin (row) read as another (column).
        border_errors: wrong bins with an error of half a bin or less.
        gross errors: images with an error of more than half a bin, or a wrong shape.
    """

    name: str
    unit: str | None
    accuracy: float
    mean_absolute_error: float | None
    median_absolute_error: float | None
    p99_absolute_error: float | None
    largest_error: float | None
    bias: float | None
    confusion: IntArray
    border_errors: int
    gross_errors: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "name"}
        return {**values, "confusion": self.confusion.tolist()}


@dataclass(frozen=True)
class Accuracy:
    """How well a recognizer reads.

    Attributes:
        images: how many were read.
        joint_accuracy: share of images with all six bins right.
        factors: one entry per factor.
        gross errors: images with a gross error in any factor.
        worst: some of these gross errors, worst first (wrong shapes, then by the error in bins):
            number of the image, factor, true and recognised value.
    """

    images: int
    joint_accuracy: float
    factors: tuple[FactorAccuracy, ...]
    gross_errors: int
    worst: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON; `factors` becomes a table by name."""
        return {
            "images": self.images,
            "joint_accuracy": self.joint_accuracy,
            "factors": {factor.name: factor.to_json() for factor in self.factors},
            "gross_errors": {"count": self.gross_errors, "worst": list(self.worst)},
            "border_errors": sum(factor.border_errors for factor in self.factors),
        }


def accuracy(truth: FloatArray, found: FloatArray) -> Accuracy:
    """Compare recognised factors with the true ones.

    Args:
        truth: (n, 6), n >= 1.
        found: (n, 6), what the recognizer says.

    Raises:
        UsageError: if there is nothing to compare, or the shapes differ.
    """
    if not len(truth) or truth.shape != found.shape:
        raise UsageError(f"factors of shape {found.shape} cannot be compared with {truth.shape}")
    true_bins, found_bins = bin_indices(truth), bin_indices(found)
    error = found - truth
    factors, gross = [], np.zeros(truth.shape, dtype=bool)
    in_bins = np.full(truth.shape, np.inf)
    for column, factor in enumerate(FACTORS):
        confusion = np.zeros((factor.bins, factor.bins), dtype=np.int64)
        np.add.at(confusion, (true_bins[:, column], found_bins[:, column]), 1)
        wrong = true_bins[:, column] != found_bins[:, column]
        share = 1 - wrong.mean()
        if factor.topology == "discrete":
            gross[:, column] = wrong
            counts = (0, int(wrong.sum()))
            row = FactorAccuracy(
                factor.name, None, share, None, None, None, None, None, confusion, *counts
            )
            factors.append(row)
            continue
        signed = error[:, column]
        if factor.topology == "circle":
            signed = (signed + factor.period / 2) % factor.period - factor.period / 2
        size = np.abs(signed)
        in_bins[:, column] = size / (factor.period / factor.bins)
        gross[:, column] = in_bins[:, column] > 0.5
        unit, by = ("degree", _DEGREES) if factor.unit == "turn" else (factor.unit, 1.0)
        row = FactorAccuracy(
            name=factor.name,
            unit=unit,
            accuracy=share,
            mean_absolute_error=float(size.mean() * by),
            median_absolute_error=float(np.median(size) * by),
            p99_absolute_error=float(np.quantile(size, 0.99) * by),
            largest_error=float(size.max() * by),
            bias=float(signed.mean() * by),
            confusion=confusion,
            border_errors=int((wrong & ~gross[:, column]).sum()),
            gross_errors=int(gross[:, column].sum()),
        )
        factors.append(row)
    right = (true_bins == found_bins).all(1)
    return Accuracy(
        images=len(truth),
        joint_accuracy=float(right.mean()),
        factors=tuple(factors),
        gross_errors=int(gross.any(1).sum()),
        worst=tuple(_worst(truth, found, gross, in_bins)),
    )


def evaluate(
    recognizer: Callable[[Tensor], FloatArray], batches: Iterable[tuple[Tensor, FloatArray]]
) -> Accuracy:
    """Read batches of images and compare with their factors.

    Args:
        recognizer: gives factors (n, 6) for images uint8 (n, 3, size, size).
        batches: images and their true factors.
    """
    truth, found = [], []
    for images, factors in batches:
        found.append(recognizer(images))
        truth.append(factors)
    if not truth:
        raise UsageError("there are no images to read")
    return accuracy(np.concatenate(truth), np.concatenate(found))


def _worst(
    truth: FloatArray, found: FloatArray, gross: np.ndarray[Any, Any], in_bins: FloatArray
) -> list[dict[str, Any]]:
    rows, columns = np.nonzero(gross)
    order = np.argsort(-in_bins[rows, columns], kind="stable")[:SHOWN_GROSS_ERRORS]
    return [
        {
            "image": int(row),
            "factor": FACTORS[column].name,
            "true": float(truth[row, column]),
            "recognised": float(found[row, column]),
        }
        for row, column in zip(rows[order], columns[order], strict=True)
    ]
