"""Images in, joint bins out: what a reader of images is, and how its readings are counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from shapeshd.factors import NUM_BINS, FloatArray, IntArray, joint_bins
from shapeshd.images.resize import resized

from .card import RecognizerCard
from .precision import Precision

if TYPE_CHECKING:
    from shapeshd.benchmark.sources.base import Source

_PIECE_BYTES = 64 * 2**20
_SMALLEST_PIECE, LARGEST_PIECE = 64, 512


class Reader(Protocol):
    """What reads factors from images, such as a `Recognizer`.

    Attributes:
        name: what to call it.
        size: width and height of its images, pixels.
        digest: SHA-256 of its weights, or "".
        card: what is known of it, or the fields of such a card; see `card_of`.
        device: where it computes.
    """

    name: str
    size: int
    digest: str
    device: torch.device

    @property
    def card(self) -> RecognizerCard | Mapping[str, Any]: ...  # noqa: D102

    def __call__(self, images: Tensor) -> FloatArray:
        """Return factors (n, 6) of images uint8 (n, 3, size, size)."""
        ...


def card_of(reader: Reader) -> RecognizerCard:
    """Return the card of a reader; an empty one if it has none.

    Raises:
        UsageError: if it has another form.
    """
    card = getattr(reader, "card", None) or {}
    if isinstance(card, RecognizerCard):
        return card
    return RecognizerCard.read(card, f"{reader.name}: its card: ")


def precision_in_use(reader: Reader) -> Precision | None:
    """Return the precision in which a reader computes; None if it does not say."""
    precision: Precision | None = getattr(reader, "precision", None)
    return precision


class Piece(NamedTuple):
    """Images of a source that are read together, and what was read.

    Attributes:
        first: number of the first image.
        images: uint8 (n, 3, H, W), the whole piece.
        factors: float64 (n, 6).
        start: number of the first image that was asked for.
        bins: int64 (m,), joint bins of the images `start` .. `start` + m - 1, m <= n.
    """

    first: int
    images: Tensor
    factors: FloatArray
    start: int
    bins: IntArray

    @property
    def counted(self) -> Tensor:
        """The images that `bins` are of: uint8 (m, 3, H, W)."""
        begin = self.start - self.first
        return self.images[begin : begin + len(self.bins)]

    @property
    def counted_factors(self) -> FloatArray:
        """The factors of these: float64 (m, 6)."""
        begin = self.start - self.first
        return self.factors[begin : begin + len(self.bins)]


def read_factors(images: Tensor, reader: Reader) -> FloatArray:
    """Return the factors (n, 6) of images uint8 (n, 3, H, W), resized for the reader."""
    return reader(resized(images, reader.size))


def read_pieces(
    source: Source, reader: Reader, side: int, start: int, stop: int
) -> Iterator[Piece]:
    """Read the images `start` .. `stop` - 1 of a source.

    The borders of pieces depend on the size of the images alone, and a piece is read whole even
    where only a part of it is wanted. So a network sees the same images side by side whenever a
    run is stopped, shared out or extended.

    Args:
        source: gives the images.
        reader: gives their factors.
        side: width and height of the source's images, pixels.
        start: the first image that is wanted.
        stop: one past the last.
    """
    length = piece_length(side)
    for first in range(start - start % length, stop, length):
        last = first + length if source.count is None else min(first + length, source.count)
        images = source.images(first, last)
        factors = read_factors(images, reader)
        begin = max(first, start)
        yield Piece(
            first, images, factors, begin, joint_bins(factors)[begin - first : stop - first]
        )


def piece_length(side: int) -> int:
    """Return how many images of `side` pixels are read at a time: a power of two, at most 512."""
    length = LARGEST_PIECE
    while length > _SMALLEST_PIECE and length * 3 * side**2 > _PIECE_BYTES:
        length //= 2
    return length


def count_bins(parts: Iterable[IntArray]) -> IntArray:
    """Return the histogram of joint bins that come in parts, int64 (k,)."""
    counts = np.zeros(NUM_BINS, dtype=np.int64)
    for bins in parts:
        counts += np.bincount(bins, minlength=NUM_BINS)
    return counts
