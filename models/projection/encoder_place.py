"""Where an encoder that is to be measured lies; asked before PyTorch is imported."""

from __future__ import annotations

from pathlib import Path

from shapeshd.errors import UsageError
from shapeshd.models.training.files import ENCODER

OURS = ".safetensors"  # `checkpoint.SUFFIX`, whose module imports PyTorch
TORCHSCRIPT = (".pt", ".ts", ".pth")
_KINDS = (
    "an encoder.safetensors of ours or the folder of its phase, a TorchScript module (.pt, .ts, "
    ".pth), or file.py:function"
)


def encoder_place(source: str) -> tuple[Path, str | None]:
    """Return the file of an encoder, and the function in it if it is a Python file.

    Args:
        source: an ``encoder.safetensors`` or the folder that holds it, a TorchScript module, or
            ``file.py:function``.

    Raises:
        UsageError: if there is none, or it is of another kind.
    """
    target, colon, attribute = source.rpartition(":")
    if colon and target.endswith(".py"):
        file = Path(target).expanduser().absolute()
        if not file.is_file():
            raise UsageError(f"{source}: there is no file {target}")
        return file, attribute
    path = Path(source).expanduser()
    path = path / ENCODER if path.is_dir() and (path / ENCODER).is_file() else path
    if not path.is_file():
        raise UsageError(f"{source}: no such file; an encoder is {_KINDS}")
    if path.suffix != OURS and path.suffix.lower() not in TORCHSCRIPT:
        raise UsageError(f"{source}: is no encoder: that is {_KINDS}")
    return path, None
