"""Draw the first picture of README: two generators whose samples look alike, and their scores.

    python -m tests.experiments.truth.two_sheets OUT.png

One draws the factors uniformly, the other from a distribution with small objects and small angles
too often. 20,000 images of each are traced and scored, as those of any generator are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.gridspec import GridSpec

from shapeshd import RayTracer
from shapeshd.benchmark import Score, score
from shapeshd.distribution import Distribution
from shapeshd.factors import BIN_SHAPE, NAMES
from shapeshd.scene.render_options import RenderOptions

SAMPLES, SIZE, COLUMNS, ROWS = 20_000, 64, 8, 3
WRONG = {"scale": {"weights": [5, 4, 2, 1.5]}, "orientation": {"weights": [1, 2, 3, 3, 2, 1]}}
SHOWN = ("scale", "orientation", "shape")
BLUE, RED, GREY = "#3465a4", "#cc3311", "#888888"


class Generator:
    """Gives the next n images of a distribution, as a generator does."""

    def __init__(self, distribution: Distribution, seed: int) -> None:
        self.distribution, self.seed, self.given = distribution, seed, 0
        self.tracer = RayTracer(RenderOptions(SIZE), device="cpu")

    def __call__(self, n: int) -> torch.Tensor:
        factors = self.distribution.factors(self.seed, self.given, self.given + n)
        self.given += n
        return self.tracer(factors)


def draw(found: Score, images: np.ndarray, title: str, grid: GridSpec, column: int) -> None:
    """Draw a sheet of images and, below it, histograms of three factors."""
    figure = plt.gcf()
    sheet = figure.add_subplot(grid[0, 3 * column : 3 * column + 3])
    rows = [np.concatenate(list(images[i * COLUMNS :][:COLUMNS]), 1) for i in range(ROWS)]
    sheet.imshow(np.concatenate(rows, 0))
    sheet.set_axis_off()
    sheet.set_title(title, fontsize=13)
    table = found.counts.reshape(BIN_SHAPE)
    for place, name in enumerate(SHOWN):
        axis = NAMES.index(name)
        counts = table.sum(tuple(other for other in range(table.ndim) if other != axis))
        shares = counts / counts.sum()
        wrong = name in found.significant
        plot = figure.add_subplot(grid[1, 3 * column + place])
        plot.bar(range(len(shares)), shares, color=RED if wrong else BLUE, width=0.85)
        plot.axhline(1 / len(shares), color=GREY, linewidth=1)
        plot.set_title(f"{name}: wrong" if wrong else name, fontsize=10)
        plot.set_xticks([])
        plot.set_yticks([])
        plot.spines[["top", "right", "left"]].set_visible(False)
    estimate = found.divergence
    chi = found.reduced_chi_square
    figure.text(
        0.26 + 0.5 * column, 0.02,
        f"D = {estimate.reported:.2f} [{estimate.low:.2f}, {estimate.high:.2f}],  "
        f"reduced chi-square {chi.reported:.1f} [{chi.low:.1f}, {chi.high:.1f}]",
        ha="center", fontsize=12, color=BLUE if found.passed else RED,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    plt.figure(figsize=(12, 4.6), facecolor="white")
    grid = GridSpec(2, 6, height_ratios=(3, 1.1), left=0.02, right=0.98, top=0.92, bottom=0.11)
    kinds = (Distribution.from_json({}), Distribution.from_json(WRONG))
    for column, (distribution, title) in enumerate(
        zip(kinds, ("Generator A", "Generator B"), strict=True)
    ):
        images = Generator(distribution, column + 11)(COLUMNS * ROWS).permute(0, 2, 3, 1).numpy()
        found = score(Generator(distribution, column + 11), SAMPLES, range="uint8", batch=128)
        draw(found, images, title, grid, column)
        print(title, found.divergence, found.significant, found.verdict)
    plt.savefig(out, dpi=90)


if __name__ == "__main__":
    main()
