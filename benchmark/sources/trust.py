"""Asks for `--trust` before code that came with a source runs."""

from __future__ import annotations

from shapeshd.errors import UsageError, named

TORCHSCRIPT_RUNS = "a TorchScript file holds code that runs when it is used"
PYTHON_RUNS = "a Python file is code that runs here"


def require_trust(trust: bool, name: str, danger: str, more: str = "") -> None:
    """Raise `UsageError` unless the user trusts the code that `name` can run.

    Args:
        trust: whether the user does.
        name: what the user called the source.
        danger: why trust is needed, as in `SourceKind`: "a TorchScript file holds code that runs
            when it is used".
        more: what else is missing, and asked for in the same message.
    """
    if not trust:
        raise UsageError(
            f"{name}: {danger}, which can do anything that you can do: add "
            f"{named('trust')} if you know where it comes from" + (f", and {more}" if more else "")
        )
