"""Finds the kind of a source and opens it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shapeshd.errors import UsageError, one_line

from .options import SourceOptions
from .registry import source_kinds, why_refused
from .source_kind import Candidate, OpenRequest, SourceKind

if TYPE_CHECKING:
    from .base import Source

_HEAD = 8  # bytes of a file that its kind may be seen from


def open_source(
    text: str,
    *,
    seed: int = 0,
    trust: bool = False,
    device: str = "cpu",
    options: SourceOptions | None = None,
) -> Source:
    """Open what can be scored; its kind is seen from `text` and what lies there.

    A path that exists is always taken as a path. One that begins as ``render:``, ``cmd:`` or
    another kind's prefix is reached as ``./render:...``.

    Args:
        text: the path of images or of a network, ``render:SEED:COUNT``, a Python entry,
            ``file.py:function`` or ``package.module:function``, or ``cmd:`` and a command.
        seed: of the latents of a generator; images that exist have none.
        trust: whether code that comes with the source may run.
        device: where a network runs.
        options: what the source does not say itself.

    Returns:
        A `Source`, a context manager.

    Raises:
        UsageError: if there is nothing of that kind, or it must be said how to read it.
        ShapesHDError: if it is damaged.
    """
    chosen = options or SourceOptions()
    return find_kind(text, chosen).open(
        OpenRequest(text, seed=seed, trust=trust, device=device, options=chosen)
    )


def check_source(
    text: str, *, trust: bool = False, options: SourceOptions | None = None
) -> SourceKind:
    """Refuse what `open_source` would refuse without loading anything; arguments as there.

    Returns:
        The kind of the source.

    Raises:
        UsageError: as of `open_source`.
    """
    chosen = options or SourceOptions()
    kind = find_kind(text, chosen)
    kind.check(OpenRequest(text, trust=trust, options=chosen))
    return kind


def find_kind(text: str, options: SourceOptions | None = None) -> SourceKind:
    """Return the kind of what the user named.

    Prefixes decide first, then how a file begins, then the order of `source_kinds`.

    Raises:
        UsageError: if there is nothing, or nothing that can be scored.
    """
    kinds = source_kinds()
    for kind in kinds:
        if kind.prefix and text.startswith(kind.prefix):
            return kind
    candidate = _look_at(text, options or SourceOptions())
    for kind in sorted(kinds, key=lambda kind: not kind.knows_content(candidate)):
        if kind.fits(candidate):
            return kind
    if candidate.place == "nothing":
        if candidate.path.is_symlink():
            raise UsageError(f"{text}: is a link to something that is not there")
        raise UsageError(f"{text}: no such file or folder")
    if why := why_refused(candidate):
        raise UsageError(f"{text}: is {why}")
    raise UsageError(f"{text}: is nothing that can be scored: that is {_listed(kinds)}")


def known_suffixes() -> tuple[str, ...]:
    """Return the suffixes of all files that can be scored, the longest first."""
    found = {suffix for kind in source_kinds() for suffix in kind.suffixes}
    return tuple(sorted(found, key=lambda suffix: (-len(suffix), suffix)))


def short_name(text: str) -> str:
    """Return what a source may be called: the last component of its path, where it has one."""
    for kind in source_kinds():
        if kind.prefix and text.startswith(kind.prefix):
            return text if kind.whole_name else Path(text).name or text
    return text if ".py:" in text else Path(text).name or text


def _look_at(text: str, options: SourceOptions) -> Candidate:
    """Return what lies at a path."""
    if not text.strip() or "\0" in text:
        raise UsageError(f"nothing to score: {text!r} is no path; give {_listed(source_kinds())}")
    try:
        path = Path(text).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{text}: cannot be read ({one_line(error)})") from None
    if not exists:
        return Candidate(text, path, "nothing", b"", options)
    if path.is_dir():
        return Candidate(text, path, "folder", b"", options)
    if not path.is_file():
        raise UsageError(f"{text}: is neither a file nor a folder")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise UsageError(f"{text}: cannot be read ({error.strerror or one_line(error)})") from None
    if not head:
        raise UsageError(f"{text}: is empty")
    return Candidate(text, path, "file", head, options)


def _listed(kinds: Sequence[SourceKind]) -> str:
    return ", ".join(kind.shown for kind in kinds)
