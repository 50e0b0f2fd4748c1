"""A trained recognizer: images in, factors out.

Those that are shipped, ``lite`` and ``lite-robust`` for images of 64 pixels, ``hd`` and
``lite-256`` for 256, lie in ``weights/``; others come from ``shapeshd train recognizer``. How well
one reads is measured on images it has never seen and stands in its card: see `RecognizerCard`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.factors import FACTORS, FloatArray
from shapeshd.support.batching import in_threads, keep_freed_memory
from shapeshd.support.checkpoint import load_checkpoint, load_weights
from shapeshd.support.device import moved

from .card import RecognizerCard
from .find import SHIPPED, find_recognizer
from .network import NetworkConfig, Reading, RecognitionNetwork
from .precision import Precision, chosen_precision

KIND = "recognizer"

Array = TypeVar("Array", bound=npt.NDArray[Any])

_SCALE, _ORIENTATION = FACTORS[3], FACTORS[5]
_CACHED_IMAGES = 16  # of a batch on a CPU: more leave its cache, and of fewer oneDNN is not asked
_GPU_PIXELS = 64 * 256 * 256


def encode_factors(factors: FloatArray | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what the network should say of images with these factors.

    Args:
        factors: (n, 6), inside their ranges.

    Returns:
        hues (n, 3, 2), scale (n,) in [0, 1], orientation (n,) in [-1, 1], all float32, and the
        shape's index (n,), int64; see `Reading`.
    """
    table = torch.as_tensor(factors).double()
    angles = table[:, :3] * (2 * math.pi)
    hues = torch.stack((angles.cos(), angles.sin()), 2)
    scale = (table[:, 3] - _SCALE.low) / _SCALE.period
    orientation = table[:, 5] / _ORIENTATION.high
    return hues.float(), scale.float(), orientation.float(), table[:, 4].long()


def decode_reading(reading: Reading) -> Tensor:
    """Return the factors that a reading says: float64 (n, 6), on its device, which needs float64.

    Hues lie in [0, 1); scale and orientation are limited to their ranges, NaN stays NaN.
    """
    hues = reading.hues.double()
    turns = torch.remainder(torch.atan2(hues[..., 1], hues[..., 0]) / (2 * math.pi), 1.0)
    turns = torch.where(turns >= 1, 0.0, turns)  # -1e-17 % 1 is 1
    scale = reading.scale.double() * _SCALE.period + _SCALE.low
    orientation = reading.orientation.double() * _ORIENTATION.high
    shape = reading.shape.argmax(1).double()
    columns = (
        *turns.unbind(1),
        scale.clamp(_SCALE.low, _SCALE.high),
        shape,
        orientation.clamp(_ORIENTATION.low, _ORIENTATION.high),
    )
    return torch.stack(columns, 1)


