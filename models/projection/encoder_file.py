"""Encoders of images from a run's folder, and which of them belongs to a generator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.models.config import FACTORS
from shapeshd.models.config_file import config_from
from shapeshd.models.networks.encoder import Encoder, EncoderConfig, build_encoder, encoder_config
from shapeshd.models.training.run_files import ENCODER, ENCODER_KIND
from shapeshd.support.checkpoint import load_checkpoint, load_weights, read_card

_TABLES = ("codes", "images")


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
    origin = read_card(generator).get("origin")
    if not coupled.exists() or not isinstance(origin, Mapping):
        return None
    return coupled if read_card(coupled)["sha256"] == origin.get("encoder") else None


def read_encoder(path: Path) -> Encoder:
    """Return the encoder of a checkpoint of phase vae or aae, on the CPU.

    PyTorch's global random numbers are left as they are.

    Raises:
        UsageError: if there is none at `path`, it is something else, or no encoder of images.
        ShapesHDError: if a file is damaged.
    """
    checkpoint = load_checkpoint(path, ENCODER_KIND)
    config = _config(checkpoint.card, path)
    with torch.random.fork_rng(devices=[]):
        encoder = build_encoder(config)
    load_weights(encoder, checkpoint.tensors, path)
    return encoder


def _config(card: Mapping[str, Any], path: Path) -> EncoderConfig:
    if card.get("domain") == FACTORS:
        raise UsageError(f"{path}: encodes factors (domain = 'factors') and no images")
    tables = {name: card.get(name) for name in _TABLES}
    if not all(isinstance(table, Mapping) for table in tables.values()):
        raise ShapesHDError(f"{path}: its card has no tables {' and '.join(_TABLES)}")
    try:
        run = config_from(tables)
    except UsageError as error:
        raise UsageError(f"{path}: its card is not one of this version ({error})") from None
    return encoder_config(run.images, run.codes)
