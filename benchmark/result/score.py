"""A score as an object: the numbers that matter, and everything else by its key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from shapeshd.benchmark.report.formatting import with_interval
from shapeshd.benchmark.report.table import significant_parts
from shapeshd.benchmark.report.terminal import describe
from shapeshd.benchmark.statistics.u_statistic import Estimate
from shapeshd.factors import IntArray


class Score(Mapping[str, Any]):
    """What `score` returns: a mapping of all that ``result.json`` holds, with attributes.

    `print` writes the table that the command line shows. Of the keys these matter most:

    ``fit``
        the test: ``chi_square``, ``reduced_chi_square`` at this n, ``p_value``, ``divergence``
        and ``prediction`` with intervals, ``distances`` (KL, total variation), ``empty_bins``;
    ``decomposition``
        ``parts``: of D, for each factor, each pair and the rest, with interval and p-value;
    ``verdict``
        ``passed`` and ``text``;
    ``marginals``, ``pairs``
        histograms of one and two factors;
    ``references``
        the ideal sampler, real images and the memorizer, for comparison;
    ``detection_limit``
        the smallest divergence that so many samples can tell from 0;
    ``source``, ``images``, ``recognizer``, ``run``
        what was scored, how it was read, where and how fast.

    Args:
        result: what ``result.json`` holds.
        counts: samples in each joint bin, int64 (k,).

    Attributes:
        counts: the same.
    """

    def __init__(self, result: Mapping[str, Any], counts: IntArray) -> None:
        self._result = dict(result)
        self.counts = counts

    @property
    def samples(self) -> int:
        """How many samples were counted, n."""
        return int(self["samples"])

    @property
    def reduced_chi_square(self) -> Estimate:
        """The reduced chi-square at 20 samples per bin, predicted: 1 is ideal, at any n."""
        return _estimate(self["fit"]["prediction"]["reduced_chi_square"])

    @property
    def divergence(self) -> Estimate:
        """The chi-square divergence D from the distribution: 0 is ideal, at any n."""
        return _estimate(self["fit"]["divergence"])

    @property
    def significant(self) -> tuple[str, ...]:
        """The parts of D that differ from 0, the largest first.

        Such as "scale", "wall_hue x object_hue", or "rest" for three factors and more.
        """
        return tuple(part["name"] for part in significant_parts(self))

    @property
    def passed(self) -> bool:
        """Whether no deviation is seen that the recognizer's errors cannot explain."""
        return bool(self["verdict"]["passed"])

    @property
    def verdict(self) -> str:
        """What the score says, in a sentence or a few."""
        return str(self["verdict"]["text"])

    def to_json(self) -> dict[str, Any]:
        """Return all of it as a new dict, ready for JSON; `shapeshd compare` reads such a file."""
        copied: dict[str, Any] = json.loads(json.dumps(self._result))
        return copied

    def __getitem__(self, key: str) -> Any:
        return self._result[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._result)

    def __len__(self) -> int:
        return len(self._result)

    def __repr__(self) -> str:
        value = with_interval(self.reduced_chi_square.to_json())
        return f"Score(reduced_chi_square={value}, samples={self.samples:,}, passed={self.passed})"

    def __str__(self) -> str:
        return describe(self)


def _estimate(values: Mapping[str, float]) -> Estimate:
    fields = ("value", "standard_error", "low", "high", "floor")
    return Estimate(**{name: values[name] for name in fields})
