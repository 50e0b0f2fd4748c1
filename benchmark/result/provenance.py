"""Records the scene and the source file of a result, so that results can be compared."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from shapeshd.benchmark.recognizer.card import RecognizerCard
from shapeshd.benchmark.sources.base import Source
from shapeshd.engines.engine import ENGINES, engine_named, is_scene_installed
from shapeshd.errors import UsageError
from shapeshd.images.names import expand_shards

_DIGESTED_BYTES = 256 * 2**20
_TWIN = "torch"
_PIPELINE = "model_index.json"  # what makes a folder a diffusers pipeline


def scene_of(card: RecognizerCard) -> dict[str, Any]:
    """Return the scene of which a result speaks, ready for JSON.

    Args:
        card: of the recognizer.

    Returns:
        ``sha256``: digest of the installed scene, as the ray tracer traces it; and of the
        recognizer's training images ``renderer``, ``trained_on``, their scene's digest, and
        ``installed``, whether that is the installed one (None where the card does not say).
    """
    data = card.trained_on
    trained_on = None if data is None else data.scene_sha256
    return {
        "sha256": engine_named(_TWIN).scene_sha256(),
        "renderer": None if data is None else data.renderer,
        "trained_on": trained_on,
        "installed": None
        if trained_on is None
        else any(is_scene_installed(engine, trained_on) for engine in ENGINES),
    }


def content_digest(source: Source) -> str | None:
    """Return the SHA-256 of the file that a source is, so that another of its name is noticed.

    Of a diffusers pipeline, or of several tar files, it is that of the names and digests of its
    files. In place of the digest of a file above 256 MiB stand its size and the time of its last
    change. Other folders, and what is no file, have None.
    """
    path = Path(source.name.rpartition(":")[0] if ".py:" in source.name else source.name)
    try:
        path = path.expanduser()
        if path.is_file():
            return _file_digest(path)
        if (path / _PIPELINE).is_file():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            lines = [f"{file.relative_to(path).as_posix()} {_file_digest(file)}" for file in files]
        elif shards := expand_shards(source.name):
            lines = [f"{file.name} {_file_digest(file)}" for file in shards]
        else:
            return None
    except (OSError, RuntimeError, UsageError):
        return None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    status = path.stat()
    if status.st_size > _DIGESTED_BYTES:
        return f"{status.st_size} bytes of {status.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()
