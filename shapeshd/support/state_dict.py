"""Bare tensors by name, as ``torch.save(network.state_dict(), ...)`` and safetensors keep them.

Wrappers put something before the names: `torch.nn.DataParallel` and ``DistributedDataParallel``
``module.``, `torch.compile` ``_orig_mod.``, and a network that is part of another the name that it
has there. `unwrapped` takes that off, and is the one place that knows how.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from shapeshd.errors import ShapesHDError, UsageError, explain, named

from .progress import note

SUFFIXES = (".safetensors", ".pt", ".pth")
_SAFE_TORCH = (2, 10)  # the first whose weights_only has no known way around it
_COMPILED = "_orig_mod"
_AVERAGED = "n_averaged"  # beside `module.` in a torch.optim.swa_utils.AveragedModel
_SHOWN = 5


def read_tensors(path: Path, name: str, *, trust: bool = False) -> dict[str, Tensor]:
    """Read a file of tensors onto the CPU; no code in it runs.

    Args:
        path: the file, by safetensors if it is called so, else by `torch.load`.
        name: what the user called it.
        trust: whether the user trusts it, which only versions of PyTorch before 2.10 ask for.

    Raises:
        UsageError: if it holds anything but tensors by name, or must be trusted.
        ShapesHDError: if it is damaged.
    """
    try:
        if path.suffix.lower() == SUFFIXES[0]:
            from safetensors.torch import load_file

            return load_file(path)
        version = tuple(int(part) for part in torch.__version__.split(".")[:2])
        if not trust and version < _SAFE_TORCH:
            raise UsageError(
                f"{name}: PyTorch {torch.__version__} cannot be kept from running code in such a "
                f"file: save it as .safetensors, or add {named('trust')} if you know where it "
                "comes from"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file's age; the error says enough
            values = torch.load(path, map_location="cpu", weights_only=True)
    except ShapesHDError:
        raise
    except Exception as error:  # safetensors, pickle, zip and PyTorch share no base but this
        if path.suffix.lower() == SUFFIXES[0]:
            raise ShapesHDError(f"{name}: is no safetensors file ({explain(error)})") from None
        # PyTorch's own message goes on for pages about what to allow.
        raise ShapesHDError(
            f"{name}: holds no weights that can be read as tensors alone ({type(error).__name__})"
        ) from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError(f"{name}: holds no dictionary of tensors, as a network's weights are")
    others = [key for key, value in values.items() if not isinstance(value, Tensor)]
    if others:
        shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        raise UsageError(
            f"{name}: holds more than a network's tensors ({shown}): save the one network's "
            "state_dict() alone"
        )
    return values


def unwrapped(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield tensors under their names, then under ever shorter ones.

    What all names begin with is taken off, one part at a time; then the same once more without
    the ``_orig_mod.`` that compiled parts of a network have inside their names.

    Yields:
        What was taken off, such as "module.", at first ""; and the tensors.
    """
    yield from _shortened("", dict(tensors))
    plain = {
        ".".join(part for part in key.split(".") if part != _COMPILED): tensor
        for key, tensor in tensors.items()
    }
    if len(plain) == len(tensors) and plain.keys() != set(tensors):
        yield from _shortened(f"{_COMPILED}.", plain)


def fitting(
    tensors: Mapping[str, Tensor], fits: Callable[[Mapping[str, Tensor]], bool], name: str
) -> Mapping[str, Tensor]:
    """Return tensors under the first names of `unwrapped` that fit, and say what was taken off.

    Args:
        tensors: by name.
        fits: tells whether a network has these names.
        name: of their file, for the note.

    Returns:
        `tensors` as they are if none fit, so that what refuses them names theirs.
    """
    for prefix, left in unwrapped(tensors):
        if fits(left):
            say_prefix(prefix, name)
            return left
    return tensors


def say_prefix(prefix: str, name: str) -> None:
    """Tell the user what was taken off the names of the tensors in `name`, if anything was."""
    if prefix:
        note(f"{name}: read without the {prefix} in the names of its tensors")


def _shortened(taken: str, tensors: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    yield taken, tensors
    if _AVERAGED in tensors:
        tensors = {key: value for key, value in tensors.items() if key != _AVERAGED}
    while True:
        heads = {key.partition(".")[0] for key in tensors}
        if len(heads) != 1 or not all(key.partition(".")[2] for key in tensors):
            return
        head = f"{heads.pop()}."
        taken += head
        tensors = {key.removeprefix(head): value for key, value in tensors.items()}
        yield taken, tensors
