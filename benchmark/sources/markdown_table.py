"""The tables of sources and of their options, as Markdown.

``python -m shapeshd.benchmark.sources.markdown_table`` prints both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .options import OPTIONS
from .registry import source_kinds

_TRUST = {"never": "", "sometimes": "for code of its own", "always": "yes"}


def sources_table(*, options: bool = True) -> str:
    """Return a row for each kind: how it is named, what it is, whether to trust, its options.

    Args:
        options: whether the last of these columns is wanted.
    """
    rows = [
        (
            _code(kind.shown),
            _escaped(kind.summary),
            _TRUST[kind.trust],
            " ".join(_option(name) for name in OPTIONS if name in kind.options),
        )
        for kind in source_kinds()
    ]
    columns = 4 if options else 3
    head = ("SOURCE", "what it is", "`--trust`", "options")
    return _table(head[:columns], [row[:columns] for row in rows])


def options_table() -> str:
    """Return a row for each option: how it is spelled, and what it means."""
    rows = [
        (_option(option.name), _escaped(option.help.replace("  [", " [")))
        for option in OPTIONS.values()
    ]
    return _table(("option", "what it says"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n"
                   for line in lines)  # fmt: skip


def _escaped(text: str) -> str:
    """Write what Markdown would read as markup as it is."""
    return re.sub(r"('[^']*[{*][^']*'|--[a-z-]+|\w+\.json|torch(?:\.\w+)+)", _quoted, text)


def _quoted(match: re.Match[str]) -> str:
    return f"`{match[1].strip(chr(39))}`"


def _code(shown: str) -> str:
    """Write suffixes and what is typed as code, and leave words as they are."""
    return re.sub(r"(?<!\w)(\.\w+|[\w.]+:[\w:]+)", r"`\1`", shown)


def _option(name: str) -> str:
    return f"`--{name.replace('_', '-')}`"


if __name__ == "__main__":
    print(sources_table(), options_table(), sep="\n", end="")
