"""A checkpoint of ours whose card says "generator"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.labels import Labels
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.errors import UsageError
from shapeshd.models.networks.checkpoints import load_generator
from shapeshd.support.checkpoint import SUFFIX, has_card, read_card

from .generator import (
    GeneratorSource,
    NetworkBatches,
    allow_options,
    choose_latent_dim,
    usable_device,
)

KIND = "checkpoint"
CARD_KIND = "generator"


def open_checkpoint(
    path: Path,
    *,
    seed: int,
    trust: bool,
    device: str,
    options: SourceOptions,
    name: str,
) -> GeneratorSource:
    """Open a checkpoint of a generator; its images are in [-1, 1] by definition.

    Nothing in it can run code, so `trust` is not asked for.

    Raises:
        UsageError: if it is no checkpoint of a generator, or does not fit the options.
        ShapesHDError: if it is damaged.
    """
    _require_generator(path, name)
    require_known_form(options, name, "a checkpoint's")
    allow_options(options, name, "a checkpoint of a generator")
    place = usable_device(device)
    network, latent_dim = load_generator(path, place)
    return network_source(network, latent_dim, name=name, seed=seed, device=place, options=options)


def require_known_form(options: SourceOptions, name: str, whose: str) -> None:
    """Raise `UsageError` if options contradict images in [-1, 1], channels first."""
    if options.range not in ("auto", "symmetric") or options.layout not in ("auto", "nchw"):
        raise UsageError(
            f"{name}: {whose} images are in [-1, 1] and channels first: leave --range and "
            "--layout away"
        )


def network_source(
    network: nn.Module,
    latent_dim: int,
    *,
    name: str,
    seed: int,
    device: torch.device,
    options: SourceOptions,
    kind: str = KIND,
    facts: Mapping[str, Any] | None = None,
    labels: Labels | None = None,
) -> GeneratorSource:
    """Return the images of a network of ours, which are in [-1, 1], channels first.

    Args:
        network: on `device`; float32 latents (n, latent_dim) -> images (n, 3, H, W).
        latent_dim: components of a latent.
        name: what the user called it.
        seed: of the latents.
        device: where it computes.
        options: what the user said; range and layout are known.
        kind: of the source.
        facts: how the network was read, for the description.
        labels: what the network takes with the latents; None if it takes latents alone.
    """
    batches = NetworkBatches(
        network,
        name=name,
        latent_dim=choose_latent_dim(latent_dim, options, name),
        seed=seed,
        device=device,
        batch=options.batch,
        form=ImageFormat(replace(options, range="symmetric", layout="nchw"), name=name),
        facts=facts,
        labels=labels,
    )
    return GeneratorSource(name, kind, batches)


def _require_generator(path: Path, name: str) -> None:
    path = path.with_suffix(SUFFIX)
    if not path.is_file():
        raise UsageError(f"{name}: no such file")
    if not has_card(path):
        raise UsageError(
            f"{name}: its metadata hold no card of shapeshd, so which network its tensors belong "
            "to is not known: say --architecture, or write a Python file that loads it (SOURCE "
            "file.py:function)"
        )
    kind = read_card(path)["kind"]
    if kind != CARD_KIND:
        raise UsageError(f"{name}: holds a {kind}, not a generator")
