"""Latent projection (section 5.3): looks for the z of which a generator makes a given image.

The search is over z and not, as StyleGAN2's projector's, over w. Whether a generator can make an
image is a question about z: w-space is larger than what the mapping network makes of all z, so
that a w can be found for images that no z gives. Nor is any z allowed. Of a normal z in d
dimensions the length is close to sqrt(d), and nothing else is special about it, since its
direction is uniform; so z is kept in the shell that holds `SHELL` of all latents, by moving it
back to the nearest point of the shell after each step. A penalty on the length would need a
weight, and would trade likeness for it.

The search is a local one, by Adam, and can end in another optimum than the best: "not found" is
proof of nothing for a single image. What the same search leaves of images that the generator
certainly makes, its own samples, tells how often that happens.

What is found for image i depends on the generator, the settings and the seed, and not on which
images are searched for beside it, but for a network's rounding, which may depend on the number of
images at a time and which a search can enlarge. On one machine the same command finds the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import scipy
import torch
import torch.nn.functional as F
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray
from shapeshd.models.data.images import to_float, to_uint8
from shapeshd.models.networks.encoder import Encoder, Trunk
from shapeshd.models.networks.generator import Generator
from shapeshd.support.device import moved
from shapeshd.support.schema import configuration

SHELL = 0.999
"""Share of all latents whose length is allowed: half of the rest is longer, half shorter."""

_SMALLEST = 4  # pixels of the coarsest comparison
_COARSE = 16  # pixels at which a pool is compared with an image
_BETAS = (0.9, 0.99)
_EPSILON = 1e-8
_AT_A_TIME = 256  # samples of a pool
_NOISE_FROM = 2**40  # number of the first latent that is used as noise of the encoder


@configuration
class ProjectionConfig:
    """Settings of the search.

    Attributes:
        steps: of Adam: a third of them for all starts, the rest for the best one then.
        starts: samples that the search begins with: those of the pool most like the image.
        pool: samples that are compared with each image: 0 .. pool - 1 of the seed, those that
            `shapeshd sample` draws.
        codes: starts more, of an encoder, each with noise of its own; if there is an encoder.
        rate: of Adam, at first; it falls along half a cosine, for all starts and then, from the
            top again, for the best one.
        seed: draws the pool and the encoder's noise.
    """

    steps: Annotated[int, Field(ge=3, le=10**6)] = 300
    starts: Annotated[int, Field(ge=1, le=1024)] = 6
    pool: Annotated[int, Field(ge=1, le=10**6)] = 4096
    codes: Annotated[int, Field(ge=1, le=1024)] = 2
    rate: Annotated[float, Field(gt=0, le=10)] = 0.1
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0

    @field_validator("pool")
    @classmethod
    def _hold_the_starts(cls, pool: int, info: ValidationInfo) -> int:
        """Refuse a pool of fewer samples than a search begins with."""
        if pool < info.data.get("starts", pool):
            raise ValueError(f"must be at least starts, {info.data['starts']:,}, not {pool:,}")
        return pool

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Projection:
    """The latents that were found for some images.

    Attributes:
        z: float32 (n, latent_dim), on the CPU.
        images: uint8 (n, 3, size, size), of these z; on the CPU.
        encoded: bool (n,), whether the search that won began at a code of the encoder.
    """

    z: Tensor
    images: Tensor
    encoded: Tensor


class Projector:
    """Searches the latent space of a generator.

    Args:
        generator: on the device where to search; its parameters are frozen. Noise, where it has
            any, is the fixed one, as in `shapeshd score`.
        config: how.
        encoder: gives more starts; on the same device.

    Raises:
        UsageError: if generator and encoder do not belong together.
    """

    def __init__(
        self, generator: Generator, config: ProjectionConfig, encoder: Encoder | None = None
    ) -> None:
        self._generator = generator.requires_grad_(False).eval()
        self._encoder = None if encoder is None else encoder.requires_grad_(False).eval()
        self._config = config
        self.size, self.latent_dim = generator.config.size, generator.latent_dim
        self._device = next(generator.parameters()).device
        if encoder is not None and encoder.head.latent_dim != self.latent_dim:
            raise UsageError(
                f"the encoder's codes have {encoder.head.latent_dim} components, the generator's "
                f"latents {self.latent_dim}: they do not belong together"
            )
        if encoder is not None and isinstance(encoder.trunk, Trunk):
            side = encoder.trunk.pyramid.shape[-1]
            if side != self.size:
                raise UsageError(
                    f"the encoder reads images of {side}x{side} pixels, the generator makes "
                    f"{self.size}x{self.size}: they do not belong together"
                )
        self._low, self._high = shell(self.latent_dim)
        self._pool: tuple[Tensor, Tensor] | None = None

    def project(
        self,
        images: Tensor,
        numbers: Sequence[int],
        advance: Callable[[int], object] | None = None,
    ) -> Projection:
        """Search for images, all at once.

        Args:
            images: uint8 (n, 3, size, size).
            numbers: of the images, n; they decide the encoder's noise.
            advance: called after each step with the number of images.

        Returns:
            The best z that were found. The images are those that `shapeshd score` would see.
        """
        target = to_float(moved(images, self._device))
        steps = self._config.steps
        first = max(1, steps // 3)
        starts = self._starts(target, numbers)  # (n, s, d)
        count = starts.shape[1]

        def step_done() -> None:
            if advance is not None:
                advance(len(images))

        found, distance = self._descend(
            starts.flatten(0, 1), target.repeat_interleave(count, 0), first, step_done
        )
        best = distance.view(-1, count).argmin(1)
        z = found.view_as(starts)[torch.arange(len(best), device=best.device), best]
        z, _ = self._descend(z, target, steps - first, step_done)
        with torch.no_grad():
            made = to_uint8(self._generator(z))
        return Projection(z.cpu(), made.cpu(), (best >= self._config.starts).cpu())

    def samples(self, start: int, stop: int) -> Tensor:
        """Return some of the generator's own samples: uint8 (n, 3, size, size), on the CPU.

        They are those of the seed after the pool, so that none of them is in it.
        """
        first = self._config.pool
        return to_uint8(self._draw(first + start, first + stop)[1]).cpu()

    def _descend(
        self, z: Tensor, target: Tensor, steps: int, step_done: Callable[[], None]
    ) -> tuple[Tensor, Tensor]:
        """Move z (n, d) down the distance to the images; return the best z and its distance."""
        z = z.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([z], betas=_BETAS, eps=_EPSILON)
        best, lowest = z.detach().clone(), z.new_full((len(z),), math.inf)
        for step in range(steps):
            with torch.enable_grad():  # whatever the caller has set
                distances = image_distance(self._generator(z), target)
                (z.grad,) = torch.autograd.grad(distances.sum(), z)
            _keep(best, lowest, z.detach(), distances.detach())
            optimizer.param_groups[0]["lr"] = (
                self._config.rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            )
            optimizer.step()
            with torch.no_grad():
                z.copy_(to_shell(z, self._low, self._high))
            step_done()
        with torch.no_grad():
            _keep(best, lowest, z, image_distance(self._generator(z), target))
        return best, lowest

    @property
    def shell(self) -> tuple[float, float]:
        """The shortest and the longest length of a latent."""
        return self._low, self._high

    @torch.no_grad()
    def images(self, z: FloatArray) -> Tensor:
        """Return the images of latents (n, latent_dim): uint8 (n, 3, size, size), on the CPU."""
        latents = torch.as_tensor(z, dtype=torch.float32)
        parts = [to_uint8(self._generator(moved(part, self._device))) for part in latents.split(64)]
        return torch.cat(parts).cpu()

    @torch.no_grad()
    def _starts(self, target: Tensor, numbers: Sequence[int]) -> Tensor:
        """Return where to begin: (n, starts), then the encoder's codes, (n, codes), of z."""
        if self._pool is None:
            self._pool = self._make_pool()
        z, coarse = self._pool
        wanted = _coarse(target)
        distances = torch.cdist(wanted, coarse)
        nearest = distances.topk(self._config.starts, largest=False).indices
        starts = [z[nearest]]
        if self._encoder is not None:
            starts.append(self._encode(target, numbers))
        return torch.cat(starts, 1)

    def _encode(self, target: Tensor, numbers: Sequence[int]) -> Tensor:
        """Return means of the codes of images, (n, codes, d), in the shell."""
        assert self._encoder is not None
        codes, dim = self._config.codes, self._encoder.head.noise_dim
        noise = torch.stack(
            [
                normal_latents(
                    self._config.seed,
                    _NOISE_FROM + number * codes,
                    _NOISE_FROM + (number + 1) * codes,
                    dim,
                    self._device,
                )
                for number in numbers
            ]
        )  # (n, codes, noise_dim)
        features = self._encoder.trunk(target).repeat_interleave(codes, 0)
        mean, _ = self._encoder.head(features, noise.flatten(0, 1))
        return to_shell(mean, self._low, self._high).view(len(target), codes, -1)

    def _make_pool(self) -> tuple[Tensor, Tensor]:
        """Return the latents of the pool, and their images, few pixels each, in a row each."""
        latents, images = [], []
        for start in range(0, self._config.pool, _AT_A_TIME):
            z, made = self._draw(start, min(self._config.pool, start + _AT_A_TIME))
            latents.append(z)
            images.append(_coarse(made.clamp(-1, 1)))
        return to_shell(torch.cat(latents), self._low, self._high), torch.cat(images)

    @torch.no_grad()
    def _draw(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        z = normal_latents(self._config.seed, start, stop, self.latent_dim, self._device)
        return z, self._generator(z)


def image_distance(made: Tensor, target: Tensor) -> Tensor:
    """Return the distance that is minimised: squared errors on all scales.

    It is the sum, over sizes from that of the images down to 4 pixels, halved each time by
    averaging 2 x 2 pixels, of the mean squared error. The coarse terms still say which way to go
    where an edge is so far off that no pixel of it overlaps.

    What lies outside of [-1, 1] is cut, as it is when an image is saved; but the gradient passes
    through the cut, or a pixel that is white and should be black would stay so.

    Args:
        made: (n, 3, size, size), what a generator gave.
        target: the same shape, in [-1, 1].

    Returns:
        (n,), in units of half the range, squared.
    """
    error = made + (made.clamp(-1, 1) - made).detach() - target
    total = error.square().mean((1, 2, 3))
    while error.shape[-1] > _SMALLEST:
        error = F.avg_pool2d(error, 2)
        total = total + error.square().mean((1, 2, 3))
    return total


def shell(dim: int) -> tuple[float, float]:
    """Return the shortest and the longest length allowed of a latent of `dim` components.

    They are quantiles of the chi distribution: `SHELL` of all latents lie between them.
    """
    low, high = scipy.stats.chi(dim).interval(SHELL)
    return float(low), float(high)


def to_shell(z: Tensor, low: float, high: float) -> Tensor:
    """Return the points (n, d) nearest to `z` whose lengths are within [low, high]."""
    length = z.norm(dim=1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
    return z * (length.clamp(low, high) / length)


def _keep(best: Tensor, lowest: Tensor, z: Tensor, distances: Tensor) -> None:
    """Take over the z whose distances are the lowest so far."""
    better = distances < lowest
    best[better], lowest[better] = z[better], distances[better]


def _coarse(images: Tensor) -> Tensor:
    """Return images (n, 3, size, size) at `_COARSE` pixels at most, flattened."""
    if images.shape[-1] > _COARSE:
        images = F.avg_pool2d(images, images.shape[-1] // _COARSE)
    return images.flatten(1)
