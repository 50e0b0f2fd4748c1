"""Estimates parameters, memory and work of each phase of a run, without training."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from math import lcm
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from shapeshd.models.config import FACTORS, RING, RunConfig
from shapeshd.support.progress import human_bytes

from .aae import AAEPhase
from .distributed import Group
from .gan import GANPhase
from .phase import Phase
from .run import TrainingRun
from .vae import VAEPhase

_PROBE = 4
"""Samples of the step that is measured; a step's memory grows in proportion to them."""


def plan_of(run: TrainingRun, phases: Sequence[str]) -> dict[str, Any]:
    """Estimate what each phase takes, ready for JSON.

    A step of a few samples is taken on new networks and its memory measured: what autograd
    keeps at the highest, and the networks with their averages, gradients and moments. That
    grows in proportion to the batch. Libraries' work space and what the allocator loses are
    not in it. The work is counted by PyTorch, in multiply-adds times two.

    Args:
        run: with its configuration and data; what a compiler makes of networks can be neither
            counted nor measured, so it must not be `compiled`.
        phases: by name.

    Raises:
        UsageError: if batches cannot be shared or are larger than the data.

    Returns:
        By phase: ``steps``, ``batch``, ``parameters`` by network, ``state_bytes``,
        ``activation_bytes`` of a batch, ``flops`` a step (a multiply-add is two), and
        ``features_bytes`` of phase 2.
    """
    return {name: _plan(run, name) for name in phases} if run.group.first else {}


def describe_plan(plan: Mapping[str, Any]) -> str:
    """Return what `plan_of` found in lines for people."""
    lines = []
    for name, values in plan.items():
        lines.append(f"{name}: {values['steps']:,} steps of {values['batch']:,} samples")
        for network, count in values["parameters"].items():
            lines.append(f"  {network:<15} {count:>12,} parameters")
        state, kept = values["state_bytes"], values["activation_bytes"]
        more = values["features_bytes"]
        lines.append(
            f"  memory, about   {human_bytes(state + kept + more)}: networks "
            f"{human_bytes(state)}, a step {human_bytes(kept)}"
            + (f", features {human_bytes(more)}" if more else "")
        )
        per_step = values["flops"]
        lines.append(
            f"  work            {per_step / 1e9:,.1f} GFLOP a step, "
            f"{per_step * values['steps'] / 1e15:,.3f} PFLOP in all"
        )
    return "\n".join(lines)


def _plan(run: TrainingRun, name: str) -> dict[str, Any]:
    run.check(name)
    config, device = run.config, run.device
    schedule = getattr(config, name)
    share = schedule.batch // run.group.count
    probe = min(_PROBE * (RING if config.domain == FACTORS else 1), share)
    small = {"batch": probe}
    if name == "aae":
        codes = max(RING, config.aae.codes * probe // share // RING * RING)
        small["codes"] = codes
    if name == "gan":
        small["head_start"] = 0  # the first step already trains all
    reduced = replace(config, **{name: replace(schedule, **small)})
    torch.manual_seed(0)
    shared = (reduced, run.domain, Group(), device)
    phase: Phase
    if name == "vae":
        phase = VAEPhase(*shared)
    elif name == "aae":
        features = torch.randn(1024, run.domain.feature_dim, device=device)
        phase = AAEPhase(*shared, run.domain.encoder(), run.domain.generator(), features)
    else:
        pair = None
        if config.gan.paired or config.gan.from_autoencoder:
            pair = (run.domain.encoder(), run.domain.generator())
        phase = GANPhase(*shared, pair)
    rows = torch.arange(probe)
    x = next(iter(run.domain.batches([rows])))
    with _kept() as peak:
        work = {0: _work(phase, 0, x, rows)}  # the first step has all there is
    gc.collect()
    flops = Fraction(0)
    for step, part in _step_kinds(config, name):
        if step not in work:
            work[step] = _work(phase, step, x, rows)
        flops += part * work[step]
    every = {**phase.networks, **{f"fixed {key}": net for key, net in phase.fixed.items()}}
    features_bytes = 0
    if name == "aae":
        total = run.domain.count + run.domain.held_out
        features_bytes = 4 * total * run.domain.feature_dim
    return {
        "steps": schedule.steps,
        "batch": schedule.batch,
        "parameters": {key: sum(p.numel() for p in net.parameters()) for key, net in every.items()},
        "state_bytes": _state_bytes(phase),
        "activation_bytes": round(peak[0] * share / probe),
        "features_bytes": features_bytes,
        "flops": round(flops * share / probe),
    }


def _step_kinds(config: RunConfig, phase: str) -> list[tuple[int, Fraction]]:
    """Return a step of each kind, by which lazy penalties it has, and the share of such steps."""
    lazy = {
        "vae": (),
        "aae": ((config.aae.penalty, config.aae.penalty_every),),
        "gan": (
            (config.gan.penalty, config.gan.penalty_every),
            (config.gan.path, config.gan.path_every),
        ),
    }[phase]
    every = [steps for weight, steps in lazy if weight > 0]
    if not every:
        return [(1, Fraction(1))]
    both = Fraction(1, lcm(*every))
    alone = [(steps, Fraction(1, steps) - both) for steps in every]
    rest = 1 - both - sum(part for _, part in alone)
    return [(0, both), *((step, part) for step, part in (*alone, (1, rest)) if part)]


def _work(phase: Phase, step: int, x: Tensor, rows: Tensor) -> int:
    with WorkCounter() as counter:
        phase.update(step, x, rows)
    return counter.flops


class WorkCounter(TorchDispatchMode):
    """Counts the work of what is run in its context, backward passes included.

    PyTorch's own counter follows modules, too, and fails where a gradient by a module's input is
    taken, as R1 does; this one has its formulas alone.

    Attributes:
        flops: of matrix products and convolutions; a multiply-add is two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        return out


def _state_bytes(phase: Phase) -> int:
    """Count the bytes of networks, averages and moments as they are, and of gradients."""
    found = sum(tensor.numel() * tensor.element_size() for tensor in phase.tensors().values())
    for optimizer in phase.optimizers.values():
        for group in optimizer.param_groups:
            found += sum(p.numel() * p.element_size() for p in group["params"])
    return found


@contextmanager
def _kept() -> Iterator[list[int]]:
    """Give the most bytes that autograd has kept for backward passes at one time."""
    now, peak, holders = 0, [0], dict[int, int]()

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal now
            self.tensor = tensor
            storage = tensor.untyped_storage()
            self.key, self.size = storage.data_ptr(), storage.nbytes()
            holders[self.key] = holders.get(self.key, 0) + 1
            if holders[self.key] == 1:
                now += self.size
                peak[0] = max(peak[0], now)

        def __del__(self) -> None:
            nonlocal now
            holders[self.key] -= 1
            if not holders[self.key]:
                now -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        yield peak
