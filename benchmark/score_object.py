"""`Score`: what a score in a program of one's own comes out as."""

from __future__ import annotations

from typing import Any

from shapeshd.factors import IntArray

from .report.terminal import describe
from .result.fidelity import FidelityRecord
from .result.fit import CollapseRecord
from .result.formatting import with_interval
from .result.image_check import CorrectedRecord, ImageCheckRecord
from .result.schema import Result
from .result.source_checks import NearCopiesRecord, RepeatsRecord
from .statistics.intervals import Estimate
from .statistics.record import EstimateRecord


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
        """The reduced chi-square predicted at 20 samples per bin; ideally 1."""
        return _estimate(self.result.fit.prediction.reduced_chi_square)

    @property
    def divergence(self) -> Estimate:
        """The chi-square divergence D from the distribution; ideally 0."""
        return _estimate(self.result.fit.divergence)

    @property
    def significant(self) -> tuple[str, ...]:
        """The parts of D that differ significantly from 0, the largest first.

        Such as "scale" or "wall_hue x object_hue"; "higher_order" are the interactions of four
        factors and more.
        """
        return tuple(part.name for part in self.result.decomposition.significant)

    @property
    def passed(self) -> bool:
        """Whether no deviation is seen that the recognizer's errors cannot explain."""
        return self.result.verdict.passed

    @property
    def collapse(self) -> CollapseRecord | None:
        """How many bins are occupied, if the source has collapsed to a few kinds of images.

        That are fewer than a tenth of the bins that as many samples of the distribution occupy.
        """
        return self.result.collapse

    @property
    def verdict(self) -> str:
        """What the score says, in a sentence or a few."""
        return self.result.verdict.text

    @property
    def image_check(self) -> ImageCheckRecord | None:
        """How a few hundred samples look beside their re-renders; None if that was not looked at.

        ``ok`` says whether they look like the dataset, ``change`` names what was done to them, and
        ``attenuation`` says what the errors of reading them leave of a divergence.
        """
        return self.result.image_check

    @property
    def corrected_divergence(self) -> CorrectedRecord | None:
        """D, corrected for these errors in its fine structure; None where they are not known."""
        return self.result.corrected

    @property
    def fidelity(self) -> FidelityRecord | None:
        """Image fidelity; None if it was not measured."""
        return self.result.fidelity

    @property
    def repeats(self) -> RepeatsRecord | None:
        """Equal images among the samples; ``copies`` is 0 if there are none."""
        return self.result.repeats

    @property
    def near_copies(self) -> NearCopiesRecord | None:
        """Images that nearly equal another one; ``copies`` is 0 if there are none."""
        return self.result.near_copies

    @property
    def reproducible(self) -> bool | None:
        """Whether the generator makes the same images again; None of images that exist."""
        found = self.result.reproducibility
        return None if found is None else found.same

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
