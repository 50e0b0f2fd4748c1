"""The errors that a user can mend."""

from __future__ import annotations

import os


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
