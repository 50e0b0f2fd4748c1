"""Runs commands of the program in this process, which saves the start of another."""

from __future__ import annotations

import shlex
import sys

from shapeshd.cli.main import main


def shapeshd(*words: object) -> str:
    """Run a command as the shell would, and return its words.

    Raises:
        SystemExit: with its exit status, where that is not 0.
    """
    arguments = [str(word) for word in words]
    sys.argv = ["shapeshd", *arguments]  # what cards and reports say of their command
    text = shlex.join(sys.argv)
    print(text, file=sys.stderr, flush=True)
    try:
        main(arguments)
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    return text
