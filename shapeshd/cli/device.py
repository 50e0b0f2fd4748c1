"""The option ``--device``."""

from __future__ import annotations

from shapeshd.errors import UsageError, one_line


def pick_device(text: str, gpu: int | None = None) -> str:
    """Return the device that `text` names; ``auto`` is a GPU if there is one, else ``cpu``.

    Args:
        text: such as ``cuda:1``.
        gpu: what ``cuda`` alone means to this process, where several share the work. No
            other GPU is touched.

    Raises:
        UsageError: if PyTorch does not know it or cannot use it here.
    """
    import torch

    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    if text == "cuda" and gpu is not None:
        text = f"cuda:{gpu}"
    try:
        device = torch.device(text)
    except (RuntimeError, ValueError):  # PyTorch would list two dozen
        raise UsageError(f"--device {text} cannot be used: say cpu, cuda, cuda:1 or mps") from None
    try:
        torch.zeros(1, device=device).cpu()  # "meta" computes nothing
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        why = one_line(error).split(". ")[0]
        raise UsageError(
            f"--device {text} cannot be used on this machine: {why}; --device cpu can"
        ) from None
    return text
