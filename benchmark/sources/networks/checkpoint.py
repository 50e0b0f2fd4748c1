"""A checkpoint of ours whose card says "generator"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shapeshd.benchmark.sources.examine import examine_run
from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.labels import Labels
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import UsageError, named
from shapeshd.models.networks.checkpoints import load_generator
from shapeshd.models.networks.flow import Flow, ImageFlow
from shapeshd.models.networks.shipped import find_shipped
from shapeshd.support.checkpoint import SUFFIX, has_card, read_card
from shapeshd.support.device import usable_device
from shapeshd.support.progress import note

from .generator import GeneratorSource, NetworkBatches, choose_latent_dim
from .style_options import apply_sampling

KIND = "checkpoint"
MODEL_KIND = "model"
CARD_KIND = "generator"


def open_checkpoint(request: OpenRequest) -> GeneratorSource:
    """Open a checkpoint of a generator; its images are in [-1, 1] by definition.

    Nothing in it can run code, so trust is not asked for.

    Raises:
        UsageError: if it is no checkpoint of a generator, or does not fit the options.
        ShapesHDError: if it is damaged.
    """
    _require_generator(request.path, request.name)
    require_known_form(request, "a checkpoint's")
    place = usable_device(request.device)
    network, latent_dim = load_generator(request.path, place)
    facts = apply_sampling(network, request.options, request.name)
    facts |= _solved(network, request)
    return network_source(network, latent_dim, request, place, facts=facts)


def open_model(request: OpenRequest) -> GeneratorSource:
    """Open a trained generator that comes with the program, as `open_checkpoint` does.

    It is called by its whole name, with the phase, and knows its own digest: that of its tensors.

    Raises:
        UsageError: if there is none of this name, or it does not fit the options.
    """
    model = find_shipped(request.text)
    digest = str(read_card(model.path)["sha256"])
    request = replace(request, text=str(model.path), name=model.text)
    source = open_checkpoint(request)
    source.kind, source.digest = MODEL_KIND, digest
    return source


def open_run(request: OpenRequest) -> GeneratorSource:
    """Open the generator of a run's last finished phase, which gives the source its name.

    Raises:
        UsageError: if no phase is finished, or it does not fit the options.
        ShapesHDError: if it is damaged.
    """
    path = str(examine_run(request))
    note(f"{request.name}: {path}")
    return open_checkpoint(replace(request, text=path, name=path))


def _solved(network: nn.Module, request: OpenRequest) -> dict[str, Any]:
    """Let a flow take the solver and the steps of the options; return what it takes."""
    flow, options = getattr(network, "network", None), request.options
    if not isinstance(flow, Flow):
        for name in ("steps", "solver"):
            if getattr(options, name) is not None:
                raise UsageError(
                    f"{request.name}: makes an image at once, not step by step as a flow: leave "
                    f"out {named(name)}"
                )
        return {}
    flow.steps, flow.solver = options.steps or flow.steps, options.solver or flow.solver
    return {"architecture": ImageFlow.architecture, "steps": flow.steps, "solver": flow.solver}


def require_known_form(request: OpenRequest, whose: str) -> None:
    """Raise `UsageError` if options contradict images in [-1, 1], channels first."""
    options = request.options
    if options.range not in ("auto", "symmetric") or options.layout not in ("auto", "nchw"):
        raise UsageError(
            f"{request.name}: {whose} images are in [-1, 1] and channels first: leave "
            f"{named('range')} and {named('layout')} away"
        )


def network_source(
    network: nn.Module,
    latent_dim: int,
    request: OpenRequest,
    device: torch.device,
    *,
    kind: str = KIND,
    facts: Mapping[str, Any] | None = None,
    labels: Labels | None = None,
) -> GeneratorSource:
    """Return the images of a network of ours, which are in [-1, 1], channels first.

    Args:
        network: on `device`; float32 latents (n, latent_dim) -> images (n, 3, H, W).
        latent_dim: components of a latent.
        request: name, seed and options are used; range and layout are known.
        device: where it computes.
        kind: of the source.
        facts: how the network was read, for the description.
        labels: what the network takes with the latents; None if it takes latents alone.
    """
    batches = NetworkBatches(
        network,
        name=request.name,
        latent_dim=choose_latent_dim(latent_dim, request.options, request.name),
        seed=request.seed,
        device=device,
        batch=request.options.batch,
        form=ImageFormat(
            replace(request.options, range="symmetric", layout="nchw"), name=request.name
        ),
        facts=facts,
        labels=labels,
    )
    return GeneratorSource(request.name, kind, batches)


def _require_generator(path: Path, name: str) -> None:
    path = path.with_suffix(SUFFIX)
    if not path.is_file():
        raise UsageError(f"{name}: no such file")
    if not has_card(path):
        raise UsageError(
            f"{name}: its metadata hold no card of shapeshd, so which network its tensors belong "
            f"to is not known: say {named('architecture')}, or write a Python file that loads it "
            "(SOURCE file.py:function)"
        )
    kind = read_card(path)["kind"]
    if kind != CARD_KIND:
        factors = kind.startswith("factor-")
        raise UsageError(
            f"{name}: holds a {kind}, not a generator"
            + (
                " of images; how well its factors are distributed is in the result.json beside it"
                if factors
                else ""
            )
        )
