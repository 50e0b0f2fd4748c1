"""Finds the file of an encoder that the user names; asked before PyTorch is imported."""

from __future__ import annotations

from pathlib import Path

from shapeshd.benchmark.sources.trust import PYTHON_RUNS, TORCHSCRIPT_RUNS, require_trust
from shapeshd.errors import UsageError
from shapeshd.models.training.files import ENCODER

OURS = ".safetensors"  # `checkpoint.SUFFIX`, whose module imports PyTorch
TORCHSCRIPT = (".pt", ".ts", ".pth")
_OWN = f"an {ENCODER} of ours or the folder of its phase"
_KINDS = f"{_OWN}, a TorchScript module (.pt, .ts, .pth), or file.py:function"


def encoder_place(source: str, *, trust: bool = False) -> tuple[Path, str | None]:
    """Return the file of an encoder, and the function in it if it is a Python file.

    Args:
        source: an ``encoder.safetensors`` or the folder that holds it, a TorchScript module, or
            ``file.py:function``.
        trust: whether code in it may run, as that of the latter two does.

    Raises:
        UsageError: if there is none, it is of another kind, or it is code and not trusted.
    """
    target, colon, attribute = source.rpartition(":")
    if colon and target.endswith(".py"):
        file = Path(target).expanduser().absolute()
        if not file.is_file():
            raise UsageError(f"{source}: there is no file {target}")
        require_trust(trust, source, PYTHON_RUNS)
        return file, attribute
    path = _file(source, _KINDS)
    if path.suffix.lower() in TORCHSCRIPT:
        require_trust(trust, source, TORCHSCRIPT_RUNS)
    elif path.suffix != OURS:
        raise UsageError(f"{source}: is no encoder: that is {_KINDS}")
    return path, None


def own_encoder_place(source: str) -> Path:
    """Return the file of an encoder that a training here wrote.

    Args:
        source: the ``encoder.safetensors``, or the folder that holds it.

    Raises:
        UsageError: if there is none, or it is of another kind.
    """
    path = _file(source, _OWN)
    if path.suffix != OURS:
        raise UsageError(f"{source}: is none of the encoders that are read here: that is {_OWN}")
    return path


def _file(source: str, kinds: str) -> Path:
    """Return the file at `source`, or the encoder in the folder that is there."""
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / ENCODER).is_file():
            raise UsageError(f"{source}: is a folder without {ENCODER}; an encoder is {kinds}")
        return path / ENCODER
    if not path.is_file():
        raise UsageError(f"{source}: no such file; an encoder is {kinds}")
    return path
