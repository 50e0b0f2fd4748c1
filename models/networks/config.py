"""The base of the networks' configurations: numbers of channels, and limits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from shapeshd.support.schema import PowerOfTwo, configuration

Width = Annotated[int, Field(ge=1, le=2**14)]
"""Components or channels."""

Depth = Annotated[int, Field(ge=1, le=64)]
"""Layers."""


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
