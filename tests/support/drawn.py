"""A source whose images follow a known distribution of the factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from shapeshd.distribution import Distribution
from shapeshd.factors import IntArray, joint_bins

from .fake_scores import Written


class Drawn(Written):
    """A source of a distribution, which may put every so-many-th sample elsewhere."""

    def __init__(self, distribution: Distribution, *, stray: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        self.drawn, self.stray = distribution, stray

    def bins(self, start: int, stop: int) -> IntArray:
        found = joint_bins(self.drawn.factors(self.seed, start, stop))
        if self.stray:
            elsewhere = int(np.flatnonzero(self.drawn.expected() == 0)[5])
            found = np.where(np.arange(start, stop) % self.stray, found, elsewhere)
        return found


def no_spheres() -> Distribution:
    """Return a distribution of three shapes in which large objects are frequent."""
    return Distribution.from_json(
        {"shape": {"weights": [1, 2, 0, 1]}, "scale": {"weights": [1, 1, 2, 4]}}
    )
