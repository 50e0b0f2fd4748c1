"""How close the ray tracer's pixels are to POV-Ray's: figures over many scenes, and a picture.

    python -m tests.experiments.parity.parity [--random64 5000] [--random256 1000]
        [--dtype float32] [--json FILE] [--sheet FILE.png] [--worst FILE.png]

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
from shapeshd.factors import SHAPES
from shapeshd.scene.render_options import RenderOptions
from shapeshd.verify.pixels import PixelDifferences

_SEED = 2026
_BLOCK = 250
_AMPLIFY = 32
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


class Scenes:
    """How scenes of one size compare, and the worst of them."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size
        self.differences = PixelDifferences()
        self.worst: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, factors: np.ndarray, rendered: np.ndarray, traced: np.ndarray) -> None:
        """Compare images, uint8 (n, H, W, 3)."""
        differences = np.abs(rendered.astype(np.int16) - traced)
        for difference in differences:
            self.differences.add(difference)
        totals = differences.sum((1, 2, 3), dtype=np.int64)
        for row in np.argsort(totals)[-4:]:
            self.worst.append((int(totals[row]), factors[row], rendered[row], traced[row]))
        self.worst = sorted(self.worst, key=lambda entry: -entry[0])[:4]

    def result(self) -> dict[str, Any]:
        """Shares of channel values and the mean, in units of 1/255."""
        counts = self.differences.counts
        result: dict[str, Any] = {
            "scenes": len(self.differences.means),
            "size": self.size,
            "values": int(counts.sum()),
            **{f"within_{limit}": self.differences.within(limit) for limit in (0, 1, 8)},
            "beyond_1": int(counts[2:].sum()),
            "mean": self.differences.mean,
            "largest": int(np.flatnonzero(counts)[-1]),
        }
        result["passed"] = result["mean"] <= _MEAN_TARGET and all(
            result[name] >= least for name, least in _TARGETS.items()
        )
        return result


def compare(name: str, factors: np.ndarray, size: int, dtype: torch.dtype) -> Scenes:
    """Render and trace `factors`, a block at a time."""
    scenes = Scenes(name, size)
    tracer = RayTracer(RenderOptions(size), dtype=dtype)
    for start in range(0, len(factors), _BLOCK):
        block = factors[start : start + _BLOCK]
        traced = tracer(block).permute(0, 2, 3, 1).numpy()
        scenes.add(block, render_images(block, size), traced)
    return scenes


def sheet(scenes: list[tuple[str, np.ndarray, np.ndarray]], side: int) -> Image.Image:
    """Draw POV-Ray, twin and amplified difference below each other, a scene a column."""
    margin, gap, foot, line = 90, 6, 62, 14
    picture = Image.new(
        "RGB", (margin + len(scenes) * (side + gap), 3 * (side + gap) + foot), "white"
    )
    draw = ImageDraw.Draw(picture)
    for row, title in enumerate(("POV-Ray", "twin", f"difference\nx {_AMPLIFY}")):
        draw.text((8, row * (side + gap) + side // 2), title, fill="black")
    for column, (caption, rendered, traced) in enumerate(scenes):
        difference = np.abs(rendered.astype(np.int16) - traced)
        amplified = np.clip(_AMPLIFY * difference, 0, 255).astype(np.uint8)
        left = margin + column * (side + gap)
        for row, image in enumerate((rendered, traced, amplified)):
            tile = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
            picture.paste(tile, (left, row * (side + gap)))
        for y, x in np.argwhere(difference.max(-1) > 1):  # one pixel is easily missed
            x, y = left + (x + 0.5) * side / len(rendered), (y + 0.5) * side / len(rendered)
            box = (x - 6, y - 6 + 2 * (side + gap), x + 6, y + 6 + 2 * (side + gap))
            draw.ellipse(box, outline="white")
        differing = f"{np.count_nonzero(difference.max(-1) > 1)} pixels beyond 1/255"
        for number, text in enumerate((*caption.split("; "), differing)):
            draw.text((left, 3 * (side + gap) + number * line), text, fill="black")
    return picture


def describe(factors: np.ndarray) -> str:
    """Factors in a caption of two lines."""
    floor, wall, thing, scale, shape, orientation = factors
    return (
        f"{SHAPES[int(shape)]} x{scale:.4g}, {orientation:.4g} degrees; "
        f"hues {floor:.4g}, {wall:.4g}, {thing:.4g}"
    )


def main() -> None:
    """Compare, print a table, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random64", type=int, default=5000)
    parser.add_argument("--random256", type=int, default=1000)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path, help="a random scene of each shape, and the worst")
    parser.add_argument("--worst", type=Path, help="the four worst scenes")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    groups = [
        compare("random", uniform_factors(_SEED, 0, options.random64), 64, dtype),
        compare("random", uniform_factors(_SEED, 10**6, 10**6 + options.random256), 256, dtype),
        compare("extremes", extremes(), 64, dtype),
        compare("extremes", extremes(), 256, dtype),
    ]
    print(f"{'scenes':>14} {'size':>5} {'equal':>10} {'<= 1/255':>10} {'<= 8/255':>10} {'mean':>8}")
    for group in groups:
        found = group.result()
        print(
            f"{found['scenes']:>5,} {group.name:8} {found['size']:>5} {found['within_0']:>10.5%} "
            f"{found['within_1']:>10.5%} {found['within_8']:>10.5%} {found['mean']:>8.5f}"
            f"   {'ok' if found['passed'] else 'MISSED'}"
        )
    if options.json:
        found = {f"{group.name}-{group.size}": group.result() for group in groups}
        options.json.write_text(json.dumps({"dtype": options.dtype, **found}, indent=2) + "\n")
    worst = sorted((entry for group in groups for entry in group.worst), key=lambda e: -e[0])
    if options.worst:
        sheet([(describe(f), r, t) for _, f, r, t in worst[:4]], 384).save(options.worst)
    if options.sheet:
        factors = uniform_factors(_SEED, 0, 200)
        chosen = np.array([factors[factors[:, 4] == shape][0] for shape in range(len(SHAPES))])
        pairs = zip(render_images(chosen), RayTracer(dtype=dtype)(chosen), chosen, strict=True)
        scenes = [(describe(f), r, t.permute(1, 2, 0).numpy()) for r, t, f in pairs]
        _, f, r, t = worst[0]
        sheet([*scenes, (f"{describe(f)}; the worst of all scenes", r, t)], 192).save(options.sheet)


if __name__ == "__main__":
    main()
