"""Images of 3DShapesHD, and of files like 3dshapes.h5, to train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shapeshd.benchmark.recognizer.data import Origin
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.factors import FloatArray
from shapeshd.images.resize import resized

from .square import CROPPED, ImageData, how_resized, middle, not_square


class ShapesData(ImageData):
    """The images of a dataset of shapeshd, or of a file like 3dshapes.h5.

    Args:
        dataset: without a transform.
        origin: where its images come from.
        name: as of `ImageData`.
        size: to which they are resized; None leaves them as they are.
        crop: whether images that are not square may be cut.

    Raises:
        UsageError: if they are not square and may not be cut.
    """

    def __init__(
        self, dataset: ShapesHD, origin: Origin, name: str, size: int | None, *, crop: bool
    ) -> None:
        _, height, width = dataset.image_shape
        if height != width and not crop:
            raise not_square(name, height, width)
        self._side = min(height, width)
        self._square = height == width
        super().__init__(name, "dataset", len(dataset), size or self._side, _why(origin, name))
        self._dataset = dataset
        self._origin = origin

    def factors(self, indices: Sequence[int]) -> FloatArray | None:
        """Return the factors of some images: float64 (n, 6)."""
        return self._dataset.labels_of(self._checked(indices))

    def describe(self) -> dict[str, Any]:
        """Return what they are and what is done to them; see `ImageData.describe`."""
        side, origin = self._side, self._origin
        return {
            **self._head(),
            "renderer": origin.renderer,
            "seed": origin.seed,
            "start": origin.start,
            "cropped": None if self._square else CROPPED,
            "resized": None if side == self.size else how_resized(side, self.size),
            "enlarged": side < self.size,
        }

    def _read(self, indices: list[int]) -> Tensor:
        images = torch.stack([image for image, _ in self._dataset.__getitems__(indices)])
        rows, columns = middle(*images.shape[-2:])
        return resized(images[..., rows, columns], self.size)


def _why(origin: Origin, name: str) -> str | None:
    """Say why the distribution of a dataset's factors is not known; None if it is."""
    if origin.seed is not None:
        return None
    if origin.renderer is not None:
        return f"{name}: its factors are those of a grid or a table, not drawn uniformly"
    return f"{name}: does not say how its factors were drawn, so their distribution is not known"
