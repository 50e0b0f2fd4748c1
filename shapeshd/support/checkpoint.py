"""The one way any network is saved and loaded: safetensors beside a card in JSON.

A checkpoint is two files of one stem: ``NAME.safetensors`` holds tensors by name, and
``NAME.json``, its *card*, says what they are: the kind of network, its configuration, how it
was made. The card holds the SHA-256 of the tensors' file, so that a pair that does not belong
together, or is damaged, is noticed. Neither file can run code when it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shapeshd.errors import ShapesHDError, UsageError, one_line

from .atomic_files import replace_file

SUFFIX = ".safetensors"
FORMAT = "shapeshd-checkpoint"
FORMAT_VERSION = 1
_DIGEST = "sha256"


@dataclass(frozen=True)
class Checkpoint:
    """A network's tensors and its card.

    Attributes:
        path: the file of the tensors.
        tensors: by name, on the CPU.
        card: what the JSON file holds: ``format``, ``format_version``, ``kind``, ``sha256`` of
            the tensors' file, and whatever the kind adds.
    """

    path: Path
    tensors: dict[str, Tensor]
    card: dict[str, Any]

    @property
    def kind(self) -> str:
        """What it is, such as "recognizer"."""
        return str(self.card["kind"])

    @property
    def digest(self) -> str:
        """SHA-256 of the tensors' file, as 64 hexadecimal digits."""
        return str(self.card[_DIGEST])


def save_checkpoint(
    path: Path, kind: str, tensors: Mapping[str, Tensor], card: Mapping[str, Any]
) -> str:
    """Write a checkpoint; a reader finds the old pair or the new one, whole.

    Args:
        path: ``NAME.safetensors``; the card goes to ``NAME.json``.
        kind: what it is, such as "recognizer".
        tensors: by name; on any device, of any layout.
        card: what else to say; must be fit for JSON.

    Returns:
        The SHA-256 of the tensors' file.

    Raises:
        UsageError: if `path` has another suffix.
        OSError: if it cannot be written; the old pair then stays.
    """
    from safetensors.torch import save

    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: a checkpoint's name ends in {SUFFIX}")
    # Copies, because safetensors refuses tensors that share memory.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    data = save(plain)
    digest = hashlib.sha256(data).hexdigest()
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, _DIGEST: digest}
    text = json.dumps({**head, **card, **head}, indent=1) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    # The old tensors are kept under another name until the new card stands: between the two
    # renames `load_checkpoint` finds them there. After an interrupted save they are there already.
    previous = _spare(path)
    if _belongs(path):
        previous.unlink(missing_ok=True)
        os.link(path, previous)
    replace_file(path, lambda temporary: temporary.write_bytes(data))
    replace_file(card_path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))
    previous.unlink(missing_ok=True)
    return digest


def load_checkpoint(path: Path, kind: str | None = None) -> Checkpoint:
    """Read a checkpoint; nothing in it can run code.

    Args:
        path: ``NAME.safetensors`` or ``NAME.json``.
        kind: what it must be; None takes any.

    Raises:
        UsageError: if there is none at `path`, it is of another kind, or of a newer format.
        ShapesHDError: if a file is damaged or the two do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = path.with_suffix(SUFFIX)
    card = read_card(path)
    if kind is not None and card["kind"] != kind:
        raise UsageError(f"{path}: is a {card['kind']}, not a {kind}")
    candidates = [candidate for candidate in (path, _spare(path)) if candidate.exists()]
    if not candidates:
        raise UsageError(f"{path}: no such file, though its card {card_path(path).name} is there")
    for candidate in candidates:
        data = candidate.read_bytes()
        if hashlib.sha256(data).hexdigest() == card[_DIGEST]:
            break
    else:
        raise ShapesHDError(
            f"{path}: does not hold the tensors that its card {card_path(path).name} describes "
            "(other SHA-256): copy both files again"
        )
    try:
        return Checkpoint(path, load(data), card)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ShapesHDError(f"{path}: no safetensors file ({one_line(error)})") from None


def read_card(path: Path) -> dict[str, Any]:
    """Return the card of the checkpoint at `path`; see `load_checkpoint` for the errors."""
    card = card_path(path)
    if not card.exists():
        raise UsageError(f"{card}: no such file" if path.exists() else f"{path}: no such file")
    try:
        values = json.loads(card.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ShapesHDError(f"{card}: no JSON ({one_line(error)})") from None
    wanted = {"format", "format_version", "kind", _DIGEST}
    if not isinstance(values, dict) or not wanted <= values.keys() or values["format"] != FORMAT:
        raise UsageError(f"{card}: no card of a checkpoint of shapeshd")
    if values["format_version"] != FORMAT_VERSION:
        raise UsageError(
            f"{card}: has format version {values['format_version']}, this program reads "
            f"{FORMAT_VERSION}: use a newer shapeshd"
        )
    return values


def load_weights(
    network: nn.Module, tensors: Mapping[str, Tensor], path: Path, prefix: str = ""
) -> None:
    """Copy `tensors` into `network`; every name and every shape must agree.

    Args:
        network: any.
        tensors: by name, as `network` names them.
        path: where they come from, for the message.
        prefix: what their names begin with there.

    Raises:
        UsageError: naming the first tensor that is missing, unknown or of another shape.
    """
    own = network.state_dict()
    for name, tensor in own.items():
        if name not in tensors:
            raise UsageError(f"{path}: lacks the tensor {prefix}{name}")
        if tensors[name].shape != tensor.shape:
            raise UsageError(
                f"{path}: {prefix}{name} has the shape {tuple(tensors[name].shape)}, not "
                f"{tuple(tensor.shape)}"
            )
    unknown = sorted(tensors.keys() - own.keys())
    if unknown:
        raise UsageError(
            f"{path}: holds the tensor {prefix}{unknown[0]}, which this network has not"
        )
    network.load_state_dict(dict(tensors))


def card_path(path: Path) -> Path:
    """Return where the card of the tensors' file `path` is."""
    return path.with_suffix(".json")


def _spare(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def _belongs(path: Path) -> bool:
    """Tell whether the tensors at `path` are those that the card beside it describes."""
    try:
        digest = json.loads(card_path(path).read_bytes())[_DIGEST]
        return bool(hashlib.sha256(path.read_bytes()).hexdigest() == digest)
    except (OSError, ValueError, KeyError, TypeError):
        return False
