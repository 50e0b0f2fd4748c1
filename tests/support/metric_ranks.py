"""What torchrun's processes do in `test_metric`: each sees a part of the images.

``torchrun --nproc-per-node 2 -m tests.support.metric_ranks OUT``; it imports little, for it
starts twice.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.metric import DistributionScore
from shapeshd.factors import BIN_SHAPE, from_unit, joint_bins, uniform_factors

PARTS = ((0, 2_500), (2_500, 7_000))  # of the ranks, of other lengths
MORE = ((7_000, 7_100), (7_100, 7_200))


class ReadsPixel:
    """A recognizer: the first pixel is the number of a joint bin, three bytes."""

    name, size, digest, device = "reads-pixel", 64, "", torch.device("cpu")

    def __init__(self) -> None:
        self.card: dict[str, object] = {}

    def __call__(self, images: Tensor) -> np.ndarray:
        numbers = images[:, :, 0, 0].long().numpy() @ [1, 2**8, 2**16]
        rows = np.stack(np.unravel_index(numbers, BIN_SHAPE), axis=1)
        return from_unit((rows + 0.5) / np.array(BIN_SHAPE))


def bins(start: int, stop: int) -> np.ndarray:
    """Return the joint bins of images; every other one lies in one of 500."""
    found = joint_bins(uniform_factors(0, start, stop))
    return np.where(np.arange(start, stop) % 2, found % 500, found)


def score_of(*parts: tuple[int, int]) -> DistributionScore:
    """Return the metric that has seen these images."""
    metric = DistributionScore(recognizer=ReadsPixel(), image_check=0)
    for part in parts:
        metric.update(pictures(*part))
    return metric


def pictures(start: int, stop: int) -> Tensor:
    """Return images that say their bin: uint8 (n, 3, 64, 64)."""
    images = torch.zeros(stop - start, 3, 64, 64, dtype=torch.uint8)
    numbers = torch.from_numpy(bins(start, stop))
    for channel in range(3):
        images[:, channel, 0, 0] = (numbers >> 8 * channel) & 255
    return images


def main(out: Path) -> None:
    """Write what this process finds, alone and with the other one."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    metric = score_of(PARTS[rank])
    said = {name: float(value) for name, value in metric.compute_all().items()}
    own = metric.samples  # after it was synced, and let go again
    with metric.sync_context():
        together = metric.histogram.tolist()
    metric.update(pictures(*MORE[rank]))
    more = float(metric.compute())
    (out / f"{rank}.json").write_text(json.dumps([said, own, together, more]))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
