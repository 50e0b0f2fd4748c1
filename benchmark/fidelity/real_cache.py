"""Keeps what was measured of real images, so that every score of one kind measures them once.

What decides the numbers (seed, size, features, recognizer, engine and scene, distribution) gives a
folder its name, and a changed recognizer or scene another folder. Pieces in it appear whole, so
several scores may use it at once. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shapeshd.support.atomic_files import replace_file
from shapeshd.support.progress import note

_DESCRIPTION = "real-images.json"


def cache_folder() -> Path:
    """Return where this program may keep what it can compute again.

    That is ``SHAPESHD_CACHE``, else the folder shapeshd where XDG Base Directory 0.8 says.
    """
    if chosen := os.environ.get("SHAPESHD_CACHE"):
        return Path(chosen).expanduser()
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "shapeshd"


def folder_of(cache: Path, decisive: Mapping[str, Any]) -> Path | None:
    """Return the folder for measurements, which is made; None, with a note, if that fails.

    Args:
        cache: such as `cache_folder`.
        decisive: all that decides the numbers, fit for JSON.
    """
    text = json.dumps(dict(decisive), sort_keys=True, indent=1)
    folder = cache / "real-images" / hashlib.sha256(text.encode()).hexdigest()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _DESCRIPTION).exists():  # for who wonders what lies there
            replace_file(folder / _DESCRIPTION, lambda path: path.write_text(text + "\n"))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder}: may not be written")
    except OSError as error:
        note(f"real images are measured for this score alone: no cache ({error})")
        return None
    return folder
