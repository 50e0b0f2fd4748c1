"""Small known distributions."""

from __future__ import annotations

from typing import Any

import numpy as np

from shapeshd.distribution import Distribution

TEXT = """
scale.weights = [1, 1, 2, 4]
shape.weights = [1, 1, 0, 1.0]   # no spheres

[[pair]]
factors = ["object_hue", "wall_hue"]
weights = [
    [3, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    [1, 1, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 3, 1, 1, 1, 1, 1, 1, 1, 1],
    [1, 1, 1, 1, 3, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 3, 1, 1, 1, 1, 1, 1],
    [1, 1, 1, 1, 1, 1, 3, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 3, 1, 1, 1, 1],
    [1, 1, 1, 1, 1, 1, 1, 1, 3, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 1, 1],
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 1], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5],
]
"""


def weighted(**factors: list[float]) -> Distribution:
    return Distribution.from_json({name: {"weights": weights} for name, weights in factors.items()})


def paired(first: str, second: str, weights: Any) -> Distribution:
    table = np.asarray(weights, dtype=float).tolist()
    return Distribution.from_json({"pair": [{"factors": [first, second], "weights": table}]})
