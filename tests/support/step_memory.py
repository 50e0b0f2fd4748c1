"""A phase's step as it is computed, and the memory that it takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from shapeshd.models.config import RunConfig
from shapeshd.models.training.aae import AAEPhase
from shapeshd.models.training.distributed import Group
from shapeshd.models.training.dry_run import _state
from shapeshd.models.training.flow import FlowPhase
from shapeshd.models.training.gan import GANPhase
from shapeshd.models.training.phase import Phase
from shapeshd.models.training.run import TrainingRun
from shapeshd.models.training.vae import VAEPhase

EACH_STEP = [
    "gan.path=1", "gan.path_every=1", "gan.penalty_every=1", "aae.penalty_every=1",
    "gan.head_start=0", "gan.augment=none",
]  # fmt: skip
"""Changes of a configuration with which each step has all that a step can have."""


def batches_of(batch: int) -> list[str]:
    """Return the changes with which all phases have a batch of this size."""
    return [f"{phase}.batch={batch}" for phase in ("vae", "aae", "gan", "flow")]


def computed_phase(run: TrainingRun, name: str) -> tuple[Phase, Tensor, Tensor]:
    """Return a phase on the CPU, and a batch of numbers with its rows; see `Phase.update`."""
    config: RunConfig = run.config
    shared: tuple[Any, Any, Any, Any] = (config, run.domain, Group(), run.device)
    phase: Phase
    if name in ("vae", "flow"):
        phase = (VAEPhase if name == "vae" else FlowPhase)(*shared)
    else:
        pair = run.domain.encoder(), run.domain.generator()
        if name == "aae":
            phase = AAEPhase(*shared, *pair, torch.randn(100, run.domain.feature_dim))
        else:
            phase = GANPhase(*shared, pair)
    x = torch.randn(phase.schedule.batch, *run.domain.shape)
    return phase, x.contiguous(memory_format=torch.channels_last), torch.arange(len(x))


def allocated(phase: Phase, x: Tensor, rows: Tensor) -> int:
    """Return the most bytes that there are in a step, by PyTorch's own profile of its allocator.

    It does not see that a gradient is let go which was there before, so there is none.

    Args:
        phase: that has taken a step, so that it has moments.
        x: see `Phase.update`.
        rows: likewise.
    """
    for optimizer in phase.optimizers.values():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
    now = peak = x.nbytes + sum(tensor.nbytes for tensor in _state(phase))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        for _ in range(2):  # in the second step gradients are there from the first
            phase.update(0, x, rows)
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return int(peak)
