"""Sources whose truth is written into their pixels, and a recognizer that reads it from there."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from shapeshd.benchmark.scoring import counting
from shapeshd.benchmark.scoring import score as scoring
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.scoring.tally import Tally
from shapeshd.cli import score_run
from shapeshd.cli.main import main
from shapeshd.errors import ShapesHDError
from shapeshd.factors import BIN_SHAPE, IntArray, from_unit, joint_bins, uniform_factors
from shapeshd.support.distributed import joined_ranks

_STEP = 20  # between the grey levels of two bins: no resizing can blur one into the next


class Written:
    """A source: the two halves of the three channels are as bright as the six bins' numbers.

    Args:
        side: width and height of its images.
        count: as of a `Source`.
        seed: of the factors, which are uniform.
        crowded: every other sample lies in one of 500 bins.
        pause: seconds that a batch takes.
        fail_at: a batch that holds this sample raises an error.
    """

    kind = "written"

    def __init__(
        self,
        side: int = 64,
        *,
        count: int | None = None,
        seed: int = 0,
        crowded: bool = False,
        pause: float = 0.0,
        fail_at: int | None = None,
        error: Exception | None = None,
        name: str = "written",
    ) -> None:
        self.side, self.count, self.seed, self.crowded = side, count, seed, crowded
        self.pause, self.fail_at, self.name = pause, fail_at, name
        self.error = error or ShapesHDError(f"{name}: the generator fell over")
        self.asked: list[tuple[int, int]] = []

    def bins(self, start: int, stop: int) -> IntArray:
        """Return the truth: the joint bins of samples."""
        found = joint_bins(uniform_factors(self.seed, start, stop))
        if self.crowded:
            found = np.where(np.arange(start, stop) % 2, found % 500, found)
        return found

    def images(self, start: int, stop: int) -> Tensor:
        assert 0 <= start < stop
        assert self.count is None or stop <= self.count
        if self.fail_at is not None and start <= self.fail_at < stop:
            raise self.error
        self.asked.append((start, stop))
        time.sleep(self.pause)
        return written_images(self.bins(start, stop), self.side)

    def describe(self) -> dict[str, Any]:
        return {}

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def written_images(bins: IntArray, side: int) -> Tensor:
    """Return uint8 (n, 3, side, side) that say the joint bins (n,)."""
    rows = np.stack(np.unravel_index(bins, BIN_SHAPE), axis=1)
    halves = torch.from_numpy((rows * _STEP).astype(np.uint8)).reshape(-1, 3, 1, 2)
    return halves.repeat_interleave(side // 2, 3).expand(-1, -1, side, -1)


class ReadsWritten:
    """A recognizer that makes no errors on such images."""

    name, device = "reads-written", torch.device("cpu")

    def __init__(self, size: int = 64, digest: str = "0" * 64, **card: Any) -> None:
        self.size, self.digest, self.card = size, digest, card

    def __call__(self, images: Tensor) -> np.ndarray:
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, self.size, self.size)
        places = [self.size // 4, 3 * self.size // 4]
        rows = images[:, :, self.size // 2, places].reshape(-1, 6).double().numpy() / _STEP
        return from_unit((np.rint(rows) + 0.5) / np.array(BIN_SHAPE))


def first_seen(truth: IntArray) -> dict[int, list[int]]:
    """Return the first four samples of each bin that has one."""
    numbers = pd.Series(range(len(truth)))
    return {
        int(where): group.head(4).tolist() for where, group in numbers.groupby(pd.Series(truth))
    }


def check_tally(tally: Tally, truth: IntArray) -> None:
    """Assert that a tally is that of samples which lie in the bins `truth`."""
    assert tally.samples == len(truth)
    np.testing.assert_array_equal(tally.counts, np.bincount(truth, minlength=len(tally.counts)))
    expected = np.full_like(tally.first_seen, -1)
    for where, numbers in first_seen(truth).items():
        expected[where, : len(numbers)] = numbers
    np.testing.assert_array_equal(tally.first_seen, expected)


def run_in_process(
    out: Path, words: Path, samples: int, settings: dict[str, Any], rank: tuple[int, int, int]
) -> None:
    """Score in a process of its own: what it says goes to a file, as its exit status says how.

    Args:
        out: folder of the result.
        words: file for stdout and stderr.
        samples: how many.
        settings: of the source.
        rank: number of the process, how many there are, and the port where they meet.
    """
    with words.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if rank[1] > 1:
        names = ("RANK", "WORLD_SIZE", "MASTER_PORT", "LOCAL_RANK")
        os.environ.update(zip(names, map(str, (*rank, rank[0])), strict=True))
        os.environ["MASTER_ADDR"] = "127.0.0.1"

    def no_file(*_: Any, **__: Any) -> Written:
        return Written(**settings)

    score_run.open_source = no_file
    score_run.load_recognizer = lambda *_: ReadsWritten()  # type: ignore[assignment]
    counting._SAVE_SECONDS = 0.03
    scoring.write_report = lambda *_: out
    try:
        source = "render:0:9"  # whose name is checked before `open_source` is asked
        main(["score", source, "--out", str(out), "--samples", str(samples), "--device", "cpu"])
    finally:
        print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main_of_torchrun(out: str, samples: str) -> None:
    """Score as one of torchrun's processes."""
    torch.set_num_threads(1)
    with joined_ranks() as ranks:
        score_source(
            Written(crowded=True),
            ReadsWritten(),
            Path(out),
            ScoreSettings(samples=int(samples)),
            ranks=ranks,
        )


if __name__ == "__main__":
    main_of_torchrun(*sys.argv[1:])
