"""Estimates parameters, memory and work of each phase of a run, without training."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from shapeshd.models.config import IMAGES, RunConfig
from shapeshd.support.progress import human_bytes

from .aae import AAEPhase
from .distributed import Draws, Group
from .flow import FlowPhase
from .gan import GANPhase
from .phase import Phase
from .run import TrainingRun
from .vae import VAEPhase

_LARGEST_TIMED = 2e11, 4e9
"""Work and memory of the largest steps that are timed without CUDA."""
_SHORTEST_TIMED, _LONGEST_TIMED = 1.0, 20.0  # seconds


def plan_of(run: TrainingRun, phases: Sequence[str], *, timed: bool = False) -> dict[str, Any]:
    """Estimate what each phase takes, ready for JSON.

    A step is taken on shapes alone, with the whole batch: nothing is computed or stored. Its
    memory is that of all tensors that there are at one time, at the highest; libraries' work space
    and what the allocator loses are not in it. The work is counted by PyTorch's formulas, in
    multiply-adds times two. Augmentation, whose probability begins at 0, is in neither.

    Args:
        run: with its configuration and data; what a compiler makes of networks can be neither
            counted nor measured, so it must not be `compiled`.
        phases: by name.
        timed: also take some steps on the run's device, with random data, where they are not too
            large for it.

    Raises:
        UsageError: if batches cannot be shared or are larger than the data.

    Returns:
        By phase: ``steps``, ``batch``, ``parameters`` by network, ``state_bytes``,
        ``activation_bytes`` that autograd keeps of a batch, ``peak_bytes`` of a step with both of
        these, ``flops`` a step (a multiply-add is two), and ``features_bytes`` of phase 2. If
        `timed`, ``seconds_a_step`` and whether a training would be ``compiled_in_training``, which
        is not tried; or None, and ``why_not_timed``.
    """
    if not run.group.first:
        return {}
    plans = {name: _plan(run, name) for name in phases}
    if timed:
        for name, plan in plans.items():
            plan |= _time_of_a_step(run, name, plan)
    return plans


def _plan(run: TrainingRun, name: str) -> dict[str, Any]:
    run.check(name)
    config = run.config
    schedule = getattr(config, name)
    with _Fakes(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by copies
        with run.device, _made_in_place():
            phase = _phase_of_shapes(run, name)
        rows = torch.arange(phase.schedule.batch)
        x = torch.empty(len(rows), *run.domain.shape, device=run.device)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        _fill_state(phase)
        with _kept() as kept, MemoryCounter([*_state(phase), x]) as memory:
            first = _work(phase, 0, x, rows)  # this step has all there is
        flops = _mean_work(phase, first, x, rows)
    every = {**phase.networks, **{f"fixed {key}": net for key, net in phase.fixed.items()}}
    features_bytes = 0
    if name == "aae":
        total = run.domain.count + run.domain.held_out
        features_bytes = 4 * total * run.domain.feature_dim
    return {
        "steps": schedule.steps,
        "batch": schedule.batch,
        "parameters": {key: sum(p.numel() for p in net.parameters()) for key, net in every.items()},
        "state_bytes": sum(tensor.untyped_storage().nbytes() for tensor in _state(phase)),
        "activation_bytes": kept[0],
        "peak_bytes": memory.peak,
        "features_bytes": features_bytes,
        "flops": round(flops),
    }


def _time_of_a_step(run: TrainingRun, name: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the mean time of a step over full rounds of its penalties, after two others.

    A long round is left early. It begins with the penalties, so that it then says too much rather
    than too little.
    """
    round_steps = math.lcm(*_penalty_steps(run.config, name).values())
    most_work, most_memory = _LARGEST_TIMED
    if run.device.type == "cuda":
        most_work, most_memory = math.inf, torch.cuda.mem_get_info(run.device)[0]
    needed = plan["peak_bytes"] + plan["features_bytes"]
    why = None
    if needed > most_memory:
        why = f"it needs more memory than the {human_bytes(most_memory)} that may be taken for it"
    elif plan["flops"] > most_work:
        why = "a step is too much work to try it on this device"
    if why is not None:
        return {"seconds_a_step": None, "why_not_timed": why}
    phase = _new_phase(run, name)
    rows = torch.arange(phase.schedule.batch)
    x = torch.randn(len(rows), *run.domain.shape, device=run.device)
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    for _ in range(2):  # libraries choose their kernels, Adam makes its moments
        phase.update(1, x, rows)
    _wait_for(run.device)
    begin, taken, now = perf_counter(), 0, 0.0
    while (taken % round_steps and now < _LONGEST_TIMED) or now < _SHORTEST_TIMED:
        phase.update(taken, x, rows)
        taken += 1
        if taken % round_steps == 0 or taken % 8 == 0 or run.device.type == "cpu":
            _wait_for(run.device)
            now = perf_counter() - begin
    compiled = run.config.domain == IMAGES and run.config.images.compile
    return {"seconds_a_step": now / taken, "compiled_in_training": compiled}


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _phase_of_shapes(run: TrainingRun, name: str) -> Phase:
    """Return a phase whose draws are shapes alone; see `_new_phase`."""
    phase = _new_phase(run, name)
    phase.draws = _Shapes(run.config.seed, run.device, Group())
    return phase


