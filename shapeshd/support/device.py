"""The device that computes: named by a user, and checked before anything is loaded."""

from __future__ import annotations

import torch

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
