"""Which arguments a function that makes images takes."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from torch import nn

SEEDS = "seeds"
"""The name of a first parameter that takes seeds in place of latents."""

_P = inspect.Parameter


class Arguments(NamedTuple):
    """What can, and what must, be given to a function.

    Attributes:
        first: the first parameter; None if nothing can be given by position.
        second: the next that can be given by position.
        needed: names of all but the first that have no default.
    """

    first: inspect.Parameter | None
    second: inspect.Parameter | None
    needed: list[str]


def arguments_of(function: Any) -> Arguments | None:
    """Return the arguments of a function, or of a network's forward pass; None if not known."""
    inner = function.forward if isinstance(function, nn.Module) else function
    try:
        parameters = list(inspect.signature(inner).parameters.values())
    except (TypeError, ValueError):  # some built-in functions have none
        return None
    by_position = [p for p in parameters if p.kind not in (_P.KEYWORD_ONLY, _P.VAR_KEYWORD)]
    optional = (_P.VAR_POSITIONAL, _P.VAR_KEYWORD)
    needed = [p.name for p in parameters[1:] if p.default is _P.empty and p.kind not in optional]
    first, second, *_ = [*by_position, None, None]
    return Arguments(first, second, needed)
