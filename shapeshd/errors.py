"""The errors that a user can mend."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_LONGEST = 300  # characters of a foreign message
_spelled_as_options = False  # of the process, not of a thread: decoders' threads raise errors, too


class ShapesHDError(Exception):
    """Something outside the program is wrong; the message says what and how to mend it.

    The command line prints the message on one line and exits with `exit_code`.
    """

    exit_code = 1


class UsageError(ShapesHDError, ValueError):
    """An argument is wrong, on its own or for this dataset (exit status 2)."""

    exit_code = 2


class DamagedShardError(ShapesHDError):
    """A shard cannot be read or does not hold what it says it holds."""


class InterruptedRunError(ShapesHDError):
    """The user or the system stopped a run; what is finished stays (exit status 130)."""

    exit_code = 130


class RendererError(ShapesHDError):
    """POV-Ray, or PyTorch where it is to trace the images, is missing, too old, or failed."""


class MissingPackageError(ShapesHDError, ImportError):
    """An optional package is needed; the message names the extra to install."""

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingPackageError:
        """Return the error for `package`, which the extra `extra` installs."""
        return cls(f"{purpose} needs {package}: pip install 'shapeshd[{extra}]'")


def require_posix() -> None:
    """Raise `ShapesHDError` on Windows, which lacks what reading and rendering are built on."""
    if not hasattr(os, "pread"):
        raise ShapesHDError("shapeshd runs on Linux and macOS; on Windows use WSL")


def one_line(error: BaseException) -> str:
    """Return the message of `error` on one line."""
    return " ".join(str(error).split())


def explain(error: BaseException) -> str:
    """Return the type and the message of a foreign error on one line, cut where it is long.

    A TorchScript error carries two tracebacks; its own message is the last line.
    """
    text = str(error)
    kind = type(error).__name__
    if "Traceback of TorchScript" in text:
        text = text.strip().splitlines()[-1]
        kind, _, text = text.partition(": ") if ": " in text else (kind, "", text)
    text = " ".join(text.split())
    if len(text) > _LONGEST:
        text = text[:_LONGEST].rstrip() + " ..."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # PyTorch's
        text = f"{text or 'out of memory'}: use a smaller {named('batch')}"
    return f"{kind}: {text}" if text else kind


def named(argument: str, value: object = True) -> str:
    """Spell an argument as the user gives it: ``--latent-dim`` to a command, else ``latent_dim``.

    Args:
        argument: its name in Python.
        value: that it has, or should have; True for a flag, or where no value is spoken of.
    """
    if _spelled_as_options:
        option = f"--{argument.replace('_', '-')}"
        return option if value is True else f"{option} {value}"
    return argument if value is True else f"{argument}={value!r}"


def with_argument_named(error: UsageError, arguments: Iterable[str]) -> UsageError:
    """Return `error` with the argument that its message begins with spelled as `named` does.

    Args:
        error: such as a configuration raises, which names a field of its own.
        arguments: names of those that the user gives.
    """
    name, space, rest = str(error).partition(" ")
    return UsageError(f"{named(name)} {rest}") if space and name in arguments else error


def names_are_options() -> bool:
    """Tell whether `named` spells arguments as a command's options."""
    return _spelled_as_options


@contextmanager
def names_as_options(spelled: bool = True) -> Iterator[None]:
    """Let messages spell arguments as options of the command line, not as Python does."""
    global _spelled_as_options
    before, _spelled_as_options = _spelled_as_options, spelled
    try:
        yield
    finally:
        _spelled_as_options = before
