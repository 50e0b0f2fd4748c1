"""Reads encoders of images, and finds the one that belongs to a generator."""

from __future__ import annotations

from pathlib import Path

import torch

from shapeshd.errors import UsageError
from shapeshd.models.config import FACTORS, Codes, Images
from shapeshd.models.networks.checkpoints import KIND, GeneratorCard
from shapeshd.models.networks.encoder import Encoder, build_encoder
from shapeshd.models.training.domains.images import encoder_config
from shapeshd.models.training.files import ENCODER, ENCODER_KIND
from shapeshd.support.checkpoint import (
    CheckpointCard,
    load_checkpoint,
    load_weights,
    read_card,
)
from shapeshd.support.schema import validated


class EncoderCard(CheckpointCard):
    """The card of an encoder of images: the tables of the run's configuration that describe it."""

    codes: Codes
    images: Images


def find_encoder(generator: Path) -> Path | None:
    """Return the encoder that was trained with a generator, or to which it was coupled.

    It lies in the same folder (of phase vae or aae), or in the folder ``aae`` beside it, and then
    has the digest that the generator's card names as what the phase began with.

    Args:
        generator: its checkpoint, ``NAME.safetensors``.

    Returns:
        The encoder's checkpoint; None if there is none.
    """
    beside = generator.parent / ENCODER
    if beside.exists():
        return beside
    coupled = generator.resolve().parent.parent / "aae" / ENCODER
    card = validated(GeneratorCard, read_card(generator, KIND), f"{generator}: its card: ")
    if not coupled.exists() or "encoder" not in card.origin:
        return None
    return coupled if read_card(coupled)["sha256"] == card.origin["encoder"] else None


def read_encoder(path: Path) -> Encoder:
    """Return the encoder of a checkpoint of phase vae or aae, on the CPU.

    PyTorch's global random numbers are left as they are.

    Raises:
        UsageError: if there is none at `path`, it is something else, or no encoder of images.
        ShapesHDError: if a file is damaged.
    """
    checkpoint = load_checkpoint(path, ENCODER_KIND)
    if checkpoint.card.get("domain") == FACTORS:
        raise UsageError(f"{path}: encodes factors (domain = 'factors') and no images")
    card = validated(EncoderCard, checkpoint.card, f"{path}: its card: ")
    with torch.random.fork_rng(devices=[]):
        encoder = build_encoder(encoder_config(card.images, card.codes))
    load_weights(encoder, checkpoint.tensors, path)
    return encoder
