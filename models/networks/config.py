"""What the configurations of networks share: their JSON, and the numbers of channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from shapeshd.checks import whole_number
from shapeshd.errors import UsageError

WIDEST = 2**14
"""Components or channels that a configuration may ask for at most."""

_Config = TypeVar("_Config", bound="NetworkConfig")


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is built from; subclasses add the fields and check them.

    Attributes:
        network: what messages call the network.
    """

    network: ClassVar[str] = "network"

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls: type[_Config], values: Mapping[str, Any]) -> _Config:
        """Return the configuration that `to_json` wrote.

        Raises:
            UsageError: if a field is missing, unknown or out of its range.
        """
        names = {field.name for field in fields(cls)}
        unknown, missing = sorted(values.keys() - names), sorted(names - values.keys())
        if unknown:
            raise UsageError(f"the {cls.network}'s configuration has no field {unknown[0]!r}")
        if missing:
            raise UsageError(f"the {cls.network}'s configuration lacks the field {missing[0]!r}")
        return cls(**values)


@dataclass(frozen=True)
class PyramidConfig(NetworkConfig):
    """Of a network whose features have a size that doubles or halves between 4 x 4 and an image.

    Attributes:
        size: width and height of the images, pixels: a power of two, 8 .. 4096.
        channel_base: features of r x r pixels have channel_base // r channels, ...
        channel_max: ... but at most so many.
    """

    size: int = 256
    channel_base: int = 32768
    channel_max: int = 512

    def __post_init__(self) -> None:
        size = whole_number("size", self.size, 8, 4096)
        if size & (size - 1):
            raise UsageError(f"size must be a power of two, not {size}")
        whole_number("channel_max", self.channel_max, 1, WIDEST)
        # Below, the largest images would have no channel left.
        whole_number("channel_base", self.channel_base, size, 2**24)

    def width(self, size: int) -> int:
        """Return the channels of the features of `size` pixels."""
        return min(self.channel_base // size, self.channel_max)
