"""Images to train on that are files of their own, in a folder, a zip file or an LMDB."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapeshd.errors import UsageError
from shapeshd.images.decode import check_image, decode_image
from shapeshd.images.numbered import EncodedImages
from shapeshd.images.resize import resized

from .square import AVERAGED, CROPPED, SPLINES, ImageData, middle, not_square

_HEADERS, _DECODED = 2_048, 256
"""Images of which `PictureData.check` reads the header, or all."""
_BYTES = 2**30  # that it reads at most


class PictureData(ImageData):
    """Images of which each is a file of its own, decoded when it is read.

    Args:
        files: the images.
        name: as of `ImageData`.
        size: to which they are resized; None leaves them as they are, and they must be of one
            size, once they are square.
        crop: whether images that are not square are cut; if not, they are refused.

    Raises:
        UsageError: if the first image cannot be brought to that form.
        ShapesHDError: if it cannot be read.
    """

    def __init__(self, files: EncodedImages, name: str, size: int | None, *, crop: bool) -> None:
        assert files.count is not None
        self._files = files
        self._crop = crop
        self._resize = size is not None
        pixels = self._decoded(0)
        self._first = pixels.shape[:2]
        why = (
            f"{name}: is no dataset of shapeshd, so there are no factors whose distribution is "
            "known"
        )
        super().__init__(name, files.kind, files.count, size or min(self._first), why)

    def describe(self) -> dict[str, Any]:
        """Return what they are and what is done to them; see `ImageData.describe`."""
        height, width = self._first
        how = f"where not {self.size}x{self.size}: {AVERAGED} by a whole ratio, else {SPLINES}"
        return {
            **self._head(),
            "first_image": f"{width}x{height}",
            "cropped": f"{CROPPED}, where not square" if self._crop else None,
            "resized": how if self._resize else None,
            "enlarged": min(self._first) < self.size,
        }

    def check(self) -> None:
        """Decode some images, and look at the headers of more, all spread evenly."""
        count = len(self)
        seen = 0
        for place in range(wanted := min(count, _HEADERS)):
            index = place * count // wanted
            data, label = self._files.encoded(index), self._files.label(index)
            if place % max(1, wanted // _DECODED):
                check_image(data, label)
            else:
                self._decoded(index)
            seen += len(data)
            if seen > _BYTES:
                break

    def _read(self, indices: list[int]) -> Tensor:
        images = torch.empty((len(indices), 3, self.size, self.size), dtype=torch.uint8)
        for row, index in enumerate(indices):
            pixels = self._decoded(index)
            if not self._resize and min(pixels.shape[:2]) != self.size:
                height, width = pixels.shape[:2]
                raise UsageError(
                    f"{self._files.label(index)}: has {width}x{height} pixels, and the first image "
                    f"{self._first[1]}x{self._first[0]}: say to which size to bring them all"
                )
            square = np.array(pixels[middle(*pixels.shape[:2])])
            images[row] = resized(torch.from_numpy(square).permute(2, 0, 1)[None], self.size)[0]
        return images

    def _decoded(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels of an image as its file has them: (H, W, 3)."""
        label = self._files.label(index)
        pixels, _ = decode_image(self._files.encoded(index), label)
        height, width = pixels.shape[:2]
        if height != width and not self._crop:
            raise not_square(label, height, width)
        return pixels
