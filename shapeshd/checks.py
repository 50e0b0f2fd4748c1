"""Checks of arguments that several modules share."""

from __future__ import annotations

import numpy as np

from .errors import UsageError


def whole_number(name: str, value: object, lowest: int, highest: int | None = None) -> int:
    """Return `value` as an int if it is a whole number in its range; NumPy's integers are, too.

    Raises:
        UsageError: naming the argument `name`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise UsageError(f"{name} must be an integer, not {value!r}")
    if value < lowest or (highest is not None and value > highest):
        allowed = (
            f"at least {lowest:,}" if highest is None else f"between {lowest:,} and {highest:,}"
        )
        raise UsageError(f"{name} must be {allowed}, not {value:,}")
    return int(value)
