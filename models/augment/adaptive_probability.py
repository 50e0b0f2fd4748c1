"""Adapts how often the discriminator's images are transformed (Karras et al. 2020, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from shapeshd.checks import whole_number
from shapeshd.errors import ShapesHDError, UsageError


@dataclass
class AdaptiveProbability:
    """The probability p of a transform, controlled by r_t = E[sign(D(real))] (section 3).

    r_t is 0 without overfitting and 1 if it is complete.

    Every `interval` steps p moves by a fixed amount, up if r_t exceeds its target and down if it
    falls short.

    Attributes:
        target: of r_t, in [-1, 1].
        interval: steps of the discriminator between two moves.
        kimg: thousands of real images in which p can go from 0 to 1.
        p: the probability now, in [0, 1].
        measured: r_t at the last move; None before the first.
        total: sum of the signs since then.
        count: how many they are.
        steps: steps since then.
    """

    target: float = 0.6
    interval: int = 4
    kimg: float = 500.0
    p: float = 0.0
    measured: float | None = None
    total: float | Tensor = 0.0
    count: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        whole_number("interval", self.interval, 1)
        for name, low, high in (("target", -1.0, 1.0), ("kimg", 1e-6, 1e9), ("p", 0.0, 1.0)):
            if not low <= getattr(self, name) <= high:
                raise UsageError(
                    f"{name} of the augmentation must be between {low:g} and {high:g}, not "
                    f"{getattr(self, name)!r}"
                )

    def observe(self, sum_of_signs: float | Tensor, count: int) -> None:
        """Take in a step, of all processes.

        Args:
            sum_of_signs: of D's logits of the whole batch's real images, as they are augmented.
                A tensor stays on its device until p moves.
            count: how many they are.

        Raises:
            ShapesHDError: if the sum is no number when p is to move.
        """
        if isinstance(sum_of_signs, Tensor):
            sum_of_signs = sum_of_signs.detach()
        self.total = self.total + sum_of_signs
        self.count += count
        self.steps += 1
        if self.steps < self.interval:
            return
        self.measured = float(self.total) / self.count
        if not math.isfinite(self.measured):
            raise ShapesHDError(
                "the discriminator's outputs are no numbers: the training has diverged; lower "
                "its learning rate"
            )
        direction = (self.measured > self.target) - (self.measured < self.target)
        self.p = min(max(self.p + direction * self.count / (1000 * self.kimg), 0.0), 1.0)
        self.total, self.count, self.steps = 0.0, 0, 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {**vars(self), "total": float(self.total)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AdaptiveProbability:
        """Return what `to_json` wrote.

        Raises:
            UsageError: if a field is missing, unknown or out of its range.
        """
        names = {item.name for item in fields(cls)}
        for name in sorted(values.keys() ^ names):
            state = "lacks the" if name in names else "has no"
            raise UsageError(f"the state of the augmentation {state} field {name!r}")
        return cls(**values)
