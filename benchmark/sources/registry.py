"""Finds the kind of a source, of this project or of another package, and opens it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from shapeshd.errors import UsageError, explain, one_line
from shapeshd.support.progress import note

from .kind import Candidate, OpenRequest, SourceKind
from .kinds import KINDS, why_refused
from .options import OPTIONS, SourceOptions

if TYPE_CHECKING:
    from .base import Source

GROUP = "shapeshd.sources"
"""The group of entry points by which other packages add a `SourceKind`."""

_HEAD = 8  # bytes of a file that its kind may be seen from
_added: list[SourceKind] = []


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


def source_kinds() -> tuple[SourceKind, ...]:
    """Return all kinds: this project's, those of other packages, those added by `register`."""
    return (*KINDS, *_kinds_of_packages(), *_added)


def register(kind: SourceKind) -> None:
    """Add a kind of source to this process.

    Raises:
        UsageError: if there is another of its name or prefix, or an option is not known.
    """
    _check(kind, source_kinds())
    _added.append(kind)


def unregister(name: str) -> None:
    """Take a kind away that `register` added; nothing happens if there is none."""
    _added[:] = [kind for kind in _added if kind.name != name]


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


@cache
def _kinds_of_packages() -> tuple[SourceKind, ...]:
    """Load the kinds of other packages; one that cannot be used must not keep us from the rest."""
    kinds: list[SourceKind] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            kind = entry.load()
            if not isinstance(kind, SourceKind):
                raise UsageError(f"{entry.value} is no SourceKind")
            _check(kind, (*KINDS, *kinds))
        except Exception as error:
            package = entry.dist.name if entry.dist else entry.value
            note(f"the package {package} adds no kind of source {entry.name!r}: {explain(error)}")
        else:
            kinds.append(kind)
    return tuple(kinds)


def _check(kind: SourceKind, others: Sequence[SourceKind]) -> None:
    for other in others:
        if kind.name == other.name or (kind.prefix and kind.prefix == other.prefix):
            raise UsageError(
                f"the kind of source {kind.name!r} has the name or the prefix of another, "
                f"{other.name!r}"
            )
    unknown = [option for option in kind.options if option not in OPTIONS]
    if unknown:
        raise UsageError(
            f"the kind of source {kind.name!r} takes {unknown[0]!r}; options are "
            f"{', '.join(OPTIONS)}"
        )


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
