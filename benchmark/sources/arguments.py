"""Which arguments a function that makes images takes."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from torch import nn

from shapeshd.errors import UsageError, named

from .options import HANDED_ON, SourceOptions

PARAMETERS = {parameter for names in HANDED_ON.values() for parameter in names}
"""Names of parameters that take options."""

SEEDS = "seeds"
"""The name of a first parameter that takes seeds in place of latents."""

_P = inspect.Parameter


class Arguments(NamedTuple):
    """What can, and what must, be given to a function.

    Attributes:
        first: the first parameter; None if nothing can be given by position.
        second: the next that can be given by position.
        needed: names of all but the first that have no default.
        names: of all that can be given by name; None if any can.
    """

    first: inspect.Parameter | None
    second: inspect.Parameter | None
    needed: list[str]
    names: list[str] | None


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
    named_ones = [
        p.name for p in parameters if p.kind in (_P.KEYWORD_ONLY, _P.POSITIONAL_OR_KEYWORD)
    ]
    anything = any(p.kind is _P.VAR_KEYWORD for p in parameters)
    return Arguments(first, second, needed, None if anything else named_ones)


def set_options(options: SourceOptions) -> dict[str, Any]:
    """Return the options of `HANDED_ON` that are set, by their names."""
    values = {option: getattr(options, option) for option in HANDED_ON}
    return {option: value for option, value in values.items() if value is not None}


def handed_on(function: Any, options: SourceOptions, name: str) -> dict[str, Any]:
    """Return the options that a function gets by name, such as ``truncation_psi=0.7``.

    Args:
        function: of the user's.
        options: those of `HANDED_ON` that are set are wanted.
        name: what the user called it.

    Raises:
        UsageError: if it has no parameter for one that is set.
    """
    handed = {}
    arguments = arguments_of(function)
    for option, value in set_options(options).items():
        parameters = HANDED_ON[option]
        names = None if arguments is None else arguments.names
        found = [one for one in parameters if names is not None and one in names]
        if not found:
            raise UsageError(
                f"{name}: has no parameter {' or '.join(parameters)}: leave out {named(option)}"
            )
        handed[found[0]] = value
    return handed