def _new_phase(run: TrainingRun, name: str) -> Phase:
    """Return a phase on new networks, with this process's part of a batch as its own.

    All of phase 2's data have the same features.
    """
    config, domain = run.config, run.domain
    schedule = getattr(config, name)
    part = {"batch": schedule.batch // run.group.count}
    if name == "aae":
        part["codes"] = schedule.codes // run.group.count
    if name == "gan":
        part["head_start"] = 0  # the first step already trains all
    reduced = replace(config, **{name: replace(schedule, **part)})
    shared = (reduced, domain, Group(), run.device)
    phase: Phase
    if name in ("vae", "flow"):
        phase = (VAEPhase if name == "vae" else FlowPhase)(*shared)
    elif name == "aae":
        features = torch.zeros(1, domain.feature_dim, device=run.device).expand(domain.count, -1)
        phase = AAEPhase(*shared, domain.encoder(), domain.generator(), features)
    else:
        pair = None
        if config.gan.paired or config.gan.from_autoencoder:
            pair = (domain.encoder(), domain.generator())
        phase = GANPhase(*shared, pair)
        phase.augmentation = None  # its probability begins at 0: nothing is transformed
    return phase


@contextmanager
def _made_in_place() -> Iterator[None]:
    """Let `Module.to` change the order of filters in memory and nothing else.

    It cannot move fake tensors, which are where they belong. But that order decides how features
    lie in memory, and so which copies of them a step keeps.
    """
    to = nn.Module.to

    def ordered(network: nn.Module, *_: Any, **how: Any) -> nn.Module:
        order = how.get("memory_format")
        for module in network.modules() if order is not None else ():
            for name, value in module.named_parameters(recurse=False):
                if value.ndim == 4:
                    filters = torch.empty_like(value, memory_format=order)
                    setattr(module, name, nn.Parameter(filters, value.requires_grad))
        return network

    nn.Module.to = ordered  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.to = to  # type: ignore[method-assign]


class _Fakes(FakeTensorMode):
    """Makes tensors without storage, which know their device for autocast; copies stay its own."""

    def __deepcopy__(self, memo: Any) -> _Fakes:
        return self


class _Shapes(Draws):
    """Gives tensors of the shapes of `Draws`, and draws nothing."""

    def normal(self, step: int, what: str, batch: int, *shape: int) -> Tensor:
        return torch.empty(batch, *shape, device=self._device)

    def times(self, step: int, what: str, batch: int) -> Tensor:
        return torch.empty(batch, device=self._device)

    def rows(self, step: int, what: str, batch: int, count: int) -> Tensor:
        return torch.empty(batch, dtype=torch.int64)


def _mean_work(phase: Phase, first: Mapping[str, int], x: Tensor, rows: Tensor) -> Fraction:
    """Return the mean work of a step; each penalty belongs to the step of one optimizer.

    Args:
        phase: on shapes.
        first: what `_work` found of step 0, which has all penalties.
        x: see `Phase.update`.
        rows: likewise.
    """
    every = _penalty_steps(phase.config, phase.name)
    rare = max(every.values(), default=1) > 1
    plain = _work(phase, 1, x, rows) if rare else first
    shares = {name: Fraction(1, every.get(name, 1)) for name in first}
    works = (plain[name] + shares[name] * (work - plain[name]) for name, work in first.items())
    return sum(works, Fraction())


def _penalty_steps(config: RunConfig, name: str) -> dict[str, int]:
    """Return how many steps lie between two penalties, by the optimizer that they belong to."""
    gan, aae = config.gan, config.aae
    penalties = {
        "gan": {
            "discriminator": (gan.penalty, gan.penalty_every),
            "generator": (gan.path, gan.path_every),
        },
        "aae": {"c1": (aae.penalty, aae.penalty_every)},
    }.get(name, {})
    return {name: every for name, (weight, every) in penalties.items() if weight > 0}


def _work(phase: Phase, step: int, x: Tensor, rows: Tensor) -> dict[str, int]:
    """Count the work of a step, by the optimizer that it is done for."""
    found: dict[str, int] = {}
    descend = phase.descend

    def counted(name: str, loss: Tensor, step: int) -> None:
        descend(name, loss, step)
        found[name] = found.get(name, 0) + counter.flops - sum(found.values())

    with _ShapeCounter() as counter:
        phase.descend = counted  # type: ignore[method-assign]
        try:
            phase.update(step, x, rows)
        finally:
            del phase.descend  # the class's own is seen again
    found[next(reversed(found))] += counter.flops - sum(found.values())
    return found


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


class _ShapeCounter(WorkCounter):
    """Counts, and answers 1 where a step asks for the value of a tensor, which has none here."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation on shapes and count it."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0
        return super().__torch_dispatch__(func, types, args, kwargs)


class MemoryCounter(TorchDispatchMode):
    """Follows the memory of tensors from when an operation makes them until nothing holds them.

    Args:
        tensors: that are there already.

    Attributes:
        now: bytes.
        peak: bytes, the most that there were at one time.
    """

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._held: dict[int, weakref.ref[Any]] = {}
        for tensor in tensors:
            self._hold(tensor)

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._held:
            return

        def let_go(_: Any) -> None:
            del self._held[key]
            self.now -= size

        self._held[key] = weakref.ref(storage, let_go)
        self.now += size
        self.peak = max(self.peak, self.now)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and hold what it makes."""
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(made, Tensor):
                self._hold(made)
        return out


def _parameters(phase: Phase) -> Iterator[nn.Parameter]:
    for optimizer in phase.optimizers.values():
        for group in optimizer.param_groups:
            yield from group["params"]


def _fill_state(phase: Phase) -> None:
    """Give a phase on shapes the gradients and moments that it has after its first step."""
    for parameter in _parameters(phase):
        parameter.grad = torch.empty_like(parameter)
    for optimizer in phase.optimizers.values():
        optimizer.step()


def _state(phase: Phase) -> list[Tensor]:
    """Return networks, averages, moments and gradients."""
    gradients = [p.grad for p in _parameters(phase) if p.grad is not None]
    return [*phase.tensors().values(), *gradients]


@contextmanager
def _kept() -> Iterator[list[int]]:
    """Give the most bytes that autograd has kept for backward passes at one time."""
    now, peak, holders = 0, [0], dict[int, int]()

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal now
            self.tensor = tensor
            storage = tensor.untyped_storage()
            self.key, self.size = storage._cdata, storage.nbytes()
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
