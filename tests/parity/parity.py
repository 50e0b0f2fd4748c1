"""How close the twin's pixels are to POV-Ray's: figures over many scenes, and a picture.

    python tests/parity/parity.py [--random64 5000] [--random256 1000] [--dtype float32]
        [--json FILE] [--sheet FILE.png] [--worst FILE.png]

Compares random scenes at 64 and 256 pixels, and all combinations of the ends of the factors'
ranges, every shape, and equal and opposite hues.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from shapeshd import RayTracer, render_images, uniform_factors
from shapeshd.factors import NAMES, SHAPES
from shapeshd.povray import RenderOptions

_SEED = 2026
_BLOCK = 250
_AMPLIFY = 16
_HUES = [
    *((hue,) * 3 for hue in (0.0, 1 / 6, 1 / 3, 0.5, 2 / 3, 5 / 6, 1.0)),
    (0.0, 0.5, 0.0),
    (0.0, 0.0, 0.5),
    (1 / 3, 0.0, 2 / 3),
]
_TARGETS = {"within_1": 0.9998, "within_8": 0.99995}
_MEAN_TARGET = 0.01


def extremes() -> np.ndarray:
    """Ends and middle of scale and orientation, for every shape, equal and opposite hues."""
    combinations = itertools.product(
        _HUES, (1.0, 1.5, 2.0), range(len(SHAPES)), (-30.0, -1e-3, 0.0, 1e-3, 30.0)
    )
    return np.array([(*hues, *rest) for hues, *rest in combinations])


class Tally:
    """Counts of absolute differences, and the worst scenes."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size, self.scenes = name, size, 0
        self._counts = np.zeros(256, dtype=np.int64)
        self.worst: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, factors: np.ndarray, rendered: np.ndarray, traced: np.ndarray) -> None:
        """Compare images, uint8 (n, H, W, 3)."""
        differences = np.abs(rendered.astype(np.int16) - traced)
        self._counts += np.bincount(differences.ravel(), minlength=256)
        self.scenes += len(factors)
        totals = differences.sum((1, 2, 3), dtype=np.int64)
        for row in np.argsort(totals)[-4:]:
            self.worst.append((int(totals[row]), factors[row], rendered[row], traced[row]))
        self.worst = sorted(self.worst, key=lambda entry: -entry[0])[:4]

    def result(self) -> dict[str, Any]:
        """Shares of channel values and the mean, in units of 1/255."""
        total = int(self._counts.sum())
        result: dict[str, Any] = {"scenes": self.scenes, "size": self.size, "values": total}
        for limit in (0, 1, 8):
            result[f"within_{limit}"] = float(self._counts[: limit + 1].sum() / total)
        result["beyond_1"] = int(self._counts[2:].sum())
        result["mean"] = float((self._counts * np.arange(256)).sum() / total)
        result["largest"] = int(np.flatnonzero(self._counts)[-1])
        result["passed"] = result["mean"] <= _MEAN_TARGET and all(
            result[name] >= least for name, least in _TARGETS.items()
        )
        return result


def compare(name: str, factors: np.ndarray, size: int, dtype: torch.dtype) -> Tally:
    """Render and trace `factors`, a block at a time."""
    tally = Tally(name, size)
    tracer = RayTracer(RenderOptions(size), dtype=dtype)
    for start in range(0, len(factors), _BLOCK):
        block = factors[start : start + _BLOCK]
        traced = tracer(block).permute(0, 2, 3, 1).numpy()
        tally.add(block, render_images(block, size), traced)
    return tally


def triptychs(rows: list[tuple[str, np.ndarray, np.ndarray]], side: int) -> Image.Image:
    """Draw rows of POV-Ray, twin and amplified difference; uint8 (H, W, 3) each."""
    head, foot, gap = 22, 20, 6
    picture = Image.new("RGB", (3 * side + 4 * gap, head + len(rows) * (side + foot)), "white")
    draw = ImageDraw.Draw(picture)
    titles = ("POV-Ray", "twin", f"difference x {_AMPLIFY}")
    for column, title in enumerate(titles):
        draw.text((gap + column * (side + gap), 6), title, fill="black")
    for number, (caption, rendered, traced) in enumerate(rows):
        difference = np.abs(rendered.astype(np.int16) - traced) * _AMPLIFY
        images = (rendered, traced, np.clip(difference, 0, 255).astype(np.uint8))
        top = head + number * (side + foot)
        for column, image in enumerate(images):
            tile = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
            picture.paste(tile, (gap + column * (side + gap), top))
        draw.text((gap, top + side + 3), caption, fill="black")
    return picture


def describe(factors: np.ndarray) -> str:
    """Factors in a caption."""
    words = [f"{name} {value:.4g}" for name, value in zip(NAMES, factors, strict=True)]
    words[4] = SHAPES[int(factors[4])]
    return ", ".join(words)


def main() -> None:
    """Compare, print a table, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random64", type=int, default=5000)
    parser.add_argument("--random256", type=int, default=1000)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path, help="one random scene of each shape at 256")
    parser.add_argument("--worst", type=Path, help="the four worst scenes")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    tallies = [
        compare("random", uniform_factors(_SEED, 0, options.random64), 64, dtype),
        compare("random", uniform_factors(_SEED, 10**6, 10**6 + options.random256), 256, dtype),
        compare("extremes", extremes(), 64, dtype),
        compare("extremes", extremes(), 256, dtype),
    ]
    print(f"{'scenes':>14} {'size':>5} {'equal':>10} {'<= 1/255':>10} {'<= 8/255':>10} {'mean':>8}")
    for tally in tallies:
        found = tally.result()
        print(
            f"{found['scenes']:>5,} {tally.name:8} {found['size']:>5} {found['within_0']:>10.5%} "
            f"{found['within_1']:>10.5%} {found['within_8']:>10.5%} {found['mean']:>8.5f}"
            f"   {'ok' if found['passed'] else 'MISSED'}"
        )
    if options.json:
        found = {f"{tally.name}-{tally.size}": tally.result() for tally in tallies}
        options.json.write_text(json.dumps({"dtype": options.dtype, **found}, indent=2) + "\n")
    if options.worst:
        entries = sorted((e for t in tallies for e in t.worst), key=lambda entry: -entry[0])[:4]
        rows = [(f"sum {e[0]}: {describe(e[1])}", e[2], e[3]) for e in entries]
        triptychs(rows, 384).save(options.worst)
    if options.sheet:
        factors = uniform_factors(_SEED, 0, 200)
        chosen = np.array([factors[factors[:, 4] == shape][0] for shape in range(len(SHAPES))])
        pairs = zip(render_images(chosen), RayTracer(dtype=dtype)(chosen), chosen, strict=True)
        rows = [(describe(f), r, t.permute(1, 2, 0).numpy()) for r, t, f in pairs]
        triptychs(rows, 256).save(options.sheet)


if __name__ == "__main__":
    main()
