"""Restores the random generators and the networks of the program that calls us."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def restoring_random_state(device: torch.device | None = None) -> Iterator[None]:
    """Give the random generators of Python, NumPy and PyTorch their states back at the end.

    Args:
        device: one, beside the CPU and all CUDA devices that are in use, whose generator counts.
    """
    kind = "cpu" if device is None else device.type
    if kind == "cuda":
        torch.cuda.init()  # else its generators would begin with a seed of ours
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(gpus, device_type="cuda"))
        if device is not None and kind not in ("cpu", "cuda"):
            stack.enter_context(torch.random.fork_rng([device.index or 0], device_type=kind))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def seed_random_state(seed: int) -> None:
    """Seed the random generators of Python, NumPy and PyTorch, on all devices that are in use.

    Args:
        seed: in [0, 2^32 - 1].
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # else PyTorch would keep the seed for when it is
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and every part of it back into its own at the end."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        module.train(modes[0][1])  # which some networks override, to merge and part weights
        for part, training in modes:
            part.training = training
