"""Class labels of a conditional generator: which are drawn, and what the network is given.

The label of sample i is a function of (seed, i) alone, of a stream beside those of the latents
(`latents.sample_choices`), so a run that is resumed or shared out sees the same labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shapeshd.checks import whole_number
from shapeshd.errors import UsageError, named
from shapeshd.support.device import moved

from .latents import MAX_CHOICES, sample_choices
from .option_values import UNIFORM, parse_labels
from .options import LabelForm, SourceOptions

_STATED = ("num_classes", "c_dim")


@dataclass(frozen=True)
class Labels:
    """Labels of a generator's samples.

    Attributes:
        classes: how many the generator knows; they are numbered from 0.
        drawn: those that are drawn, each as likely as any other.
        text: how the user named them.
        form: what the network takes: "onehot", a row with a 1 at the class, or "index".
    """

    classes: int
    drawn: range | tuple[int, ...]
    text: str
    form: LabelForm

    def numbers(self, seed: int, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the classes of the samples `start` .. `stop` - 1: int64 (n,)."""
        chosen = sample_choices(seed, start, stop, len(self.drawn))
        return np.asarray(self.drawn, dtype=np.int64)[chosen]

    def draw(self, seed: int, start: int, stop: int, device: torch.device | str) -> Tensor:
        """Return the labels of the samples `start` .. `stop` - 1 as the network takes them.

        Args:
            seed: of the latents, too.
            start: first sample, >= 0.
            stop: one past the last sample, >= `start`.
            device: where they are put.

        Returns:
            float32 (n, classes) or int64 (n,).
        """
        numbers = torch.from_numpy(self.numbers(seed, start, stop))
        if self.form == "index":
            return moved(numbers, device)
        rows = torch.zeros(len(numbers), self.classes)
        rows[torch.arange(len(numbers)), numbers] = 1
        return moved(rows, device)

    def describe(self) -> dict[str, Any]:
        """Return what a result must say of them, ready for JSON."""
        return {"classes": self.classes, "labels": self.text, "label_form": self.form}


def choose_labels(stated: int | None, name: str, options: SourceOptions, form: LabelForm) -> Labels:
    """Return the labels of a conditional generator, as the model states or the user says.

    Args:
        stated: classes that the model says it has; None if it is silent.
        name: what the user called it.
        options: `labels` and `classes`, as the user says.
        form: what the model takes.

    Raises:
        UsageError: if neither says how many classes there are, they differ, or a label is beyond.
    """
    classes = options.classes
    if stated is None and classes is None:
        raise UsageError(
            f"{name}: takes a class label with every latent, but does not say how many classes "
            f"there are: give {named('classes')}"
        )
    if None not in (stated, classes) and stated != classes:
        raise UsageError(
            f"{name}: has {stated} classes, not {classes}: leave out {named('classes')}"
        )
    count = whole_number(named("classes"), stated if classes is None else classes, 1, MAX_CHOICES)
    text = UNIFORM if options.labels is None else options.labels
    ranges = parse_labels(text)
    if ranges is None:
        return Labels(count, range(count), text, form)
    most = max(last for _, last in ranges)
    if most >= count:
        raise UsageError(
            f"{name}: has {count} classes, numbered 0 to {count - 1}: "
            f"{named('labels', text)} goes beyond"
        )
    drawn = tuple(label for first, last in ranges for label in range(first, last + 1))
    return Labels(count, drawn, text, form)


def stated_classes(holder: object) -> int | None:
    """Return the attribute `num_classes` or `c_dim` of `holder` if it is a sensible number."""
    for attribute in _STATED:
        value = getattr(holder, attribute, None)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_CHOICES:
            return value
    return None


def refuse_labels(options: SourceOptions, name: str, what: str) -> None:
    """Raise `UsageError` if the user speaks of labels, but `name` takes none as it is `what`."""
    for option in ("labels", "classes", "label_form"):
        if getattr(options, option) is not None:
            raise UsageError(
                f"{name}: {what}, with no place for class labels: leave out {named(option)}"
            )
