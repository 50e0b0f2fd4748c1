"""StyleGAN2's generator, after Karras et al. 2020 (arXiv:1912.04958): w of z, images of w.

The mapping network turns a latent z into w; the synthesis network grows a learned constant of
4 x 4 to the image, each convolution modulated by w. Of the paper's designs this is the final one
(configuration F, skip connections): at each size the features are read out as RGB and added to
the smaller image, which is enlarged by the filter [1, 3, 3, 1].

Compared once with the authors' generator (NVlabs/stylegan2-ada-pytorch, run beside the project,
float32 on a CPU): with its weights copied across, biases and noise strengths drawn at random,
the same z, and the same styles layer by layer, gave the same images to 3e-5 of values whose
standard deviation was 1.7 to 5; at 64 and 256 pixels, with and without fixed noise, at truncation
1 and 0.5. The numbers of parameters agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from shapeshd.errors import UsageError
from shapeshd.support.schema import configuration, validated

from .config import Depth, PyramidConfig, Width
from .layers import EqualLinear, ModulatedConv, double_size, full_precision, leaky
from .truncation import truncate

_EPSILON = 1e-8
_SMALLEST = 4  # pixels of the learned constant


@configuration
class GeneratorConfig(PyramidConfig):
    """The configuration of a generator; the defaults are the paper's configuration F at 256.

    Attributes:
        latent_dim: components of z.
        style_dim: components of w.
        normalize_latent: whether z is scaled to a mean square of 1 first, as in the paper. What
            a code's length says is then lost.
        mapping_layers: layers of the mapping network.
        mapping_rate: how fast they learn, relative to the other layers.
        noise: whether each convolution has per-pixel noise, of learned strength.
        average_decay: share of the running average of w that stays at each of its updates.
    """

    latent_dim: Width = 512
    style_dim: Width = 512
    normalize_latent: bool = True
    mapping_layers: Depth = 8
    mapping_rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    noise: bool = False
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995


class Generator(nn.Module):
    """Maps latents to images.

    Weights are drawn from PyTorch's global generator of random numbers.

    Attributes:
        architecture: its name in a checkpoint's card.
        config: what it is built from.
        layers: how many styles an image has, 2 log2(size) - 2: a convolution of 4 x 4 pixels has
            the first, the two of each further size one each, and the last reads out the largest
            image as RGB; each smaller one is read out by the style of the convolution after it.
    """

    architecture: ClassVar[str] = "stylegan2"

    def __init__(self, config: GeneratorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GeneratorConfig()
        self.mapping = Mapper(config)
        first = config.width(_SMALLEST)
        # Four axes, so that a change of memory format reaches it.
        self.constant = nn.Parameter(torch.randn(1, first, _SMALLEST, _SMALLEST))
        sizes = [2**power for power in range(2, int(math.log2(config.size)) + 1)]
        self.blocks = nn.ModuleList(_Block(config, size) for size in sizes)
        self.enlarge = double_size()
        self.layers = 2 * len(sizes)

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Generator:
        """Return a new generator of a configuration as `GeneratorConfig.to_json` gives it."""
        return cls(validated(GeneratorConfig, values, "config.", complete=True))

    @property
    def latent_dim(self) -> int:
        """Components of z."""
        return self.config.latent_dim

    def forward(
        self,
        z: Tensor,
        *,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: bool = True,
        rng: torch.Generator | None = None,
    ) -> Tensor:
        """Return the images of latents.

        Args:
            z: (n, latent_dim).
            truncation: psi, towards the running average of w; see `truncate`.
            cutoff: how many styles, from the coarsest on, are truncated; None for all.
            noise: False leaves the noise of all layers out.
            rng: draws the noise; None takes the fixed one. Only where there is noise.

        Returns:
            float (n, 3, size, size); the range [-1, 1] stands for black to full, but nothing
            keeps the values inside.

        Raises:
            UsageError: if `z` has another shape, or there is an `rng` and no noise.
        """
        w = truncate(self.mapping(z), self.mapping.average, truncation, cutoff, self.layers)
        return self.synthesize(w, noise=noise, rng=rng)

    def synthesize(
        self, w: Tensor, *, noise: bool = True, rng: torch.Generator | None = None
    ) -> Tensor:
        """Return the images of styles; see `forward`.

        Args:
            w: (n, style_dim), or (n, layers, style_dim) with a style for each layer.
            noise: as in `forward`.
            rng: as in `forward`.
        """
        if rng is not None and not self.config.noise:
            raise UsageError("this generator has no noise: rng must be None")
        if w.ndim == 2:
            w = w[:, None].expand(-1, self.layers, -1)
        wanted = (self.layers, self.config.style_dim)
        if w.ndim != 3 or w.shape[1:] != wanted:
            raise UsageError(f"styles must be (n, {wanted[0]}, {wanted[1]}), not {tuple(w.shape)}")
        x = self.constant.expand(len(w), -1, -1, -1)
        image: Tensor | None = None
        used = 0
        for block in self.blocks:
            assert isinstance(block, _Block)
            x, rgb = block(x, w[:, used:], rng, noise)
            used += block.convolutions
            if image is not None:
                # Eight bits of mantissa would show in the image as steps of its colours.
                with torch.autocast(x.device.type, enabled=False):
                    rgb = rgb + self.enlarge(image)
            image = rgb
        assert image is not None
        return image


class Mapper(nn.Module):
    """The mapping network, from z to w, and the running average of w.

    Attributes:
        average: (style_dim,), zero at first.
    """

    average: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.latent_dim] + [config.style_dim] * config.mapping_layers
        self.layers = nn.ModuleList(
            EqualLinear(a, b, rate=config.mapping_rate) for a, b in itertools.pairwise(widths)
        )
        self.register_buffer("average", torch.zeros(config.style_dim))

    def forward(self, z: Tensor) -> Tensor:
        """Map (n, latent_dim) to (n, style_dim), in float32 at least, autocast or not."""
        if z.ndim != 2 or z.shape[1] != self.config.latent_dim:
            raise UsageError(f"latents must be (n, {self.config.latent_dim}), not {tuple(z.shape)}")
        with torch.autocast(z.device.type, enabled=False):
            x = full_precision(z)
            if self.config.normalize_latent:
                x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + _EPSILON)
            for layer in self.layers:
                x = leaky(layer(x))
        return x

    @torch.no_grad()
    def update_average(self, w: Tensor) -> None:
        """Move the running average towards the mean of `w`, (n, style_dim); once a step."""
        self.average.lerp_(w.mean(0).to(self.average.dtype), 1 - self.config.average_decay)

    @torch.no_grad()
    def measure_average(self) -> None:
        """Set the average to the mean of w over 10,000 latents of a fixed seed.

        Training by a GAN keeps a running one; other trainings leave none.
        """
        rng = torch.Generator().manual_seed(0)  # on the CPU: the same on each device
        z = torch.randn(10_000, self.config.latent_dim, generator=rng)
        self.average.copy_(self(z.to(self.average.device)).mean(0))


class _Block(nn.Module):
    """The layers at one size: one convolution or, after the first size, two; then RGB."""

    def __init__(self, config: GeneratorConfig, size: int) -> None:
        super().__init__()
        outputs = config.width(size)
        self.up = None
        if size > _SMALLEST:
            self.up = _Layer(config, config.width(size // 2), size, up=True)
        self.keep = _Layer(config, outputs, size)
        self.rgb = ModulatedConv(outputs, 3, 1, config.style_dim, demodulate=False)
        self.rgb_bias = nn.Parameter(torch.zeros(3))
        self.convolutions = 1 if self.up is None else 2

    def forward(
        self, x: Tensor, w: Tensor, rng: torch.Generator | None, noise: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return the features and their colours, (n, 3, size, size).

        Args:
            x: features of half the size; of the first block, the constant.
            w: (n, at least convolutions + 1, style_dim).
            rng: draws the noise.
            noise: whether the layers add their noise.
        """
        if self.up is not None:
            x = self.up(x, w[:, 0], rng, noise)
        x = self.keep(x, w[:, self.convolutions - 1], rng, noise)
        with torch.autocast(x.device.type, enabled=False):
            rgb = self.rgb(full_precision(x), w[:, self.convolutions])
            return x, rgb + self.rgb_bias[:, None, None]


class _Layer(nn.Module):
    """A modulated convolution of width 3, noise, bias and leaky ReLU."""

    noise: Tensor

    def __init__(
        self, config: GeneratorConfig, inputs: int, size: int, *, up: bool = False
    ) -> None:
        super().__init__()
        outputs = config.width(size)
        self.convolution = ModulatedConv(inputs, outputs, 3, config.style_dim, up=up)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.strength = None
        if config.noise:
            self.strength = nn.Parameter(torch.zeros(()))
            self.register_buffer("noise", torch.randn(1, 1, size, size))

    def forward(
        self, x: Tensor, w: Tensor, rng: torch.Generator | None, noise: bool = True
    ) -> Tensor:
        """Return (n, outputs, size, size); see `_Block`."""
        x = self.convolution(x, w)
        if self.strength is not None and noise:
            values = self.noise
            if rng is not None:
                shape = (len(x), *values.shape[1:])
                values = torch.randn(shape, generator=rng, device=rng.device)
            x = x + (values.to(x.device) * self.strength).to(x.dtype)
        return leaky(x + self.bias[:, None, None].to(x.dtype))
