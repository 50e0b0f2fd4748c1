"""The input of an ONNX model that takes class labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from shapeshd.benchmark.sources.labels import Labels, choose_labels
from shapeshd.benchmark.sources.options import LabelForm, SourceOptions
from shapeshd.errors import UsageError, named

FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
_WHOLE = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_NAMES = ("c", "y", "label", "labels", "class", "classes", "class_label", "class_labels", "onehot")


class LabelInput:
    """What a model says of its input for labels.

    Args:
        entry: of onnxruntime: name, type and shape. Integers (n,) or (n, 1) are classes, other
            rows are one-hot.
        source: what the user called the model, for messages.

    Attributes:
        name: of the input.

    Raises:
        UsageError: if no label is of that form.
    """

    def __init__(self, entry: Any, source: str) -> None:
        self.name: str = entry.name
        self._shown = describe_entry(entry)
        shape = [fixed_length(axis) for axis in entry.shape]
        whole = entry.type in _WHOLE
        if not (whole or entry.type in FLOATS) or len(shape) not in (1, 2):
            raise UsageError(self._misfit(source))
        self._type = _WHOLE[entry.type] if whole else FLOATS[entry.type]
        self._rank = len(shape)
        self._form: LabelForm = "index" if whole and shape[1:] in ([], [1]) else "onehot"
        if self._form == "onehot" and self._rank != 2:
            raise UsageError(self._misfit(source))
        self._classes = shape[1] if self._form == "onehot" else None
        self._clear = whole or entry.name.lower() in _NAMES

    def choose(self, options: SourceOptions, source: str) -> Labels:
        """Return the labels that go in, as the model states or the user says.

        Raises:
            UsageError: as `choose_labels`; or if it is a guess that the input takes labels.
        """
        if not self._clear and options.labels is None and options.classes is None:
            raise UsageError(
                f"{source}: has a second input {self._shown}: if that takes class labels, give "
                f"{named('labels', 'uniform')}; it is not known otherwise"
            )
        return choose_labels(self._classes, source, options, self._form)

    def convert(self, labels: Tensor) -> np.ndarray[Any, Any]:
        """Return `labels`, (n,) or (n, classes), as the model takes them."""
        array = labels.cpu().numpy().astype(self._type, copy=False)
        return array.reshape(-1, 1) if self._rank == 2 and array.ndim == 1 else array

    def _misfit(self, source: str) -> str:
        return (
            f"{source}: its second input {self._shown} takes no class labels: integers (n,) or "
            "one-hot rows (n, classes)"
        )


def describe_entry(entry: Any) -> str:
    """Return name, type and shape of an input or output on one line."""
    return f"{entry.name} {entry.type} ({', '.join(str(axis) for axis in entry.shape or ())})"


def fixed_length(axis: object) -> int | None:
    """Return the length of an axis, or None where the model leaves it open."""
    return axis if isinstance(axis, int) and axis > 0 else None
