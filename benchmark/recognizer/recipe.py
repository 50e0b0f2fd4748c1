"""How the recognizers that come with the program were trained, which is the default of a training.

Nothing here imports PyTorch, so that the command line can show it.
"""

from __future__ import annotations

from dataclasses import dataclass

from .find import shipped_for

MOST_HELD_OUT, SHARE_HELD_OUT = 10_000, 1 / 20


@dataclass(frozen=True)
class Recipe:
    """What differs between the trainings of ``lite`` and ``hd``.

    Attributes:
        images: shown in all, repetitions included.
        learning_rate: of Adam, at its highest.
        start_from: the recognizer whose weights are taken over; None for none.
    """

    images: int
    learning_rate: float
    start_from: str | None


RECIPES = {
    "lite": Recipe(images=700_000, learning_rate=2e-3, start_from=None),
    "hd": Recipe(images=160_000, learning_rate=1e-3, start_from="lite"),
}


def recipe_for(side: int) -> Recipe:
    """Return the recipe of the shipped recognizer for images of `side` pixels."""
    return RECIPES[shipped_for(side)]


def default_held_out(images: int) -> int:
    """Return how many of a dataset's `images` are held out: a twentieth, at most 10,000."""
    return max(1, min(MOST_HELD_OUT, int(images * SHARE_HELD_OUT)))
