"""Finds the networks that a function uses, which must be in evaluation mode while it is scored."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

from shapeshd.support.progress import note

_DEEPEST = 6
_MOST = 20_000
"""Objects that are looked at, and how many steps from the function: a program can be large."""

_CONTAINERS = (list, tuple, set, frozenset)
_PLAIN = (str, bytes, int, float, complex, bool, type(None), range, slice)
_NOT_THEIRS = frozenset({*sys.stdlib_module_names, "torch", "numpy", "scipy", "shapeshd"} - {
    "__main__"
})  # fmt: skip


def networks_of(function: Any) -> list[nn.Module]:
    """Return the networks that a function reaches, each one once, without their parts.

    That is what it is, or is a method of; what it encloses, has as a default, or names of its
    module's variables; what those hold as attributes or items; and the same of the functions that
    it calls. Nothing of it is run: a network that is made only when it is called is not found.

    Args:
        function: an nn.Module, a function, a method, a partial, or any object that is called.
    """
    found: dict[int, nn.Module] = {}
    seen: set[int] = set()
    waiting: deque[tuple[Any, int]] = deque([(function, 0)])
    kept: list[Any] = []  # so that no other object gets the number of one that was looked at
    while waiting and len(seen) < _MOST:
        value, depth = waiting.popleft()
        if id(value) in seen or isinstance(value, _PLAIN):
            continue
        seen.add(id(value))
        kept.append(value)
        if isinstance(value, nn.Module):
            found[id(value)] = value
            seen.update(map(id, value.modules()))
        elif depth < _DEEPEST:
            waiting.extend((inner, depth + 1) for inner in _inside(value))
    parts = {
        id(part) for network in found.values() for part in network.modules() if part is not network
    }
    return [network for key, network in found.items() if key not in parts]


class Evaluated:
    """A function whose networks are in evaluation mode when it is first called.

    One that makes its networks in its first call is called again. What it does itself, such as
    ``G.train()`` before it draws, stays as it is.

    Args:
        function: what makes images.

    Attributes:
        changed: names of the classes of networks that were in training mode when it was loaded.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._first = function, True
        self.changed = self._evaluate()

    def __call__(self, *given: Any, **handed: Any) -> Any:
        """Return what the function returns."""
        made = self._function(*given, **handed)
        if self._first:
            self._first = False
            if made_now := self._evaluate():
                note(f"put into evaluation mode: {', '.join(made_now)}")
                made = self._function(*given, **handed)
        return made

    def _evaluate(self) -> list[str]:
        changed = set()
        for network in networks_of(self._function):
            if any(part.training for part in network.modules()):
                changed.add(type(network).__name__)
            network.eval()
        return sorted(changed)


def _inside(value: Any) -> Iterator[Any]:
    """Yield what an object holds or a function uses."""
    if isinstance(value, FunctionType):
        yield from _used_by(value)
    elif isinstance(value, MethodType):
        yield value.__self__
        yield value.__func__
    elif isinstance(value, functools.partial):
        yield value.func
        yield from value.args
        yield from value.keywords.values()
    elif isinstance(value, dict):
        yield from list(value.values())
    elif isinstance(value, _CONTAINERS):
        yield from list(value)
    elif not isinstance(value, (type, ModuleType)) and not _is_foreign(type(value).__module__):
        yield from list(getattr(value, "__dict__", {}).values())
        call = vars(type(value)).get("__call__")
        if isinstance(call, FunctionType):
            yield call


def _used_by(function: FunctionType) -> Iterator[Any]:
    """Yield what a function encloses, has as defaults, and takes from its module and others."""
    if _is_foreign(function.__module__):
        return
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # nothing is in it yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from vars(function).values()  # also the function that a decorator has wrapped
    names = _names(function.__code__)
    for name in names:
        value = function.__globals__.get(name)
        if not isinstance(value, ModuleType):
            yield value
        elif not _is_foreign(value.__name__):
            yield from (vars(value).get(inner) for inner in names)


def _names(code: CodeType) -> set[str]:
    """Return the names of variables and attributes in a function and in those that it defines."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names(constant)
    return found


def _is_foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _NOT_THEIRS
