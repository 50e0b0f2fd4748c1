"""The images as a PyTorch dataset: from shards, from one HDF5 file, or from 3dshapes.h5."""

from __future__ import annotations

import operator
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .factors import FloatArray, IntArray
from .povray import Image
from .sources import OpenFiles, find_files


class ShapesHD(Dataset[tuple[Any, Any]]):
    """Images and their factors, read from disk one by one: a map-style dataset.

    An item is ``(image, label)``: a uint8 tensor of shape (3, H, W), sRGB, and a float64
    tensor of shape (6,), columns as in `shapeshd.FACTORS`. As torchvision's decoders do, it
    leaves the channels last in memory; a batch of a ``DataLoader`` is contiguous.

    Nothing but the labels is held in memory. Workers of a ``DataLoader``, forked or spawned,
    and threads can share it; at most 64 files are open at a time, none of them locked.

    Args:
        path: a dataset folder, its ``dataset.h5``, one shard, or an HDF5 file with
            ``images`` uint8 (n, H, W, 3) and ``labels`` float64 (n, 6), as 3dshapes.h5.
        transform: called with each image; what it returns takes the image's place.
        target_transform: the same for the label.
        allow_incomplete: serve the images that exist of a dataset with gaps. Its items are
            then numbered without gaps; `indices` tells which images they are.

    Raises:
        UsageError: if `path` is nothing of that, or an incomplete dataset.
        DamagedShardError: if a shard is missing or damaged, here or when it is first read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Callable[[torch.Tensor], Any] | None = None,
        target_transform: Callable[[torch.Tensor], Any] | None = None,
        *,
        allow_incomplete: bool = False,
    ) -> None:
        self.path = Path(path)
        self.transform = transform
        self.target_transform = target_transform
        self._files = OpenFiles()
        self._sources = find_files(self.path, self._files, allow_incomplete=allow_incomplete)
        self._starts = list(accumulate((source.count for source in self._sources), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return image and label `index`; negative ones count from the end.

        Raises:
            IndexError: if there is no such image.
            DamagedShardError: if its file is missing or damaged.
        """
        position = self._position(index)
        return self._item(position, self.pixels(position))

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Return several items in the order asked for, reading each file in its own order."""
        positions = [self._position(index) for index in indices]
        pixels: dict[int, Image] = {}
        for position in sorted(set(positions)):
            pixels[position] = self.pixels(position)
        return [self._item(position, pixels[position]) for position in positions]

    def pixels(self, index: int) -> Image:
        """Read one image as it is stored: a read-only uint8 array of shape (H, W, 3)."""
        position = self._position(index)
        number = bisect_right(self._starts, position) - 1
        return self._sources[number].image(position - self._starts[number])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of an image before `transform`: (3, H, W)."""
        height, width, channels = self._sources[0].image_shape
        return channels, height, width

    @cached_property
    def labels(self) -> FloatArray:
        """The factors of all images: a read-only float64 array of shape (n, 6)."""
        labels = np.concatenate([source.labels for source in self._sources])
        labels.flags.writeable = False
        return labels

    @cached_property
    def indices(self) -> IntArray:
        """Each item's index in its dataset, int64 (n,): 0 to n - 1 for a whole one."""
        return np.concatenate(
            [source.first_index + np.arange(source.count) for source in self._sources]
        )

    def _position(self, index: int) -> int:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"image {position} of {len(self)} in {self.path}")
        return position % len(self)

    def _item(self, position: int, pixels: Image) -> tuple[Any, Any]:
        number = bisect_right(self._starts, position) - 1
        label = torch.tensor(self._sources[number].labels[position - self._starts[number]])
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)  # a copy can be written to
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def __getstate__(self) -> dict[str, Any]:
        cached = ("labels", "indices")
        return {name: value for name, value in self.__dict__.items() if name not in cached}

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        return f"ShapesHD({str(self.path)!r}): {len(self):,} images of {shape}"
