"""The FactorVAE score: can the factor that is held fixed be told from what varies least?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shapeshd.errors import UsageError, named
from shapeshd.factors import FloatArray, IntArray

from .information import check_codes

_AT_A_TIME = 1000  # groups, so that their codes take little memory


class FactorVAEScore(NamedTuple):
    """How often the majority vote is right.

    Attributes:
        accuracy: over the groups that were set aside for testing, in [0, 1]; guessing gives 1 / k.
        standard_error: of it, binomial.
        accuracies: (factors,), of the groups in which each factor was fixed.
        votes: int (components, factors), of the training groups.
        used: bool (components,), whether a component varies enough to vote.
    """

    accuracy: float
    standard_error: float
    accuracies: FloatArray
    votes: IntArray
    used: npt.NDArray[np.bool_]


def factor_vae_score(
    codes: FloatArray,
    factors: FloatArray,
    circular: tuple[int, ...] = (),
    *,
    seed: int = 0,
    group: int = 64,
    train: int = 10_000,
    test: int = 5_000,
    smallest_variance: float = 0.05,
) -> FactorVAEScore:
    """Return the score of Kim & Mnih 2018 (arXiv:1802.05983), section 4.

    In a group of images one factor is fixed. Each component of the codes is divided by its
    standard deviation over all images; the one with the least variance in the group is the group's
    vote. The classifier says, of each component, which factor was fixed most often where it got
    the vote. Components whose variance over all images is below `smallest_variance` do not vote.

    Images are those at hand, none is made anew. A factor with few values is fixed at one of them; a
    continuous one within the `group` images that stand next to each other when all are ordered by
    it: of 10,000 images and 64 in a group that is 0.6% of its range.

    Args:
        codes: (n, d), for a prior of variance 1; d >= 2.
        factors: (n, k).
        circular: numbers of the factors whose ends meet, as hues' do.
        seed: draws the groups.
        group: images in one, at least 2 and at most n.
        train: groups that vote.
        test: groups that are told by the votes.
        smallest_variance: see above; 0.05 is that of Locatello et al. 2019.

    Raises:
        UsageError: as `mutual_information_gap`; if a number is impossible; if no component varies
            by as much as `smallest_variance`.
    """
    check_codes(codes, factors)
    if not 2 <= group <= len(codes):
        raise UsageError(f"a group must have 2 to {len(codes)} images, not {group}")
    if train < 1 or test < 1:
        raise UsageError(f"there must be groups to train and to test on, not {train} and {test}")
    variance = codes.var(0)
    used = variance >= smallest_variance
    if not used.any():
        if not variance.any():
            raise UsageError("all codes are the same: the encoder tells no image from another")
        raise UsageError(
            f"no component of the codes has a variance of {smallest_variance:g} (the largest is "
            f"{variance.max():.3g}): lower {named('smallest_variance')}"
        )
    scaled = codes[:, used] / np.sqrt(variance[used])
    rng = np.random.default_rng(seed)
    rows = [_Fixed(column, group, number in circular) for number, column in enumerate(factors.T)]
    names = np.flatnonzero(used)
    votes = np.zeros((codes.shape[1], len(rows)), dtype=np.int64)
    fixed = rng.integers(len(rows), size=train)
    np.add.at(votes, (names[_least_varying(scaled, rows, fixed, rng)], fixed), 1)
    told = votes.argmax(1)
    fixed = rng.integers(len(rows), size=test)
    right = told[names[_least_varying(scaled, rows, fixed, rng)]] == fixed
    accuracy = float(right.mean())
    tested = np.maximum(np.bincount(fixed, minlength=len(rows)), 1)
    each = np.bincount(fixed, right, len(rows)) / tested
    error = float(np.sqrt(accuracy * (1 - accuracy) / test))
    return FactorVAEScore(accuracy, error, each, votes, used)


class _Fixed:
    """Draws groups of images in which one factor is fixed; see `factor_vae_score`."""

    def __init__(self, values: FloatArray, group: int, circular: bool) -> None:
        self._group, self._circular = group, circular
        self._order = np.argsort(values, kind="stable")
        _, self._first, self._counts = np.unique(
            values[self._order], return_index=True, return_counts=True
        )
        self._few = len(self._first) * group <= len(values)

    def draw(self, groups: int, rng: np.random.Generator) -> IntArray:
        """Return the images of each group, (groups, group), of few values with replacement."""
        images = len(self._order)
        if self._few:
            value = np.searchsorted(self._first, rng.integers(images, size=groups), "right") - 1
            within = rng.random((groups, self._group)) * self._counts[value, None]
            return self._order[self._first[value, None] + within.astype(np.int64)]
        starts = images if self._circular else images - self._group + 1
        places = rng.integers(starts, size=(groups, 1)) + np.arange(self._group)
        return self._order[places % images]


def _least_varying(
    codes: FloatArray, rows: list[_Fixed], fixed: IntArray, rng: np.random.Generator
) -> IntArray:
    """Return the component that varies least in a group of each factor that is `fixed`."""
    found = np.empty(len(fixed), dtype=np.int64)
    for factor, drawn in enumerate(rows):
        groups = np.flatnonzero(fixed == factor)
        for some in np.array_split(groups, max(1, -(-len(groups) // _AT_A_TIME))):
            found[some] = codes[drawn.draw(len(some), rng)].var(1).argmin(1)
    return found
