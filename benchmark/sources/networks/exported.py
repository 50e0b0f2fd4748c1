"""A generator saved by `torch.export.save`: ``.pt2``.

Such an archive holds a graph of PyTorch's own operators and no Python code. Its loader is not
made for files of strangers, though: it hands the texts that describe sizes to SymPy, which
evaluates them as Python, and what it cannot read otherwise to pickle. So it needs trust like
TorchScript. Only the names of the archive's members are looked at before.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.options import OPTIONS
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import ShapesHDError, UsageError, explain, named
from shapeshd.support.device import usable_device

from .generator import (
    GeneratorSource,
    NetworkBatches,
    choose_latent_dim,
)

KIND = "torch-export"
_ENDLESS = 2**31


def open_exported(request: OpenRequest) -> GeneratorSource:
    """Open an exported program of one input, latents (n, d) or (n, d, 1, 1), and one of images.

    The length of a batch is the options', where the program takes it. A program exported for
    one length, or up to one, takes that in place of the default.

    Raises:
        UsageError: if it is no such program, or does not fit the options.
        ShapesHDError: if it cannot be loaded.
    """
    name, options = request.name, request.options
    place = usable_device(request.device)
    network = _Network(_load(request.path, place, name), name)
    batches = NetworkBatches(
        network,
        name=name,
        latent_dim=choose_latent_dim(network.latent_dim, options, name),
        seed=request.seed,
        device=place,
        batch=_choose_batch(network.batches, options.batch, name),
        form=ImageFormat(options, name=name),
        lengths=network.batches,
    )
    return GeneratorSource(name, KIND, batches)


class _Network:
    """An exported program as a function of latents.

    Attributes:
        latent_dim: components of a latent.
        batches: the least and the largest number of latents at a time.
    """

    def __init__(self, program: Any, name: str) -> None:
        latents = _only_input(program, name)
        _require_image(program, name)
        self._dtype = latents.dtype
        self._extra_axes = latents.ndim - 2
        self.latent_dim = int(latents.shape[1])
        self.batches = _lengths(program, latents.shape[0])
        self._module = program.module()

    def __call__(self, latents: Tensor) -> Any:
        shaped = latents.reshape(*latents.shape, *(1,) * self._extra_axes)
        return self._module(shaped.to(self._dtype))


def _load(path: Path, device: torch.device, name: str) -> Any:
    with warnings.catch_warnings(), _logged() as logged:
        warnings.simplefilter("ignore")
        try:
            program = torch.export.load(str(path))
            tensors = [*program.state_dict.values(), *program.constants.values()]
            if any(getattr(tensor, "device", device) != device for tensor in tensors):
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, device)
        except Exception as error:  # its reader raises anything on arbitrary bytes
            reason = explain(logged[0] if logged else error)
            raise ShapesHDError(
                f"{name}: cannot be loaded by PyTorch {torch.__version__} ({reason})"
            ) from error
    return program


@contextmanager
def _logged() -> Iterator[list[BaseException]]:
    """Keep PyTorch's loader from printing the traceback of what it then raises without a reason."""
    errors: list[BaseException] = []

    def hold(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            errors.append(record.exc_info[1])
        return False

    log = logging.getLogger("torch.export")
    log.addFilter(hold)
    try:
        yield errors
    finally:
        log.removeFilter(hold)


def _only_input(program: Any, name: str) -> Tensor:
    """Return the stand-in for the program's only input, after a look at its form."""
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        shown = ", ".join(map(str, names)) or "none"
        raise UsageError(f"{name}: has {len(names)} inputs ({shown}), but must have one, latents")
    (found,) = (node.meta["val"] for node in program.graph.nodes if node.name == names[0])
    form = f"its input {names[0]} {_shown(found)}"
    if not isinstance(found, Tensor) or not found.is_floating_point():
        raise UsageError(f"{name}: {form} does not take floats: no latents")
    whole = all(isinstance(axis, int) for axis in found.shape[1:])
    if found.ndim not in (2, 4) or not whole or any(axis != 1 for axis in found.shape[2:]):
        raise UsageError(f"{name}: {form} is no batch of latents: (n, d) or (n, d, 1, 1)")
    return found


def _require_image(program: Any, name: str) -> None:
    names = program.graph_signature.user_outputs
    found = [node.meta["val"] for node in program.graph.nodes if node.name in names]
    if len(names) != 1 or not all(isinstance(one, Tensor) and one.ndim == 4 for one in found):
        shown = ", ".join(map(_shown, found)) or "none"
        raise UsageError(f"{name}: gives {shown}, but must give one tensor of images, (n, 3, H, W)")


def _shown(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    axes = ", ".join(str(axis) for axis in value.shape)
    return f"{str(value.dtype).removeprefix('torch.')} ({axes})"


def _lengths(program: Any, axis: Any) -> tuple[int, int]:
    """Return the least and the largest length of an axis."""
    if isinstance(axis, int):
        return axis, axis
    limits = program.range_constraints.get(axis.node.expr)
    if limits is None:
        return 1, _ENDLESS
    largest = min(limits.upper, _ENDLESS)
    return max(1, int(limits.lower)), int(largest)


def _choose_batch(lengths: tuple[int, int], wanted: int, name: str) -> int:
    least, most = lengths
    if least <= wanted <= most:
        return wanted
    if wanted == OPTIONS["batch"].default:  # the default, which nobody asked for
        return least if wanted < least else most
    takes = f"{least}" if least == most else f"{least} to {most}"
    raise UsageError(
        f"{name}: was exported for batches of {takes}: {named('batch', wanted)} does not fit"
    )
