"""A score as an object: the numbers that matter as attributes, everything else in `result`."""

from __future__ import annotations

from typing import Any

from shapeshd.benchmark.report.formatting import with_interval
from shapeshd.benchmark.report.terminal import describe
from shapeshd.benchmark.statistics.u_statistic import Estimate
from shapeshd.factors import IntArray

from .fidelity import FidelityRecord
from .fit import EstimateRecord
from .schema import Result


class Score:
    """What `score` returns: the numbers that matter as attributes, all of them in `result`.

    `print` writes the table that the command line shows.

    Args:
        result: what ``result.json`` holds.
        counts: samples in each joint bin, int64 (k,).

    Attributes:
        result: all that is known, typed: ``result.fit`` is the test of all bins,
            ``result.decomposition.parts`` the parts of D with intervals and p-values,
            ``result.marginals`` and ``result.pairs`` the histograms of one and two factors,
            ``result.references`` and ``result.detection_limit`` what to compare with,
            ``result.source``, ``.images``, ``.recognizer`` and ``.run`` how it was measured.
        counts: samples in each joint bin, int64 (k,).
    """

    def __init__(self, result: Result, counts: IntArray) -> None:
        self.result = result
        self.counts = counts

    @property
    def samples(self) -> int:
        """How many samples were counted, n."""
        return self.result.samples

    @property
    def reduced_chi_square(self) -> Estimate:
        """The reduced chi-square at 20 samples per bin, predicted: 1 is ideal, at any n."""
        return _estimate(self.result.fit.prediction.reduced_chi_square)

    @property
    def divergence(self) -> Estimate:
        """The chi-square divergence D from the distribution: 0 is ideal, at any n."""
        return _estimate(self.result.fit.divergence)

    @property
    def significant(self) -> tuple[str, ...]:
        """The parts of D that differ significantly from 0, the largest first.

        Such as "scale" or "wall_hue x object_hue"; "higher_order" are the interactions of three
        factors and more.
        """
        return tuple(part.name for part in self.result.decomposition.significant)

    @property
    def passed(self) -> bool:
        """Whether no deviation is seen that the recognizer's errors cannot explain."""
        return self.result.verdict.passed

    @property
    def verdict(self) -> str:
        """What the score says, in a sentence or a few."""
        return self.result.verdict.text

    @property
    def fidelity(self) -> FidelityRecord | None:
        """Image fidelity; None if it was not measured."""
        return self.result.fidelity

    def to_json(self) -> dict[str, Any]:
        """Return all of it as a new dict, ready for JSON; `shapeshd compare` reads such a file."""
        return self.result.to_json()

    def __repr__(self) -> str:
        value = with_interval(self.reduced_chi_square)
        return f"Score(reduced_chi_square={value}, samples={self.samples:,}, passed={self.passed})"

    def __str__(self) -> str:
        return describe(self.result)


def _estimate(record: EstimateRecord) -> Estimate:
    return Estimate(record.value, record.standard_error, record.low, record.high, record.floor)
