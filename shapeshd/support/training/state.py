"""What trainings keep: averages of weights, and networks and optimizers as tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from shapeshd.errors import ShapesHDError
from shapeshd.support.checkpoint import load_weights


def move_average(average: nn.Module, network: nn.Module, kept: float, step: int) -> None:
    """Move an average of weights and buffers towards a network's.

    Args:
        average: of the same class.
        network: after a step.
        kept: share of the average that stays; less in the first steps: (1 + step) / (10 + step).
        step: steps taken before this one.
    """
    weight = 1 - min(kept, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), weight)
        for old, new in zip(average.buffers(), network.buffers(), strict=True):
            old.lerp_(new, weight)


def state_tensors(
    networks: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """Return what `restore_tensors` takes: ``NETWORK.key``, ``optimizer.NAME.number.key``."""
    found = {
        f"{name}.{key}": value
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    for name, optimizer in optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                found[f"optimizer.{name}.{number}.{key}"] = value
    return found


def restore_tensors(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    tensors: Mapping[str, Tensor],
    path: Path,
) -> None:
    """Take over what `state_tensors` gave.

    Args:
        networks: the same ones, by name.
        optimizers: likewise.
        tensors: by name.
        path: where they come from, for the message.

    Raises:
        UsageError: naming the first tensor that does not fit.
        ShapesHDError: if the optimizers' tensors are those of other parameters.
    """
    for name, network in networks.items():
        load_weights(network, _below(tensors, f"{name}."), path, f"{name}.")
    for name, optimizer in optimizers.items():
        saved = optimizer.state_dict()
        count = sum(len(group["params"]) for group in saved["param_groups"])
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, f"optimizer.{name}.").items():
            number, _, leaf = key.partition(".")
            states.setdefault(int(number), {})[leaf] = value
        if not set(states) <= set(range(count)):
            raise ShapesHDError(f"{path}: holds moments of parameters that are not there")
        saved["state"] = states
        optimizer.load_state_dict(saved)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)
    }
