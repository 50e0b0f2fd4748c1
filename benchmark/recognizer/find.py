"""Finds the file of a recognizer by its name or path, without importing PyTorch."""

from __future__ import annotations

from pathlib import Path

from shapeshd.errors import UsageError

SHIPPED = ("lite", "lite-robust", "lite-256", "hd")
HD_FROM = 128
"""Images of so many pixels a side, and larger ones, are read by ``hd``."""

SUFFIX = ".safetensors"  # `checkpoint.SUFFIX`, which would import PyTorch
FILE_NAME = "recognizer" + SUFFIX
WEIGHTS = Path(__file__).parent / "weights"


def shipped_for(side: int) -> str:
    """Return the name of the shipped recognizer for images of `side` pixels."""
    return "hd" if side >= HD_FROM else "lite"


def find_recognizer(name: str | Path) -> Path:
    """Return the file of a recognizer's weights.

    Args:
        name: one of `SHIPPED`, a ``.safetensors`` file, or a training's folder.

    Raises:
        UsageError: if there is none.
    """
    if str(name) in SHIPPED:
        return WEIGHTS / f"{name}{SUFFIX}"
    if not str(name):
        raise UsageError(f"the recognizer's name is empty; say {', '.join(SHIPPED)}, or a path")
    path = Path(name).expanduser()
    if path.is_dir():
        path = path / FILE_NAME
        if not path.exists():
            raise UsageError(
                f"{path.parent}: holds no {FILE_NAME}: it is no recognizer's folder, or the "
                "training has not ended"
            )
    if not path.exists():
        raise UsageError(
            f"{path}: no such recognizer; say {', '.join(SHIPPED)}, or the path of one that "
            "`shapeshd train recognizer` made"
        )
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: is no recognizer; that is a {SUFFIX} file")
    return path
