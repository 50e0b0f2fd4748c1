"""The one way any network is saved and loaded: one safetensors file that says what it is.

``NAME.safetensors`` holds tensors by name and, in the format's own metadata, its *card*: the kind
of network, its configuration, how it was made, and digests by which damage is noticed. Nothing in
it can run code when it is loaded.

Until version 2 of the format the card was a file of its own, ``NAME.json``. Such a pair is still
read, and saved as one file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from shapeshd.errors import ShapesHDError, UsageError, one_line

from .atomic_files import replace_file
from .schema import first_problem
from .state_dict import fitting

SUFFIX = ".safetensors"
FORMAT = "shapeshd-checkpoint"
FORMAT_VERSION = 2
_METADATA, _CARD, _CARD_DIGEST = "__metadata__", "shapeshd", "shapeshd_sha256"
_LARGEST_HEADER = 100_000_000  # bytes, as safetensors has it


class CheckpointCard(BaseModel):
    """What the cards of all kinds of checkpoints have in common.

    Attributes:
        format: `FORMAT`.
        format_version: 1 of a card in a file of its own, else 2.
        kind: what it is, such as "recognizer".
        sha256: of the tensors: of the file that holds them and no card, in hexadecimal digits.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    format: Literal["shapeshd-checkpoint"]
    format_version: int
    kind: str
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """A network's tensors and its card.

    Attributes:
        path: the file.
        tensors: by name, on the CPU.
        card: the fields of `CheckpointCard`, and whatever the kind adds.
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
        """SHA-256 of the tensors; see `CheckpointCard`."""
        return str(self.card["sha256"])


def save_checkpoint(
    path: Path, kind: str, tensors: Mapping[str, Tensor], card: Mapping[str, Any]
) -> str:
    """Write a checkpoint; a reader finds the old one or the new one, whole.

    Args:
        path: ``NAME.safetensors``.
        kind: what it is, such as "recognizer".
        tensors: by name; on any device, of any layout.
        card: what else to say; must be fit for JSON.

    Returns:
        The SHA-256 of the tensors; it does not depend on the card.

    Raises:
        UsageError: if `path` has another suffix.
        OSError: if it cannot be written; the old one then stays.
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
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, "sha256": digest}
    text = json.dumps({**head, **card, **head})
    start = 8 + int.from_bytes(data[:8], "little")
    metadata = {_CARD: text, _CARD_DIGEST: hashlib.sha256(text.encode()).hexdigest()}
    header = _packed({_METADATA: metadata, **json.loads(data[8:start])})

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(header)
            file.write(memoryview(data)[start:])

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, write)
    if _old_card(path) is not None:
        path.with_suffix(".json").unlink()
    return digest


def load_checkpoint(path: Path, kind: str | None = None) -> Checkpoint:
    """Read a checkpoint; nothing in it can run code.

    Args:
        path: ``NAME.safetensors``.
        kind: what it must be; None takes any.

    Raises:
        UsageError: if there is none at `path`, it is of another kind, or of a newer format.
        ShapesHDError: if it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    card = read_card(path, kind)
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop(_METADATA, None)
    found = hashlib.sha256(_packed(header))
    found.update(memoryview(data)[start:])
    if found.hexdigest() != card["sha256"]:
        raise ShapesHDError(
            f"{path}: does not hold the tensors that its card describes (other SHA-256): copy it "
            "again"
        )
    try:
        return Checkpoint(path, load(data), card)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ShapesHDError(f"{path}: is no safetensors file ({one_line(error)})") from None


def read_card(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Return the card of the checkpoint at `path`; see `load_checkpoint` for the errors.

    The tensors are not read.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    with path.open("rb") as file:
        metadata = _read_header(file, path).get(_METADATA, {})
    if _CARD in metadata:
        text = str(metadata[_CARD]).encode()
        if hashlib.sha256(text).hexdigest() != metadata.get(_CARD_DIGEST):
            raise ShapesHDError(f"{path}: its card is damaged (other SHA-256): copy it again")
        values = json.loads(text)
    else:
        values = _old_card(path)
        if values is None:
            raise UsageError(f"{path}: is no checkpoint of shapeshd: its metadata hold no card")
    try:
        card = CheckpointCard.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{path}: its card is none of shapeshd: {first_problem(error)}") from None
    if card.format_version > FORMAT_VERSION:
        raise UsageError(
            f"{path}: has format version {card.format_version}, this program reads "
            f"{FORMAT_VERSION}: use a newer shapeshd"
        )
    if kind is not None and card.kind != kind:
        raise UsageError(f"{path}: is a {card.kind}, not a {kind}")
    return card.model_dump()


def has_card(path: Path) -> bool:
    """Tell whether a safetensors file is a checkpoint of shapeshd.

    Raises:
        ShapesHDError: if it is no safetensors file, or its header is damaged.
    """
    if _old_card(path) is not None:
        return True
    with path.open("rb") as file:
        return _CARD in _read_header(file, path).get(_METADATA, {})


def load_weights(
    network: nn.Module, tensors: Mapping[str, Tensor], path: Path, prefix: str = ""
) -> None:
    """Copy `tensors` into `network`; every name and every shape must agree.

    What a wrapper put before all names, such as ``module.``, is taken off; see `unwrapped`.

    Args:
        network: any.
        tensors: by name, as `network` names them.
        path: where they come from, for the message.
        prefix: what their names begin with there.

    Raises:
        UsageError: naming the first tensor that is missing, unknown or of another shape.
    """
    own = network.state_dict()
    tensors = fitting(tensors, lambda left: left.keys() == own.keys(), str(path))
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


def _read_header(file: BinaryIO, path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file: tables by a tensor's name, and the metadata."""
    length = int.from_bytes(file.read(8), "little")
    try:
        header = json.loads(file.read(length)) if length <= _LARGEST_HEADER else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or not isinstance(header.get(_METADATA, {}), dict):
        raise ShapesHDError(f"{path}: is no safetensors file (its header cannot be read)")
    return header


def _packed(header: Mapping[str, Any]) -> bytes:
    """Return the beginning of a safetensors file, as that library writes it."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _old_card(path: Path) -> dict[str, Any] | None:
    """Return the card in the file beside `path`, as version 1 of the format had it."""
    try:
        values = json.loads(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) and values.get("format") == FORMAT else None
