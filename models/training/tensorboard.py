"""The log for TensorBoard, an extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shapeshd.errors import MissingPackageError


def open_writer(folder: Path, step: int) -> Any:
    """Return a writer into `folder`; what was written after `step` no longer shows.

    Raises:
        MissingPackageError: if TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingPackageError.of("tensorboard", "tensorboard", "--tensorboard") from None
    return SummaryWriter(str(folder), purge_step=step + 1)
