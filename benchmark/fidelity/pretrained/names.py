"""What features can be called; asked before PyTorch is imported, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from shapeshd.errors import UsageError

DEFAULT = "recognizer"
KINDS = ("inception", "vgg", "dinov2", "clip")
FORM = "recognizer, inception, vgg, dinov2 or clip, the latter four also as inception:PATH"


def features_place(text: str) -> tuple[str, Path | None]:
    """Return what kind of features a text names, and the file of their network if it says one.

    Args:
        text: "recognizer", or one of `KINDS`, which a colon and a path may follow.

    Raises:
        UsageError: if there is no such network, or no such file.
    """
    kind, colon, given = text.partition(":")
    if kind not in KINDS and text != DEFAULT:
        raise UsageError(f"there are no features {text!r}; say {FORM}")
    if not colon:
        return kind, None
    if not given:
        raise UsageError(f"features {text!r} name no file: say {kind}:PATH, or {kind} alone")
    path = Path(given).expanduser()
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give the weights as {kind}:PATH")
    return kind, path
