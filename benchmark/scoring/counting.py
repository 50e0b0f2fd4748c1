"""Counts the samples of a source into the tally of a folder; it can be stopped and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from torch import Tensor

from shapeshd.benchmark.recognizer.reader import read_pieces
from shapeshd.benchmark.sources.base import conversions
from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.histogram import min_samples_under
from shapeshd.benchmark.statistics.measurement_error import split_outside
from shapeshd.distribution import Distribution
from shapeshd.errors import InterruptedRunError, ShapesHDError, named, one_line
from shapeshd.factors import FloatArray
from shapeshd.support.distributed import Ranks
from shapeshd.support.interrupts import held_back
from shapeshd.support.progress import progress_bar

from .run_folder import RunFolder
from .settings import Task
from .tally import BLOCK, Tally

_SAVE_SECONDS = 20.0
_ESTIMATE_SECONDS = 10.0

Collect = Callable[[int, Tensor, FloatArray], None]
"""Is given the number of a piece's first image, its images (n, 3, H, W) and factors (n, 6)."""


def count_samples(
    task: Task, folder: RunFolder, *, collect: Collect | None = None, progress: bool = False
) -> None:
    """Count this process's share of the samples that are not counted yet.

    Images are fetched and read in pieces; see `read_pieces`.

    Args:
        task: the samples 0 .. n - 1 are to be counted, by all processes together.
        folder: of the run; what is counted goes to its `own` tally.
        collect: is shown each piece before it is counted: it may be shown it again if the run
            is killed then.
        progress: show a bar on stderr.

    Raises:
        InterruptedRunError: if SIGINT or SIGTERM came.
        ShapesHDError: if the source or the recognizer fails.
        In both cases what has been counted is saved.
    """
    ranks, samples = folder.ranks, task.samples
    spans = list(_remaining(folder.done, samples, ranks))
    total = sum(stop - start for start, stop in spans)
    saved = shown = time.monotonic()
    try:
        with progress_bar(total, "score", shown=progress and ranks.first) as bar:
            for start, stop in spans:
                for piece in read_pieces(task.source, task.reader, task.side, start, stop):
                    if collect is not None:
                        collect(piece.first, piece.images, piece.factors)
                    with held_back():
                        end = piece.start + len(piece.bins)
                        done = conversions(task.source, piece.start, end)
                        folder.own.add(
                            piece.start, piece.bins, done, piece.counted, piece.counted_factors
                        )
                    bar.update(len(piece.bins))
                    now = time.monotonic()
                    if now - saved > _SAVE_SECONDS:
                        with held_back():
                            folder.save()
                        saved = now
                    if not bar.disable and now - shown > _ESTIMATE_SECONDS:
                        bar.set_postfix_str(_estimate(folder.own, task.distribution), refresh=False)
                        shown = now
    except KeyboardInterrupt:
        _keep(folder)
        raise InterruptedRunError(
            f"interrupted; {_counted(folder, task)}, and {_going_on(folder)}"
        ) from None
    except (ShapesHDError, OSError, RuntimeError) as error:
        _keep(folder)
        why = one_line(error) or type(error).__name__
        raise ShapesHDError(f"{why}; {_counted(folder, task)}, and {_going_on(folder)}") from error
    with held_back():
        folder.save()


def _counted(folder: RunFolder, task: Task) -> str:
    samples, processes = folder.own.samples, folder.ranks.count
    if processes > 1:
        return f"{samples:,} samples are counted and kept by this one of {processes} processes"
    return f"{samples:,} of {task.samples:,} samples are counted and kept"


def _going_on(folder: RunFolder) -> str:
    found = folder.found.get("reproducibility")
    if found is None or found["same"]:
        return "the same command goes on from there"
    return (
        f"with {named('allow_irreproducible')} the same command goes on from there, though the "
        "source does not give the same images again"
    )


def _keep(folder: RunFolder) -> None:
    try:
        with held_back():
            folder.save()
    except OSError as error:
        raise ShapesHDError(
            f"{folder.out}: what was counted since the last save cannot be written: "
            f"{(error.strerror or str(error)).lower()}"
        ) from None


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
    counts = tally.counts
    probabilities = None if distribution is None else distribution.expected()
    needed = min_samples_under(probabilities)
    if tally.samples < needed:
        return ""
    if distribution is not None:
        counts = split_outside(counts, distribution)[0]
        if counts.sum() < needed:
            return ""
    value = goodness_of_fit(counts, probabilities).prediction.reduced_chi_square
    return f"chi2_nu(20k) {value.reported:.3g} [{value.low:.3g}, {value.high:.3g}]"