class Recognizer:
    """Reads the six factors from images of one size.

    Args:
        network: trained; it is put into evaluation mode.
        name: what to call it.
        digest: SHA-256 of its weights.
        card: what is known of it.
        device: where it computes.
        precision: of its convolutions: "fp32" or "bf16", or "auto", see `chosen_precision`.

    Attributes:
        size: width and height of its images, pixels.
        network: in fp32, whatever the precision is.
        precision: "fp32" or "bf16".
    """

    precision: Precision

    def __init__(
        self,
        network: RecognitionNetwork,
        name: str,
        digest: str = "",
        card: RecognizerCard | None = None,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.name = name
        self.digest = digest
        self.card = card or RecognizerCard()
        self.device = torch.device(device)
        self.size = network.config.size
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval()
        self.precision = chosen_precision(precision, self.device, self.card)
        self._net = self.network if self.precision == "fp32" else self.network.in_bf16()
        gpu = _GPU_PIXELS // self.size**2
        self._batch = _CACHED_IMAGES if self.device.type == "cpu" else max(1, gpu)
        if self.device.type == "cpu":
            keep_freed_memory()

    def __call__(self, images: Tensor) -> FloatArray:
        """Return the factors of images.

        Args:
            images: uint8 (n, 3, size, size), sRGB, on any device.

        Returns:
            float64 (n, 6), columns as in `shapeshd.FACTORS`, each inside its range.

        Raises:
            UsageError: if the images are of another type or shape.
            ShapesHDError: if the network answers with something that is no number.
        """

        def read(part: Tensor) -> Tensor:
            said: Reading = self._net(part)
            columns = (said.hues.flatten(1), said.scale[:, None], said.orientation[:, None])
            return torch.cat((*columns, said.shape), 1)  # one copy from the device

        def decode(said: Tensor) -> Tensor:
            hues, scale, orientation = said[:, :6].unflatten(1, (3, 2)), said[:, 6], said[:, 7]
            return decode_reading(Reading(hues, scale, orientation, said[:, 8:]))

        return self._in_batches(images, read, decode, np.empty((len(images), len(FACTORS))))

    def features(self, images: Tensor) -> npt.NDArray[np.float32]:
        """Return the features of images that their factors are read from.

        Args:
            images: as of `__call__`.

        Returns:
            float32 (n, `feature_dim`); see `RecognitionNetwork.features`.

        Raises:
            UsageError, ShapesHDError: as of `__call__`.
        """
        found = np.empty((len(images), self.feature_dim), dtype=np.float32)
        return self._in_batches(images, self._net.features, lambda features: features, found)

    @property
    def feature_dim(self) -> int:
        """How many numbers `features` gives for an image."""
        return self.network.feature_dim

    def _in_batches(
        self,
        images: Tensor,
        work: Callable[[Tensor], Tensor],
        finish: Callable[[Tensor], Tensor],
        out: Array,
    ) -> Array:
        """Fill `out` with what `work` makes of images, a batch at a time, and check it.

        What it has made is copied to the CPU, and `finish` does the rest there. A GPU gets all
        batches before the first one is waited for.
        """
        wanted = (3, self.size, self.size)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1:] != wanted:
            raise UsageError(
                f"the recognizer {self.name} reads uint8 images of shape (n, 3, {self.size}, "
                f"{self.size}), not {str(images.dtype)[6:]} {tuple(images.shape)}"
            )
        starts = range(0, len(images), self._batch)

        def made(start: int) -> Tensor:
            part = moved(images[start : start + self._batch], self.device)
            # A caller may be training with autocast: it was measured without.
            with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
                return work(part)

        def read(start: int) -> None:
            with torch.inference_mode():
                found = finish(made(start).cpu())
            out[start : start + len(found)] = found

        if self.device.type == "cpu" and len(starts) > 1:
            in_threads(read, starts, min(len(starts), torch.get_num_threads()))
        elif len(starts) > 1:
            parts = [made(start) for start in starts]
            with torch.inference_mode():
                out[:] = finish(torch.cat(parts).cpu())
        elif starts:
            read(0)
        if not np.isfinite(out).all():
            raise ShapesHDError(f"the recognizer {self.name} gives NaN: its weights are damaged")
        return out


def load_recognizer(
    name: str | Path, device: str | torch.device = "cpu", precision: str = "fp32"
) -> Recognizer:
    """Load a recognizer.

    Args:
        name: see `find_recognizer`.
        device: where it computes.
        precision: of its convolutions: "fp32", "bf16" or "auto"; see `chosen_precision`.

    Raises:
        UsageError: if there is none of that name, or it is something else.
        ShapesHDError: if its files are damaged.
    """
    path = find_recognizer(name)
    checkpoint = load_checkpoint(path, KIND)
    card = RecognizerCard.read(checkpoint.card, f"{path}: ")
    if card.network is None:
        raise UsageError(f"{path}: its card has no entry 'network'")
    network = RecognitionNetwork(NetworkConfig.from_json(card.network))
    tensors = {key: tensor.float() for key, tensor in checkpoint.tensors.items()}
    load_weights(network, tensors, path)
    known = str(name) if str(name) in SHIPPED else str(path)
    return Recognizer(network, known, checkpoint.digest, card, device, precision)
