"""Opens an encoder of any kind, to be measured: ours, TorchScript, or a function in Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from shapeshd.benchmark.sources.networks.torchscript import load_torchscript
from shapeshd.benchmark.sources.subprocess.user_function import (
    UserError,
    attribute_of,
    import_user_code,
)
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.models.networks.encoder import Encoder, Trunk

from .encoder_file import read_encoder
from .encoder_place import TORCHSCRIPT, encoder_place

_NOISES = 8


class OpenEncoder(NamedTuple):
    """An encoder that is ready to be called.

    Attributes:
        encode: float32 images (n, 3, size, size) on its device to codes (n, d).
        size: of the images that it takes, pixels; None if it does not say.
        value_range: what it takes as black and full, of those in `RANGES`; None if it does not say.
    """

    encode: Callable[[Tensor], Any]
    size: int | None
    value_range: str | None


def open_encoder(source: str, device: torch.device, *, trust: bool = False) -> OpenEncoder:
    """Open an encoder.

    The codes of an encoder of ours are the means of q(z | x, noise), averaged over 8 draws of the
    noise, the same for all images. Code in a Python file runs in this process.

    Args:
        source: as of `encoder_place`.
        device: where it is put.
        trust: whether code in it may run: that of a TorchScript module or a Python file.

    Raises:
        UsageError: if there is none, it is of another kind, or it is code and not trusted.
        ShapesHDError: if it cannot be loaded.
    """
    path, attribute = encoder_place(source, trust=trust)
    if attribute is not None:
        return OpenEncoder(_function(path, attribute, source, device), None, None)
    if path.suffix.lower() in TORCHSCRIPT:
        return OpenEncoder(load_torchscript(path, device, source).eval(), None, None)
    encoder = read_encoder(path).to(device).eval()
    assert isinstance(encoder.trunk, Trunk)
    return OpenEncoder(_mean_codes(encoder, device), encoder.trunk.pyramid.shape[-1], "-1,1")


def _mean_codes(encoder: Encoder, device: torch.device) -> Callable[[Tensor], Tensor]:
    rng = torch.Generator().manual_seed(0)
    noises = torch.randn(_NOISES, encoder.head.noise_dim, generator=rng).to(device)

    def encode(images: Tensor) -> Tensor:
        features = encoder.trunk(images)
        means = [encoder.head(features, noise.expand(len(images), -1))[0] for noise in noises]
        return torch.stack(means).mean(0)

    return encode


def _function(file: Path, attribute: str, name: str, device: torch.device) -> Any:
    try:
        found = attribute_of(import_user_code(str(file), name), attribute, name)
    except UserError as error:
        raise ShapesHDError(f"{name}: {error}") from error
    if isinstance(found, nn.Module):
        return found.to(device).eval()
    if not callable(found):
        raise UsageError(f"{name}: is no function, but of type {type(found).__name__}")
    return found
