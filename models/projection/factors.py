"""Reads the factors of images and of their projections, where factors are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.recognizer.find import shipped_for
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.errors import UsageError, one_line
from shapeshd.factors import NAMES, FloatArray
from shapeshd.images.resize import check_image_size, resized
from shapeshd.models.data.images import ImageData

from .evaluate import FactorComparison, compare_factors

AUTO, NONE = "auto", "none"


class FactorReader:
    """Reads the factors of originals and projections, where they are known.

    Args:
        recognizer: what reads them; None where nothing does.
        truth: (n, 6), the true factors.
        why_not: why nothing does, in a line.
        how: how images are brought to the recognizer's size; None if they have it.
    """

    def __init__(
        self,
        recognizer: Recognizer | None,
        truth: FloatArray | None,
        why_not: str | None,
        how: str | None = None,
    ) -> None:
        self._recognizer, self._truth, self.why_not, self._how = recognizer, truth, why_not, how
        self._projected: FloatArray = np.empty((0, len(NAMES)))

    def read(self, original: Tensor, projected: Tensor) -> tuple[FloatArray, FloatArray] | None:
        """Return the factors (n, 6) of images and of their projections, uint8."""
        reader = self._recognizer
        if reader is None:
            return None
        first, second = (reader(resized(x.cpu(), reader.size)) for x in (original, projected))
        return first, second

    def compare(
        self, parts: Sequence[tuple[FloatArray, FloatArray] | None]
    ) -> FactorComparison | None:
        """Compare what was read, part after part, with the truth."""
        if self._recognizer is None or self._truth is None:
            return None
        read = [part for part in parts if part is not None]
        original, self._projected = (
            np.concatenate([part[side] for part in read]) for side in (0, 1)
        )
        accuracy = self._recognizer.card.accuracy
        return compare_factors(self._truth, original, self._projected, accuracy)

    def row(self, row: int, compared: FactorComparison | None) -> dict[str, Any] | None:
        """Return an image's factors, true and of its projection, and which are wrong."""
        if compared is None or self._truth is None:
            return None
        return {
            "true": dict(zip(NAMES, self._truth[row].tolist(), strict=True)),
            "projected": dict(zip(NAMES, self._projected[row].tolist(), strict=True)),
            "wrong": [name for name, bad in zip(NAMES, compared.wrong[row], strict=True) if bad],
            "not_compared": [
                name for name, good in zip(NAMES, compared.compared[row], strict=True) if not good
            ],
        }

    def describe(self, compared: FactorComparison | None) -> dict[str, Any] | None:
        """Return what read the factors, and how far it errs in each."""
        reader = self._recognizer
        if reader is None or compared is None:
            return None
        errors = dict(zip(NAMES, compared.errors.tolist(), strict=True))
        known = {"name": reader.name, "sha256": reader.digest, "resized": self._how}
        return {**known, "errors": errors}


def open_reader(
    data: ImageData, indices: Sequence[int], size: int, name: str, device: torch.device
) -> FactorReader:
    """Return what reads the factors of images, or one that says why nothing does.

    Args:
        data: the images.
        indices: which of them are projected.
        size: of the generator's images, pixels.
        name: `AUTO`, `NONE`, or as `load_recognizer` takes it.
        device: where the recognizer computes.

    Raises:
        UsageError: if a recognizer is named and cannot read the images.
        ShapesHDError: if its files are damaged.
    """
    if name == NONE:
        return FactorReader(None, None, "not asked for (--recognizer none)")
    truth = data.factors(indices)
    if truth is None:
        if name != AUTO:
            raise UsageError(f"{data.name}: has no known factors: leave out --recognizer")
        return FactorReader(None, None, f"{data.name} has no known factors: residuals alone count")
    try:
        recognizer = load_recognizer(shipped_for(size) if name == AUTO else name, device)
        how = check_image_size(size, size, recognizer.size, "the generator")
    except UsageError as error:
        if name != AUTO:
            raise
        return FactorReader(None, None, f"no recognizer reads them ({one_line(error)})")
    return FactorReader(recognizer, truth, None, how)
