"""What decides the samples of a score and how they are read: a folder holds one such score."""

from __future__ import annotations

import json
from typing import Any

from shapeshd.benchmark.recognizer.reader import precision_in_use
from shapeshd.benchmark.result.content import (
    code_digests,
    content_digest,
    files_digest,
    size_of_large_file,
)
from shapeshd.benchmark.sources.options import OPTIONS, SourceOptions
from shapeshd.benchmark.statistics.histogram import PROTOCOL_VERSION
from shapeshd.errors import UsageError, named
from shapeshd.images.drawn import DRAWN

from .settings import Task

_PARTS = {
    "names": "their names",
    "sizes": "their sizes",
    "contents": "their contents",
    "times": "the times of their last change",
}


def identity_of(task: Task, options: SourceOptions) -> dict[str, Any]:
    """Return what decides the samples of a task, fit for JSON.

    Raises:
        UsageError: if a file that the source depends on cannot be read.
    """
    try:
        code = code_digests(task.source, options)
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read ({error.strerror or error})") from None
    files = files_digest(task.source)
    identity = {
        "source": task.source.name,
        "kind": task.source.kind,
        "files": files,
        "content": content_digest(task.source, files),
        "code": code,
        "images": task.source.count,
        "order": None if task.drawn_from is None else DRAWN,
        "seed": task.seed,
        "recognizer": task.reader.digest or task.reader.name,
        "precision": precision_in_use(task.reader),
        "protocol_version": PROTOCOL_VERSION,
        "distribution": None if task.distribution is None else task.distribution.digest,
        **vars(options),
    }
    del identity["timeout"]  # decides no image: whoever waited too briefly can go on with more
    del identity["depends"]  # stands among the code
    found: dict[str, Any] = json.loads(json.dumps(identity))
    return found


def difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Say in what an earlier score differs from the one that is asked for; None if in nothing.

    What an earlier version has not recorded differs in nothing.

    Args:
        before: the identity of a score in a folder.
        now: that of this one.
    """
    for name, value in now.items():
        known = name in before and (before[name] is not None or name not in ("files", "content"))
        old = before[name] if known else _unrecorded(name, value)
        if old == value or _times_alone(name, before, now):
            continue
        if name == "files" and isinstance(old, dict) and isinstance(value, dict):
            return f"was counted of other files: {_files(old, value)}; {begin_anew()}"
        if name == "code" and isinstance(old, dict):
            return f"was counted with {_code(old, value)}; {begin_anew()}"
        if name == "content":
            return f"was counted of other content: {now.get('source')} has changed; {begin_anew()}"
        if name == "protocol_version":
            return f"was counted by version {old} of the protocol, not {value}; {begin_anew()}"
        return (
            f"holds another score, with {name} {_shown(old)}, not {_shown(value)}; choose "
            f"another {named('out')}, or give {named('again')} to begin anew"
        )
    return None


def _unrecorded(name: str, value: Any) -> Any:
    """Return what a setting was that an earlier version did not know."""
    if name in ("files", "content", "code"):
        return value
    if name == "precision":
        return None if value is None else "fp32"
    if name == "protocol_version":
        return 1
    return OPTIONS[name].default if name in OPTIONS else None


def _times_alone(name: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Tell whether only the times of files differ: names, sizes and a sample of contents do not.

    `check_witnesses` then looks at images.
    """
    old, new = before.get("files"), now.get("files")
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return False
    if old | {"times": None} != new | {"times": None}:
        return False
    if name == "files":
        return True
    sizes = [size_of_large_file(known.get("content")) for known in (before, now)]
    return name == "content" and sizes[0] is not None and sizes[0] == sizes[1]


def _files(before: dict[str, Any], now: dict[str, Any]) -> str:
    if before.get("files") != now.get("files"):
        return f"{before.get('files'):,} before, {now.get('files'):,} now"
    differ = [text for key, text in _PARTS.items() if before.get(key) != now.get(key)]
    return f"{' and '.join(differ[:2]) or 'something'} differ"


def _code(before: dict[str, str], now: dict[str, str]) -> str:
    for name in now:
        if name not in before:
            return f"no look at {name}, which it depends on"
        if before[name] != now[name]:
            return f"another {name}, which has changed"
    return f"{next(name for name in before if name not in now)}, which is not given now"


def begin_anew() -> str:
    """Say what to do with a folder whose score cannot be gone on with."""
    return f"give {named('again')} to begin anew, or choose another {named('out')}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
