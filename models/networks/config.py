"""The base of the networks' configurations: numbers of channels, and limits."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from shapeshd.support.schema import PowerOfTwo, configuration

Width = Annotated[int, Field(ge=1, le=2**14)]
"""Components or channels."""

Depth = Annotated[int, Field(ge=1, le=64)]
"""Layers."""


Solver = Literal["euler", "heun", "midpoint"]
"""How a flow's differential equation is solved; see `flow.integrate`."""

SolverSteps = Annotated[int, Field(ge=1, le=2**20)]
"""Steps of a flow's solver from noise to data."""


@configuration
class PyramidConfig:
    """The channels of a network whose features halve or double in size between image and 4 x 4.

    Attributes:
        size: width and height of the images, pixels: a power of two, 8 .. 4096.
        channel_base: features of r x r pixels have channel_base // r channels, ...
        channel_max: ... but at most so many.
    """

    size: Annotated[int, Field(ge=8, le=4096), PowerOfTwo] = 256
    channel_base: Annotated[int, Field(ge=8, le=2**24)] = 32768
    channel_max: Width = 512

    @field_validator("channel_base")
    @classmethod
    def _leave_a_channel(cls, base: int, info: ValidationInfo) -> int:
        """Refuse so few channels that the largest images have none."""
        if base < info.data.get("size", base):
            raise ValueError(f"must be at least the size, {info.data['size']:,}, not {base:,}")
        return base

    def width(self, size: int) -> int:
        """Return the channels of the features of `size` pixels."""
        return min(self.channel_base // size, self.channel_max)

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


@configuration
class UNetConfig:
    """Sizes of a flow's network of images, the `UNet2DModel` of diffusers.

    Attributes:
        channels: of the features of the images' own size, then of those of half of it, and so on.
        layers: residual blocks at each size on the way down; there is one more on the way up.
        groups: of the group normalization; it must divide each of `channels`.
        attention: features of so many pixels a side, or fewer, have self-attention; 0 for none.
        head: channels of a head of the attention; likewise.
    """

    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (64, 128, 256)
    layers: Depth = 2
    groups: Width = 16
    attention: Annotated[int, Field(ge=0, le=4096)] = 16
    head: Width = 32

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {**asdict(self), "channels": list(self.channels)}


@configuration
class FlowConfig(UNetConfig):
    """The configuration of a flow of images.

    Attributes:
        size: width and height of the images, pixels: a power of two, 8 .. 1024.
        solver: that makes images where nothing else is said.
        steps: that it takes.
    """

    size: Annotated[int, Field(ge=8, le=1024), PowerOfTwo] = 64
    solver: Solver = "midpoint"
    steps: SolverSteps = 16

    @model_validator(mode="after")
    def _fit_together(self) -> FlowConfig:
        """Refuse parts that do not divide the channels, and more halvings than an image has."""
        for name in ("groups", "head"):
            part = getattr(self, name)
            if any(width % part for width in self.channels):
                raise ValueError(f"{name} must divide each of channels, not be {part}")
        most = self.size.bit_length() - 1  # features of 2 pixels are the smallest
        if len(self.channels) > most:
            raise ValueError(
                f"channels must be at most {most} numbers for images of {self.size} pixels, which "
                f"each after the first halves, not {len(self.channels)}"
            )
        return self

    def solved_by(self, solver: Solver, steps: int) -> FlowConfig:
        """Return the same with another solver."""
        return replace(self, solver=solver, steps=steps)
