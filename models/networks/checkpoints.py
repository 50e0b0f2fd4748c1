"""Saves and loads generators: a checkpoint's card names the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from shapeshd.errors import UsageError
from shapeshd.support.checkpoint import (
    CheckpointCard,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from shapeshd.support.schema import validated

from .flow import ImageFlow
from .generator import Generator

KIND = "generator"
ImageGenerator = Generator | ImageFlow
ARCHITECTURES: dict[str, type[ImageGenerator]] = {
    network.architecture: network for network in (Generator, ImageFlow)
}


class GeneratorCard(CheckpointCard):
    """The card of a generator.

    Attributes:
        architecture: a name in `ARCHITECTURES`, or another of which no images can be drawn.
        config: what the network is built from.
        origin: digests of the checkpoints that the training began with, by name.
    """

    architecture: str
    config: dict[str, Any]
    origin: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class StyleSampling:
    """How images are drawn from a generator with styles; see `Generator.forward`.

    Attributes:
        truncation: psi, in [0, 1].
        cutoff: how many styles are truncated; None for all.
        noise: "const" for the layers' own, "random" for new noise, "none" for none.
    """

    truncation: float = 1.0
    cutoff: int | None = None
    noise: Literal["const", "random", "none"] = "const"


class ClampedGenerator(nn.Module):
    """A generator whose images are clamped to [-1, 1], as they would be if they were saved.

    Args:
        network: any of `ARCHITECTURES`.
        sampling: how one with styles draws; random noise comes from PyTorch's global generator.
    """

    def __init__(self, network: ImageGenerator, sampling: StyleSampling | None = None) -> None:
        super().__init__()
        self.network, self.sampling = network, sampling or StyleSampling()

    def forward(self, z: Tensor) -> Tensor:
        """Map latents (n, latent_dim) to float images (n, 3, height, width) in [-1, 1]."""
        if not isinstance(self.network, Generator):
            return self.network(z).clamp(-1, 1)
        how, rng = self.sampling, None
        if how.noise == "random" and self.network.config.noise:
            seed = int(
                torch.randint(2**62, ())
            )  # of the CPU, so that a seed means the same on all devices
            rng = torch.Generator(z.device).manual_seed(seed)
        images: Tensor = self.network(
            z,
            truncation=how.truncation,
            cutoff=how.cutoff,
            noise=how.noise != "none",
            rng=rng,
        )
        return images.clamp(-1, 1)


def load_generator(path: Path, device: str | torch.device = "cpu") -> tuple[ClampedGenerator, int]:
    """Load a generator to draw images.

    Args:
        path: ``NAME.safetensors``.
        device: where to.

    Returns:
        The network, in evaluation mode: float32 latents (n, latent_dim) on `device` -> float
        images (n, 3, height, width) in [-1, 1]; and latent_dim.

    Raises:
        UsageError: as `read_generator`.
        ShapesHDError: likewise.
    """
    network = read_generator(path)
    return ClampedGenerator(network).to(device).eval(), network.latent_dim


def read_generator(path: Path) -> ImageGenerator:
    """Return the network of a checkpoint, on the CPU, as it was saved; its range is not cut.

    PyTorch's global random numbers are left as they are.

    Raises:
        UsageError: if there is none at `path`, it is no generator, of an unknown architecture or
            configuration, or its tensors are not those of its configuration.
        MissingPackageError: if it is a flow and diffusers is not installed.
        ShapesHDError: if a file is damaged.
    """
    checkpoint = load_checkpoint(path, KIND)
    card = validated(GeneratorCard, checkpoint.card, f"{path}: its card: ")
    if card.architecture not in ARCHITECTURES:
        raise UsageError(
            f"{path}: its architecture is {card.architecture!r}; this program knows "
            f"{', '.join(ARCHITECTURES)}"
        )
    with torch.random.fork_rng(devices=[]):
        try:
            network = ARCHITECTURES[card.architecture].from_config(card.config)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
    load_weights(network, checkpoint.tensors, path)
    return network


def save_generator(path: Path, generator: ImageGenerator, card: Mapping[str, Any]) -> str:
    """Save a generator for `load_generator`.

    Args:
        path: ``NAME.safetensors``.
        generator: on any device.
        card: what else to say, such as how it was trained; must be fit for JSON.

    Returns:
        The SHA-256 of the tensors.

    Raises:
        UsageError: if `path` has another suffix.
        OSError: if it cannot be written.
    """
    built = {"architecture": generator.architecture, "config": generator.config.to_json()}
    return save_checkpoint(path, KIND, generator.state_dict(), {**card, **built})
