"""Laws of factors that are biased on purpose, so that their divergence is known exactly.

A distribution is a table of probabilities over the joint bins; within a bin the factors are
uniform. So D = k sum p^2 - 1 and the term of every part follow from the table, without a sample.
One distribution remembers single images instead of bins: each sample repeats one of them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from shapeshd.benchmark.statistics.decomposition import HIGHER_ORDER
from shapeshd.factors import (
    BIN_SHAPE,
    NAMES,
    NUM_BINS,
    FloatArray,
    IntArray,
    from_unit,
    joint_bins,
    uniform_factors,
)

REMEMBERED = 82_943  # images, with which D = (k - 1) / N is 2
ROUNDING = 1e-10  # of a term that is 0
_COUNTERS = 2  # of Philox for a sample, each of four words
_AXES = range(len(BIN_SHAPE))
_DOMAIN = 77  # upper word of Philox's key: far from that of the dataset's factors


@dataclass(frozen=True, eq=False)
class Distribution:
    """A distribution of factors.

    Attributes:
        name: of its kind.
        text: what is wrong with it.
        p: probabilities of the joint bins, shape (k,), total 1.
        significant: parts that are to be named.
        remembered: factors (N, 6) of the images that it repeats; None if it draws new ones.
    """

    name: str
    text: str
    p: FloatArray
    significant: tuple[str, ...]
    remembered: FloatArray | None = None

    @property
    def divergence(self) -> float:
        """D, exactly."""
        divergence = _divergence(self.p)
        return 0.0 if abs(divergence) < ROUNDING else divergence

    def parts(self) -> dict[str, float]:
        """Return the term of every factor, pair and triple, and of the others, exactly."""
        table = self.p.reshape(BIN_SHAPE)

        def marginal(*axes: int) -> float:
            return _divergence(table.sum(axis=tuple(a for a in _AXES if a not in axes)))

        terms = {NAMES[axis]: marginal(axis) for axis in _AXES}
        for a, b in itertools.combinations(_AXES, 2):
            terms[f"{NAMES[a]} x {NAMES[b]}"] = marginal(a, b) - terms[NAMES[a]] - terms[NAMES[b]]
        for axes in itertools.combinations(_AXES, 3):
            names = [NAMES[axis] for axis in axes]
            inside = [*names, *map(" x ".join, itertools.combinations(names, 2))]
            terms[" x ".join(names)] = marginal(*axes) - sum(terms[name] for name in inside)
        terms[HIGHER_ORDER] = self.divergence - sum(terms.values())
        return {name: 0.0 if abs(term) < ROUNDING else term for name, term in terms.items()}

    def reduced_chi_square(self, samples: int) -> float:
        """Return the expectation of the reduced chi-square of so many samples, exactly."""
        return ((samples - 1) * self.divergence + NUM_BINS - 1) / (NUM_BINS - 1)

    def draw(self, seed: int, start: int, stop: int) -> FloatArray:
        """Return the factors (n, 6) of the samples `start` .. `stop` - 1.

        Row i is a function of (seed, i) alone.
        """
        unit = uniform_numbers(seed, start, stop)
        if self.remembered is not None:
            return self.remembered[(unit[:, 0] * len(self.remembered)).astype(np.int64)]
        bins = np.stack(np.unravel_index(self.bins(unit[:, 0]), BIN_SHAPE), axis=1)
        return from_unit(within(bins, unit[:, 1:7]))

    def bins(self, unit: FloatArray) -> IntArray:
        """Return the joint bins at which the cumulative distribution reaches `unit`."""
        if self.remembered is not None:
            rows = (unit * len(self.remembered)).astype(np.int64)
            return joint_bins(self.remembered)[rows]
        return np.searchsorted(self._limits, unit, side="right").astype(np.int64)

    @functools.cached_property
    def _limits(self) -> FloatArray:
        limits = np.cumsum(self.p)
        return limits / limits[-1]


def uniform_numbers(seed: int, start: int, stop: int) -> FloatArray:
    """Return 8 uniform numbers in [0, 1) for each of the samples `start` .. `stop` - 1."""
    generator = np.random.Philox(key=seed + (_DOMAIN << 64), counter=_COUNTERS * start)
    words = generator.random_raw(4 * _COUNTERS * (stop - start))
    return (words >> np.uint64(11)).reshape(stop - start, -1) * 2.0**-53


def within(bins: npt.NDArray[np.int64], unit: FloatArray) -> FloatArray:
    """Return points of the unit cube (n, 6) in these bins (n, 6), at `unit` of their widths."""
    return np.minimum((bins + unit) / BIN_SHAPE, np.nextafter((bins + 1) / BIN_SHAPE, 0))


def _divergence(p: FloatArray) -> float:
    return float(p.size * (p**2).sum() - 1)


def _table(density: FloatArray, *axes: int) -> FloatArray:
    """Return the probabilities (k,) of a density over some factors, uniform in all others."""
    shape = [BIN_SHAPE[axis] if axis in axes else 1 for axis in _AXES]
    table = np.broadcast_to(density.reshape(shape), BIN_SHAPE).ravel()
    return table / table.sum()


def _strength(density: Callable[[float], FloatArray], wanted: float, most: float) -> FloatArray:
    """Return the density of the strength in [0, most] that has the wanted divergence."""

    def excess(strength: float) -> float:
        values = density(strength)
        return _divergence(values / values.sum()) - wanted

    return density(optimize.brentq(excess, 0.0, most, xtol=1e-14))


def _tilt(axis: int, wanted: float) -> FloatArray:
    line = np.linspace(-1, 1, BIN_SHAPE[axis])
    return _strength(lambda strength: np.exp(strength * line), wanted, 20.0)


def _rarer(axis: int, bins: range, wanted: float) -> FloatArray:
    inside = np.isin(np.arange(BIN_SHAPE[axis]), bins).astype(np.float64)
    return _strength(lambda strength: 1 - strength * inside, wanted, 1.0)


def _same_hue(wanted: float) -> FloatArray:
    turns = np.subtract.outer(np.arange(12), np.arange(12)) / 12
    return 1 + np.sqrt(2 * wanted) * np.cos(2 * np.pi * turns)


def _shape_and_angle(wanted: float) -> FloatArray:
    angle = np.linspace(-1, 1, 6)
    product = np.multiply.outer([1.0, -1.0, 1.0, -1.0], angle)
    return 1 + np.sqrt(wanted / (product**2).mean()) * product


def _noise(wanted: float, seed: int) -> FloatArray:
    normal = np.random.default_rng(seed).standard_normal(NUM_BINS)
    return _strength(lambda strength: np.exp(strength * normal), wanted, 2.0)


def _unbiased() -> Distribution:
    return Distribution("unbiased", "none", np.full(NUM_BINS, 1 / NUM_BINS), ())


def _weak_tilt() -> Distribution:
    return Distribution("weak-tilt", "scale tilted", _table(_tilt(3, 0.02), 3), ("scale",))


def _tilted() -> Distribution:
    return Distribution("tilt", "scale tilted", _table(_tilt(3, 0.1), 3), ("scale",))


def _strong_tilt() -> Distribution:
    text = "orientation tilted strongly"
    return Distribution("strong-tilt", text, _table(_tilt(5, 1.0), 5), ("orientation",))


def _rare_hue() -> Distribution:
    text = "objects of four hues are rare"
    return Distribution("rare-hue", text, _table(_rarer(2, range(4, 8), 0.3), 2), ("object_hue",))


def _coupled() -> Distribution:
    text = "wall and object share their hue too often"
    return Distribution("coupled", text, _table(_same_hue(0.3), 1, 2), ("wall_hue x object_hue",))


def _no_spheres() -> Distribution:
    return Distribution("dropped", "no spheres", _table(np.array([1.0, 1, 0, 1]), 4), ("shape",))


def _shape_angle() -> Distribution:
    text = "the shape decides how objects are turned"
    table = _table(_shape_and_angle(0.05), 4, 5)
    return Distribution("shape-angle", text, table, ("shape x orientation",))


def _noisy() -> Distribution:
    density = _noise(0.5, seed=1)
    return Distribution(
        "noise", "every bin is more or less frequent", density / density.sum(), (HIGHER_ORDER,)
    )


def _memorised() -> Distribution:
    factors = uniform_factors(4_242, 0, REMEMBERED)
    counts = np.bincount(joint_bins(factors), minlength=NUM_BINS)
    text = f"repeats {REMEMBERED:,} images"
    return Distribution("memorised", text, counts / REMEMBERED, (HIGHER_ORDER,), factors)


def _mixture() -> Distribution:
    table = _table(_tilt(3, 0.03), 3) * _table(_same_hue(0.1), 1, 2) * _noise(0.1, seed=2)
    significant = ("wall_hue x object_hue", HIGHER_ORDER, "scale")
    text = "scale tilted, wall and object coupled, noise"
    return Distribution("mixture", text, table / table.sum(), significant)


def _demo() -> Distribution:
    table = _table(_tilt(3, 0.4), 3) * _table(_same_hue(0.6), 1, 2)
    text = "large objects preferred, wall and object share their hue too often"
    return Distribution("demo", text, table / table.sum(), ("wall_hue x object_hue", "scale"))


DISTRIBUTIONS: dict[str, Callable[[], Distribution]] = {
    "unbiased": _unbiased,
    "weak-tilt": _weak_tilt,
    "tilt": _tilted,
    "strong-tilt": _strong_tilt,
    "rare-hue": _rare_hue,
    "coupled": _coupled,
    "dropped": _no_spheres,
    "shape-angle": _shape_angle,
    "noise": _noisy,
    "memorised": _memorised,
    "mixture": _mixture,
    "demo": _demo,
}
"""What makes each distribution, by its name."""
