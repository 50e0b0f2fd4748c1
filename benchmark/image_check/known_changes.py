"""Changes that images of the dataset often suffer on their way, and what undoes them.

Whether one of them explains why images do not look like the dataset is found by trying: it is
undone on some images, which are read and rendered again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.fidelity.residual import squared_error
from shapeshd.benchmark.recognizer.pixels import linear_light
from shapeshd.benchmark.recognizer.reader import Reader

from .real_images import Rerender

TRIED = 24
"""Images on which a change is undone."""
_SMALLER = 0.5
"""A change explains the images if undoing it at least halves the median error."""
_LEVELS = 255.0

Undo = Callable[[Tensor], Tensor]
"""Takes and gives float (n, 3, H, W), sRGB in [0, 1]."""


class Change(NamedTuple):
    """A change.

    Attributes:
        name: what was done to the images, after "the images are".
        undo: undoes it.
    """

    name: str
    undo: Undo


def _encoded(images: Tensor) -> Tensor:
    """Return sRGB of linear values."""
    above = 1.055 * images.clamp_min(1e-9) ** (1 / 2.4) - 0.055
    return torch.where(images <= 0.0031308, 12.92 * images, above)


def _moved(right: int, down: int) -> Undo:
    """Return what moves images back; pixels at the border are repeated."""

    def undo(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        rows = (torch.arange(height) + down).clamp(0, height - 1)
        columns = (torch.arange(width) + right).clamp(0, width - 1)
        return images[:, :, rows][:, :, :, columns]

    return undo


CHANGES = (
    Change("mirrored left to right", lambda images: images.flip(3)),
    Change("upside down", lambda images: images.flip(2)),
    Change("turned by 180 degrees", lambda images: images.flip(2, 3)),
    Change("transposed (rows for columns)", lambda images: images.transpose(2, 3)),
    Change("in BGR order (red and blue exchanged)", lambda images: images.flip(1)),
    Change("inverted (black for white)", lambda images: 1 - images),
    Change("linear values that were saved as if they were sRGB", _encoded),
    Change("sRGB values that were encoded as sRGB once more", linear_light),
    Change("values of [0, 1] that were taken for [-1, 1]", lambda images: 2 * images - 1),
    Change("moved by a pixel to the right", _moved(1, 0)),
    Change("moved by a pixel to the left", _moved(-1, 0)),
    Change("moved down by a pixel", _moved(0, 1)),
    Change("moved up by a pixel", _moved(0, -1)),
)


def brightness_change(images: Tensor, rerenders: Tensor) -> Change | None:
    """Return the change of brightness between images and their re-renders, if there is one.

    Args:
        images: uint8 (n, 3, H, W).
        rerenders: of the factors that were read from them.
    """
    x, r = images.double(), rerenders.double()
    gain = float((x * r).sum() / (r * r).sum().clamp_min(1))
    if not 0.2 < gain < 5 or abs(gain - 1) < 0.02:
        return None
    return Change(f"multiplied in brightness by {gain:.2f}", lambda values: values / gain)


class Tried(NamedTuple):
    """What was found when a change was undone.

    Attributes:
        name: of the change; None for the images as they are.
        error: median RMSE to the re-render, levels.
    """

    name: str | None
    error: float


def find_change(
    images: Tensor, rerenders: Tensor, reader: Reader, rerender: Rerender
) -> tuple[Change | None, list[Tried]]:
    """Find the change that explains why images are far from their re-renders.

    Args:
        images: uint8 (n, 3, S, S); the first `TRIED` of them are used.
        rerenders: of the factors that were read from them.
        reader: reads factors.
        rerender: renders them.

    Returns:
        The change that, undone, leaves the smallest error, if that is at most half of the error
        as they are; None otherwise. And what was tried, the images as they are first.
    """
    images, rerenders = images[:TRIED], rerenders[:TRIED]
    tried = [Tried(None, _error(images, rerenders))]
    best: Change | None = None
    smallest = _SMALLER * tried[0].error
    for change in _candidates(images, rerenders):
        undone = change.undo(images.float() / _LEVELS).clamp(0, 1)
        undone = (undone * _LEVELS).round().byte().contiguous()
        found = rerender(np.asarray(reader(undone), dtype=np.float64))
        tried.append(Tried(change.name, _error(undone, found)))
        if tried[-1].error < smallest:
            best, smallest = change, tried[-1].error
    return best, tried


def _candidates(images: Tensor, rerenders: Tensor) -> Iterator[Change]:
    yield from CHANGES
    if brightness := brightness_change(images, rerenders):
        yield brightness


def _error(images: Tensor, rerenders: Tensor) -> float:
    return float(squared_error(images, rerenders).sqrt().median())
