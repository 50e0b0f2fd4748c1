"""Counts a source's samples: images in, recognised bins tallied, stopped and resumed anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from shapeshd.benchmark.sources.base import Source
from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.histogram import min_samples
from shapeshd.benchmark.statistics.measurement_error import split_outside
from shapeshd.distribution import Distribution
from shapeshd.errors import InterruptedRunError, ShapesHDError, one_line
from shapeshd.factors import NUM_BINS, FloatArray, joint_bins
from shapeshd.images.resize import resized
from shapeshd.support.interrupts import held_back
from shapeshd.support.progress import progress_bar

from .distributed import Ranks
from .run_folder import RunFolder
from .tally import BLOCK, Tally

_PIECE_BYTES = 64 * 2**20
_SMALLEST_PIECE, _LARGEST_PIECE = 64, 512
_SAVE_SECONDS = 20.0
_ESTIMATE_SECONDS = 10.0

Collect = Callable[[int, Tensor, FloatArray], None]
"""Is given the number of a piece's first image, its images (n, 3, H, W) and factors (n, 6)."""


class Reader(Protocol):
    """What reads factors from images, such as a `Recognizer`.

    Attributes:
        name: what to call it.
        size: width and height of its images, pixels.
        digest: SHA-256 of its weights, or "".
        card: what is known of it; see `Recognizer`.
        device: where it computes.
    """

    name: str
    size: int
    digest: str
    card: dict[str, Any]
    device: torch.device

    def __call__(self, images: Tensor) -> FloatArray:
        """Return factors (n, 6) of images uint8 (n, 3, size, size)."""
        ...


def count_samples(
    source: Source,
    reader: Reader,
    samples: int,
    folder: RunFolder,
    ranks: Ranks,
    side: int,
    *,
    distribution: Distribution | None = None,
    collect: Collect | None = None,
    progress: bool = False,
) -> int:
    """Count this process's share of the samples that are not counted yet.

    Images are fetched and read in pieces whose borders depend on the image's size alone, and a
    piece is read whole even where only a part of it is wanted. So a network sees the same
    images side by side whenever a run is stopped, shared out or extended.

    Args:
        source: gives the images.
        reader: gives their factors.
        samples: 0 .. `samples` - 1 are to be counted, by all processes together.
        folder: of the run; what is counted goes to its `own` tally.
        ranks: the processes.
        side: width and height of the source's images, pixels.
        distribution: that they should follow, for the estimate beside the bar; None for the uniform
            one.
        collect: is shown each piece before it is counted: it may be shown it again if the run
            is killed then.
        progress: show a bar on stderr.

    Returns:
        How many samples this process has counted.

    Raises:
        InterruptedRunError: if SIGINT or SIGTERM came.
        ShapesHDError: if the source or the recognizer fails.
        In both cases what has been counted is saved.
    """
    piece = piece_length(side)
    spans = list(_remaining(folder.done, samples, ranks))
    total = sum(stop - start for start, stop in spans)
    before, counted = folder.own.samples, 0
    saved = shown = time.monotonic()
    try:
        with progress_bar(total, "score", shown=progress and ranks.first) as bar:
            for start, stop in spans:
                for first in range(start - start % piece, stop, piece):
                    last = first + piece
                    if source.count is not None:
                        last = min(last, source.count)
                    images = source.images(first, last)
                    factors = reader(resized(images, reader.size))
                    bins = joint_bins(factors)
                    if collect is not None:
                        collect(first, images, factors)
                    begin, end = max(first, start), min(last, stop)
                    with held_back():
                        folder.own.add(begin, bins[begin - first : end - first])
                        counted += end - begin
                    bar.update(end - begin)
                    now = time.monotonic()
                    if now - saved > _SAVE_SECONDS:
                        with held_back():
                            folder.save()
                        saved = now
                    if not bar.disable and now - shown > _ESTIMATE_SECONDS:
                        bar.set_postfix_str(_estimate(folder.own, distribution), refresh=False)
                        shown = now
    except KeyboardInterrupt:
        _keep(folder)
        raise InterruptedRunError(
            f"interrupted; {before + counted:,} of {samples:,} samples are counted and kept, and "
            "the same command goes on from there"
        ) from None
    except (ShapesHDError, OSError, RuntimeError) as error:
        _keep(folder)
        why = one_line(error) or type(error).__name__
        raise ShapesHDError(
            f"{why}; {before + counted:,} of {samples:,} samples are counted and kept, and the "
            "same command goes on from there"
        ) from error
    with held_back():
        folder.save()
    return counted


def _keep(folder: RunFolder) -> None:
    try:
        with held_back():
            folder.save()
    except OSError as error:
        raise ShapesHDError(
            f"{folder.out}: what was counted since the last save cannot be written: "
            f"{(error.strerror or str(error)).lower()}"
        ) from None


def piece_length(side: int) -> int:
    """Return how many images of `side` pixels are read at a time: a power of two, at most 512."""
    length = _LARGEST_PIECE
    while length > _SMALLEST_PIECE and length * 3 * side**2 > _PIECE_BYTES:
        length //= 2
    return length


def _remaining(done: Tally, samples: int, ranks: Ranks) -> Iterator[tuple[int, int]]:
    """Yield what this process shall count: intervals, each within a block."""
    number = 0
    for block in range(-(-samples // BLOCK)):
        filled = int(done.filled[block]) if block < len(done.filled) else 0
        start, stop = block * BLOCK + filled, min(samples, (block + 1) * BLOCK)
        if start < stop:
            if number % ranks.count == ranks.rank:
                yield start, stop
            number += 1


def _estimate(tally: Tally, distribution: Distribution | None) -> str:
    counts, probabilities, bins = (
        tally.counts,
        None,
        NUM_BINS if distribution is None else distribution.bins,
    )
    if tally.samples < min_samples(bins):
        return ""
    if distribution is not None:
        counts, probabilities = split_outside(counts, distribution)[0], distribution.expected()
        if counts.sum() < min_samples(bins):
            return ""
    value = goodness_of_fit(counts, probabilities).prediction.reduced_chi_square
    return f"chi2_nu(20k) {value.reported:.3g} [{value.low:.3g}, {value.high:.3g}]"
