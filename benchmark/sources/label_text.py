"""How a user names class labels: "uniform", "3", "3,5,9" or "0-9"."""

from __future__ import annotations

import re
from typing import Literal, get_args

from shapeshd.errors import UsageError

LabelForm = Literal["onehot", "index"]
LABEL_FORMS: tuple[LabelForm, ...] = get_args(LabelForm)

UNIFORM = "uniform"
_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def parse_labels(text: str) -> list[tuple[int, int]] | None:
    """Return the ranges (first, last) of a text such as "3", "3,5,9" or "0-9".

    Returns:
        The ranges in the order of the text; None for "uniform", all classes.

    Raises:
        UsageError: if it is no such text, or names a class twice.
    """
    if text == UNIFORM:
        return None
    ranges = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"--labels must be uniform, 3, 3,5,9 or 0-9, not {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(f"--labels: the range {part.strip()} ends before it begins")
        ranges.append((first, last))
    end = -1
    for first, last in sorted(ranges):
        if first <= end:
            raise UsageError(f"--labels: names the class {first} twice, but all are as likely")
        end = last
    return ranges
