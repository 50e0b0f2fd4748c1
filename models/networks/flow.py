"""Flow matching's generators: a velocity field, and solvers that follow it from noise to data.

A network v(x, t) is trained so that dx/dt = v(x, t) carries N(0, I) at t = 0 into the data at t = 1
(Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023, arXiv:2209.03003). A sample is the solution
at t = 1 that begins at its latent, so that a latent has as many components as a sample and decides
it. The solver cuts [0, 1] into equal steps. More of them cost more and follow the field better.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast, get_args

import torch
from torch import Tensor, nn

from shapeshd.errors import MissingPackageError, UsageError
from shapeshd.support.schema import validated

from .blocks import Perceptron
from .config import FlowConfig, Solver
from .layers import full_precision

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Maps points (n, ...) and their times (n,) in [0, 1] to velocities (n, ...)."""

SOLVERS: tuple[Solver, ...] = get_args(Solver)
EVALUATIONS: dict[Solver, int] = {"euler": 1, "heun": 2, "midpoint": 2}
"""How often a solver asks for the velocity in a step."""

_FREQUENCIES = 8  # sines and cosines of the time that the perceptron sees
_TIME_SCALE = 1000.0  # diffusers' embedding of a time is made for steps 0 .. 999


def integrate(velocity: Velocity, x: Tensor, steps: int, solver: Solver) -> Tensor:
    """Solve dx/dt = v(x, t) from t = 0 to t = 1, in steps of 1 / `steps`.

    The error falls with the step h as h for "euler", and as h^2 for "heun" (the explicit
    trapezoidal rule, of Euler's step and its end) and "midpoint" (half an Euler step first); see
    Hairer, Norsett and Wanner 1993, section II.1.

    Args:
        velocity: v.
        x: float32 or float64 (n, ...), the points at t = 0.
        steps: at least 1.
        solver: one of `SOLVERS`.

    Returns:
        The points at t = 1, as `x`; it can be differentiated.
    """
    h = 1 / steps
    for step in range(steps):
        t = x.new_full((len(x),), step * h)
        first = velocity(x, t)
        if solver == "euler":
            x = x + h * first
        elif solver == "midpoint":
            x = x + h * velocity(x + h / 2 * first, t + h / 2)
        else:
            x = x + h / 2 * (first + velocity(x + h * first, t + h))
    return x


class Flow(nn.Module, ABC):
    """A generator that follows a velocity field from its latent.

    Args:
        shape: of a sample.
        solver: that `forward` takes.
        steps: that `forward` takes.

    Attributes:
        shape: of a sample.
        solver: may be changed at any time.
        steps: likewise.
    """

    def __init__(self, shape: tuple[int, ...], solver: Solver, steps: int) -> None:
        super().__init__()
        self.shape, self.solver, self.steps = shape, solver, steps

    @property
    def latent_dim(self) -> int:
        """Components of z: as many as a sample has."""
        return math.prod(self.shape)

    @abstractmethod
    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocities at points (n, *shape) and times (n,), in float32 at least."""

    def forward(self, z: Tensor) -> Tensor:
        """Map latents (n, latent_dim) to samples (n, *shape).

        Raises:
            UsageError: if `z` has another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise UsageError(f"latents must be (n, {self.latent_dim}), not {tuple(z.shape)}")
        x = full_precision(z).view(-1, *self.shape)
        parts = x.split(self.largest_part(x.device) or max(len(x), 1))
        return torch.cat([integrate(self.velocity, y, self.steps, self.solver) for y in parts])

    def largest_part(self, device: torch.device) -> int | None:
        """Return how many samples `forward` makes at a time; None for all."""
        return None


class PerceptronFlow(Flow):
    """A flow of vectors, whose velocity is a perceptron of the point and of its time.

    Beside x, the perceptron sees cos(k pi t) and sin(k pi t) for k = 1 .. 8, which tell times apart
    finely enough, and in float32 at least, autocast or not.

    Args:
        dim: components of a sample.
        width: of the hidden layers.
        layers: how many of them there are.
        solver: see `Flow`.
        steps: see `Flow`.
    """

    architecture: ClassVar[str] = "factor-flow"

    def __init__(self, dim: int, width: int, layers: int, solver: Solver, steps: int) -> None:
        super().__init__((dim,), solver, steps)
        self._sizes = {"dim": dim, "width": width, "layers": layers}
        self.body = Perceptron(dim + 2 * _FREQUENCIES, dim, width, layers)

    @property
    def settings(self) -> dict[str, Any]:
        """What it is built from, for a checkpoint's card."""
        return {**self._sizes, "solver": self.solver, "steps": self.steps}

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """Map points (n, dim) and times (n,) to velocities (n, dim)."""
        with torch.autocast(x.device.type, enabled=False):
            x, t = full_precision(x), full_precision(t)
            angles = math.pi * t[:, None] * torch.arange(1, _FREQUENCIES + 1, device=t.device)
            v: Tensor = self.body(torch.cat((x, angles.cos(), angles.sin()), 1))
        return v


class ImageFlow(Flow):
    """A flow of images, whose velocity is the `UNet2DModel` of the package diffusers.

    Attributes:
        architecture: its name in a checkpoint's card.
        config: what it is built from.
        unet: the network of images and times.

    Raises:
        MissingPackageError: if diffusers is not installed.
    """

    architecture: ClassVar[str] = "flow"

    def __init__(self, config: FlowConfig | None = None) -> None:
        config = config or FlowConfig()
        super().__init__((3, config.size, config.size), config.solver, config.steps)
        self._built = config
        self.unet = _unet(config)

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> ImageFlow:
        """Return a new flow of a configuration as `FlowConfig.to_json` gives it."""
        return cls(validated(FlowConfig, values, "config.", complete=True))

    @property
    def config(self) -> FlowConfig:
        """What it is built from, with the solver and the steps that are set now."""
        return self._built.solved_by(self.solver, self.steps)

    def largest_part(self, device: torch.device) -> int | None:
        """Return how many images are made at a time: on a CPU, 2^14 pixels.

        Their features then stay in the cache. At 32 x 32, 16 images at a time take 0.6 of the time
        of 256.
        """
        return max(2**14 // self._built.size**2, 1) if device.type == "cpu" else None

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """Map images (n, 3, size, size) and times (n,) to velocities like them."""
        x = x.contiguous(memory_format=unet_layout(x.device))
        v: Tensor = self.unet(x, t * _TIME_SCALE, return_dict=False)[0]
        return full_precision(v)


def unet_layout(device: torch.device) -> torch.memory_format:
    """Return how a flow's network of images and its images should lie in memory.

    Channels last on GPUs. On a CPU PyTorch's group normalization is slow there, its gradient above
    all: a training step at 32 x 32 takes 1.4 times as long as with channels first.
    """
    return torch.contiguous_format if device.type == "cpu" else torch.channels_last


def _unet(config: FlowConfig) -> nn.Module:
    try:
        from diffusers import UNet2DModel
    except ImportError:
        raise MissingPackageError.of("diffusers", "diffusers", "a flow of images") from None
    sizes = [config.size >> level for level in range(len(config.channels))]
    kinds = ["Attn" * (size <= config.attention) for size in sizes]
    unet = UNet2DModel(
        sample_size=config.size,
        in_channels=3,
        out_channels=3,
        block_out_channels=config.channels,
        layers_per_block=config.layers,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        add_attention=config.attention >= sizes[-1],
        attention_head_dim=config.head,
        norm_num_groups=config.groups,
    )
    return cast(nn.Module, unet)  # the library does not say so to a type checker
