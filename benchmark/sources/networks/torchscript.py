"""A generator saved by TorchScript (`torch.jit.save`): ``.pt``, ``.ts``, ``.pth``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.labels import Labels, choose_labels, refuse_labels, stated_classes
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import ShapesHDError, UsageError, explain, named
from shapeshd.support.device import usable_device

from .generator import (
    GeneratorSource,
    NetworkBatches,
    choose_latent_dim,
    stated_dim,
)
from .latent_shape import ShapedLatents

KIND = "torchscript"


def open_torchscript(request: OpenRequest) -> GeneratorSource:
    """Open a TorchScript module that maps latents (n, latent_dim) to images.

    The latent dimension is the module's attribute `latent_dim` or `z_dim` (which scripting
    keeps and tracing drops), else the options'. A second argument takes class labels, as many as
    the attribute `num_classes` or `c_dim` says, else the options; one that has a default is used
    only where the options speak of labels.

    Raises:
        UsageError: if it does not fit the options.
        ShapesHDError: if it cannot be loaded.
    """
    name, options = request.name, request.options
    place = usable_device(request.device)
    module = load_torchscript(request.path, place, name)
    module.eval()
    network = NetworkBatches(
        ShapedLatents(module, options.latent_shape),
        name=name,
        latent_dim=choose_latent_dim(stated_dim(module), options, name),
        seed=request.seed,
        device=place,
        batch=options.batch,
        form=ImageFormat(options, name=name),
        labels=_labels(module, options, name),
    )
    return GeneratorSource(name, KIND, network)


def _labels(module: Any, options: SourceOptions, name: str) -> Labels | None:
    """Return the labels that `module` takes, None if it takes latents alone."""
    arguments = module.forward.schema.arguments[1:]
    asked = any(getattr(options, name) is not None for name in ("labels", "classes", "label_form"))
    if len(arguments) < 2 or (arguments[1].has_default_value() and not asked):
        refuse_labels(options, name, "takes one argument")
        return None
    if options.label_form is None:
        raise UsageError(
            f"{name}: takes a second argument, {arguments[1].name}: if that is a class label, give "
            f"{named('label_form')}: onehot (float32 of n x classes) or index (int64 of n)"
        )
    return choose_labels(stated_classes(module), name, options, options.label_form)


def load_torchscript(path: Path, device: torch.device, name: str) -> Any:
    """Load a TorchScript module; raise `ShapesHDError`, which calls it `name`, if it cannot be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "use torch.export": the user's choice
        try:
            return torch.jit.load(str(path), map_location=device)
        except (RuntimeError, ValueError, OSError) as error:
            raise ShapesHDError(
                f"{name}: cannot be loaded by PyTorch {torch.__version__} ({explain(error)})"
            ) from error
