"""What changes with the steps of a phase: the learning rate, and values that follow a cosine."""

from __future__ import annotations

import math

from shapeshd.models.config import Schedule


def learning_rate_at(step: int, schedule: Schedule) -> float:
    """Return the learning rate of a step: a rise, then a cosine down to `final_rate`."""
    rise = min(1.0, (step + 1) / (schedule.warm_up + 1))
    fall = cosine_between(1.0, schedule.final_rate, step, schedule.steps)
    return schedule.learning_rate * rise * fall


def cosine_between(first: float, last: float, step: int, steps: int) -> float:
    """Return what goes along a cosine from `first` at step 0 to `last` after `steps`."""
    left = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return last + (first - last) * left
