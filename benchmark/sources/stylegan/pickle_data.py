"""Pickles read as data: nothing that a pickle names is ever imported, called or changed.

A pickle is a program for a small machine with a stack. Python's own machine imports what the
program names and calls it, and even with a restricted `find_class` it sets attributes on what it
was given, takes a memo index of four bytes for a reason to allocate 34 GB, and follows nested
values by recursion. This machine has no access to any of that: a name is looked up in a table of
our own functions, whatever is not in it ends the reading, and only plain containers and our own
stand-ins are ever built or changed. `pickletools` of Python splits the bytes into instructions.

The work is bounded by the file's length: every instruction takes a byte of it, and none
multiplies what is there. Values may refer to each other in cycles; who walks them must know
where to stop.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Table = Mapping[tuple[str, str], Callable[..., Any]]
"""(module, name) as a pickle gives them -> what is called in place of it."""

MOST_INSTRUCTIONS = 2_000_000
"""A StyleGAN2 network has some 20,000; each may leave a value of up to 100 bytes behind."""

_LARGE = 256  # bytes; longer strings of bytes are views of the file, not copies
_KEYS = (str, int, float, bytes, type(None))  # whose hash neither recurses nor runs code
_MARK = object()


class PickleError(Exception):
    """The bytes are no pickle, or one that this machine does not run; says why."""


class ForbiddenNameError(PickleError):
    """A pickle asks for something that is not in the table.

    Attributes:
        full_name: what, such as "os.system".
    """

    def __init__(self, module: str, name: str) -> None:
        self.full_name = f"{module}.{name}"
        super().__init__(f"asks for {self.full_name!r}")


@dataclass(frozen=True)
class Name:
    """What a pickle calls a class or a function; nothing but the name."""

    module: str
    name: str


class Opaque:
    """Stands for a value of which nothing is wanted, such as a NumPy array."""

    def __init__(self, *arguments: object) -> None:
        """Forget the arguments."""

    def build(self, state: object) -> None:
        """Forget the state."""


def read_pickle(
    data: bytes, table: Table, *, start: int = 0, persistent: Callable[[Any], Any] | None = None
) -> tuple[Any, int]:
    """Return what one pickle holds, and where it ends.

    Args:
        data: holds the pickle.
        table: what its names stand for. A function there is called with the arguments of the
            pickle and must check them; what it returns may have a method `build` for the state.
        start: where the pickle begins in `data`.
        persistent: what a persistent id stands for; None refuses all.

    Returns:
        The value, made of None, numbers, str, bytes (long ones as a memoryview of `data`), tuple,
        list (sets are lists), dict, `Name` and what the table's functions return; and one past
        its last byte.

    Raises:
        ForbiddenNameError: at the first name that is not in `table`.
        PickleError: if it is cut off, damaged, or holds what it should not.
    """
    file = io.BytesIO(data)
    file.seek(start)
    machine = _Machine(memoryview(data), table, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count == MOST_INSTRUCTIONS:
                raise PickleError(f"has more than {MOST_INSTRUCTIONS:,} instructions")
            machine.run(opcode.name, argument, file.tell())
        return machine.result(), file.tell()
    except PickleError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError) as error:
        # Raised by pickletools on damaged bytes, and by the machine if a value is of another
        # kind than its instruction needs.
        what = " ".join(str(error).split()) or type(error).__name__
        raise PickleError(f"is cut off or damaged ({what[:160]})") from None


class _Machine:
    def __init__(
        self, data: memoryview, table: Table, persistent: Callable[[Any], Any] | None
    ) -> None:
        self._data = data
        self._table = table
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        (value,) = self._stack
        return value

    def run(self, name: str, argument: Any, end: int) -> None:
        """Do one instruction, whose bytes end at `end`."""
        stack = self._stack
        if name in _IGNORED:
            return
        if name in _ARGUMENTS:
            stack.append(argument)
        elif name in _BYTES:
            large = len(argument) > _LARGE
            stack.append(self._data[end - len(argument) : end] if large else argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _GETS:
            stack.append(self._memo[argument])
        elif name in _PUTS:
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(self._top(count))]
        else:
            doing = _OTHERS.get(name)
            if doing is None:
                raise PickleError(f"has the instruction {name}, which networks do without")
            doing(self, argument)

    def _top(self, count: int) -> list[Any]:
        if len(self._stack) < count or _MARK in self._stack[-count:]:
            raise PickleError("is damaged (it takes from an empty stack)")
        return self._stack[-count:]

    def _pop(self) -> Any:
        (value,) = self._top(1)
        del self._stack[-1]
        return value

    def _from_mark(self) -> list[Any]:
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                values = self._stack[place + 1 :]
                del self._stack[place:]
                return values
        raise PickleError("is damaged (there is no mark)")

    def _append(self, _: Any) -> None:
        self._extend([self._pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._from_mark())

    def _extend(self, values: list[Any]) -> None:
        (target,) = self._top(1)
        if not isinstance(target, list):
            raise PickleError("is damaged (it appends to what is no list)")
        target.extend(values)

    def _set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    def _set_items(self, _: Any) -> None:
        self._update(self._from_mark())

    def _update(self, values: list[Any]) -> None:
        (target,) = self._top(1)
        if not isinstance(target, dict) or len(values) % 2:
            raise PickleError("is damaged (it sets items of what is no dictionary)")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, _KEYS):
                raise PickleError(f"has {type(key).__name__} for a key of a dictionary")
            target[key] = value

    def _mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._from_mark()))

    def _drop(self, _: Any) -> None:
        self._pop()

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._name(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError("is damaged (a name is no text)")
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        if (module, name) not in self._table:
            raise ForbiddenNameError(module[:60], name[:60])
        self._stack.append(Name(module, name))

    def _reduce(self, _: Any) -> None:
        arguments, called = self._pop(), self._pop()
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise PickleError("is damaged (it calls what is no name)")
        self._stack.append(self._table[called.module, called.name](*arguments))

    def _build(self, _: Any) -> None:
        state = self._pop()
        (target,) = self._top(1)
        if not hasattr(target, "build"):
            raise PickleError(f"sets the state of {type(target).__name__}")
        target.build(state)

    def _persistent_id(self, _: Any) -> None:
        if self._persistent is None:
            raise PickleError("refers to something outside of it (a persistent id)")
        self._stack.append(self._persistent(self._pop()))


_IGNORED = {"PROTO", "FRAME", "STOP"}
_ARGUMENTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_ARGUMENTS |= {"SHORT_BINUNICODE", "BINUNICODE"}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
_GETS = {"BINGET", "LONG_BINGET"}
_PUTS = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
_OTHERS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "POP": _Machine._drop,
    "TUPLE": _Machine._tuple,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "ADDITEMS": _Machine._appends,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._reduce,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._persistent_id,
}
