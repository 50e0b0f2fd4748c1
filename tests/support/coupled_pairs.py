"""Distributions of one coupled pair of factors, and samples of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from shapeshd.benchmark.statistics.coupled import Block
from shapeshd.distribution import Distribution, FactorGroup


def distribution_of_pair(
    table: Any, first: str = "scale", second: str = "orientation"
) -> Distribution:
    """Return a distribution that couples two factors by joint weights."""
    rows = np.asarray(table, dtype=float).tolist()
    return Distribution.from_json({"pair": [{"factors": [first, second], "weights": rows}]})


def block_of(table: Any) -> Block:
    """Return the block of scale and shape with these joint weights, (4, 4)."""
    table = np.asarray(table, dtype=float)
    return Block.of(FactorGroup((3, 4), table / table.sum()))


def sampled(p: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return the counts of n samples."""
    return np.random.default_rng(seed).multinomial(n, p)
