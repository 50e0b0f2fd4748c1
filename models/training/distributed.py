"""Lets several processes train one model: each takes its part of every batch.

All of them draw the random numbers of the whole batch and keep their part, so that two
processes compute what one would. Gradients are averaged by hand, in one message, rather than by
`DistributedDataParallel`: its hooks see one forward pass and one backward pass an update, and
here there are penalties of second order and networks that take part in two losses.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from shapeshd.errors import UsageError
from shapeshd.support.distributed import fellow_missing, process_group
from shapeshd.support.random_numbers import mixed_seed

_PATIENCE = timedelta(days=1)  # the first process scores alone: hours, of a flow at 256 pixels


class Group:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def part(self, batch: int) -> slice:
        """Return which samples of a batch are this process's."""
        share = batch // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def check(self, name: str, batch: int, unit: int = 1) -> None:
        """Raise `UsageError` unless a batch divides into equal parts, multiples of `unit`."""
        if batch % (self.count * unit):
            shared = f"{self.count} processes share it" if self.count > 1 else "it is taken"
            raise UsageError(
                f"{name} must be a multiple of {self.count * unit}, not {batch}: {shared}"
                + (f" in groups of {unit}" if unit > 1 else "")
            )

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes, which all must ask for it.

        Raises:
            ShapesHDError: if one of them has ended, or has not come for a day.
        """
        if self.count == 1:
            return value
        import torch.distributed as dist

        value = value.detach().clone()
        try:
            dist.all_reduce(value)
        except RuntimeError as error:
            raise fellow_missing(self.rank, self.count, error) from None
        return value / self.count

    def wait(self) -> None:
        """Wait until all have come here; see `mean` for the error."""
        self.mean(torch.zeros(()))

    def mean_with_gradient(self, value: Tensor) -> Tensor:
        """Return the mean over the processes, through which gradients flow to all of them."""
        if self.count == 1:
            return value
        mean: Tensor = _Mean.apply(value, self)
        return mean

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their mean over the processes."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self.mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, new in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(new.view_as(gradient))


class _Mean(torch.autograd.Function):
    """`Group.mean`; each process's part in it is 1 / count, in the losses of all of them."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Group) -> Tensor:
        """Return the mean of `value` over the processes."""
        ctx.group = group
        return group.mean(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient by this process's value."""
        return ctx.group.mean(gradient), None


class Draws:
    """Random numbers that are a function of the seed, the step, and what they are for.

    A run that is taken up again therefore has no generator's state to restore.

    Args:
        seed: of the run.
        device: where the numbers are drawn.
        group: the processes that share a batch.
    """

    def __init__(self, seed: int, device: torch.device, group: Group) -> None:
        self._seed, self._device, self._group = seed, device, group

    def generator(self, step: int, what: str, device: str | None = None) -> torch.Generator:
        """Return a generator of random numbers, on the run's device or another."""
        seed = mixed_seed(self._seed, step, zlib.crc32(what.encode()))
        return torch.Generator(device or self._device).manual_seed(seed)

    def normal(self, step: int, what: str, batch: int, *shape: int) -> Tensor:
        """Return this process's part of N(0, 1) numbers of the shape (batch, *shape)."""
        generator = self.generator(step, what)
        whole = torch.randn(batch, *shape, generator=generator, device=self._device)
        return whole[self._group.part(batch)]

    def times(self, step: int, what: str, batch: int) -> Tensor:
        """Return this process's part of `batch` times, float32 in [0, 1], spread evenly over it.

        They are u, u + 1 / batch, u + 2 / batch ... modulo 1 with one u uniform in [0, 1): each
        is uniform, and a mean over all of them varies less than one over independent times
        (Kingma et al. 2021, arXiv:2107.00630, appendix I.1).
        """
        u = torch.rand((), generator=self.generator(step, what), device=self._device)
        whole = (u + torch.arange(batch, device=self._device) / batch) % 1
        return whole[self._group.part(batch)]

    def rows(self, step: int, what: str, batch: int, count: int) -> Tensor:
        """Return this process's part of `batch` rows out of `count`, drawn with replacement."""
        generator = self.generator(step, what, "cpu")
        return torch.randint(count, (batch,), generator=generator)[self._group.part(batch)]


@contextmanager
def joined_group(device: str | torch.device) -> Iterator[Group]:
    """Join the processes that torchrun has started; without it there is only this one.

    Args:
        device: of this process: GPUs' tensors go over NCCL, the CPU's over gloo.
    """
    # With GPUs, too, there are numbers on the CPU: weights, flags.
    backend = "cpu:gloo,cuda:nccl" if torch.device(device).type == "cuda" else "gloo"
    with process_group(backend, _PATIENCE) as (rank, count):
        yield Group(rank, count)
