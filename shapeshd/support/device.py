"""The device that computes: named by a user, checked before anything is loaded, and given data."""

from __future__ import annotations

import torch
from torch import Tensor

from shapeshd.errors import UsageError, explain, named


def usable_device(text: str) -> torch.device:
    """Return the device `text`, such as "cpu" or "cuda:1".

    Raises:
        UsageError: if PyTorch does not know it, or cannot compute on it here.
    """
    said = named("device", text)
    try:
        device = torch.device(text)
    except (RuntimeError, ValueError):  # PyTorch would list two dozen
        raise UsageError(f"{said} cannot be used: say cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UsageError(
            f"{said} cannot be used on this machine: PyTorch finds {found or 'no'} CUDA "
            f"device{'s' * (found != 1)}: use {'another one' if found else named('device', 'cpu')}"
        )
    try:
        torch.zeros(1, device=device).cpu()  # "meta" computes nothing
    except Exception as error:
        raise UsageError(
            f"{said} cannot be used on this machine ({explain(error)}): use "
            f"{named('device', 'cpu')}"
        ) from None
    return device


def moved(values: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor on a device, without waiting for what the device has been given to do.

    A copy from a program's own memory to a GPU waits for all that is queued there; one from pinned
    memory takes its place in the queue, and PyTorch keeps the pinned pages until it is done. On
    MPS such a copy may still read when its source has been freed, so there it waits.

    Args:
        values: on the CPU; one that is elsewhere is moved as `Tensor.to` does it.
        device: where it shall be.
        dtype: that it shall have; it is converted before it is moved. None keeps its own.
    """
    place = torch.device(device)
    if dtype is not None:
        values = values.to(dtype)
    if values.device.type != "cpu" or place.type in ("cpu", "mps"):
        return values.to(place)
    if place.type == "cuda":
        values = values.pin_memory()
    return values.to(place, non_blocking=True)
