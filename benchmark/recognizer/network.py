"""The network that reads the factors from an image.

Two facts about the images shape it. A surface is of one fully saturated hue, whatever light
falls on it; so each pixel that shows one surface alone tells that surface's hue exactly, and
the network only has to *point at* such pixels: a soft mask for floor, wall and object, under
which the pixels' own hue is averaged. And scale and orientation move edges by hundredths of a
pixel; so they are read from heat maps (their centres of mass and their areas), which can say
where something is more finely than a pixel.

Images of 256 pixels are averaged down to 64 and go through the same body; beside the averages a
strided convolution tells it what they lose. Where a square of pixels shows one surface, its
average has that surface's hue too.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapeshd.checks import whole_number
from shapeshd.errors import UsageError
from shapeshd.factors import SHAPES

from .pixels import LEVELS, hue_vectors, hue_vectors_of_sums, relative_hues, squares

HUES = 3
_PLACE_GAIN = 20.0
_CACHED = 4  # images of more than 64 pixels whose pixels fit into a CPU's cache


@dataclass(frozen=True)
class NetworkConfig:
    """What a recognition network is built from.

    Attributes:
        size: width and height of its images, pixels: 64 or a multiple of it.
        width: channels at a half of 64 pixels; twice and three times as many further down.
        blocks: residual blocks at a half, a quarter and an eighth of 64 pixels.
        keypoints: heat maps whose centres and areas tell scale and orientation.
        hidden: width of the layers that turn them into factors.
        stem: channels of the learned stem of images larger than 64 pixels; with 0 the averages are
            all that is seen of them.
    """

    size: int = 64
    width: int = 32
    blocks: tuple[int, int, int] = (1, 2, 2)
    keypoints: int = 48
    hidden: int = 256
    stem: int = 16

    def __post_init__(self) -> None:
        for name in ("size", "width", "keypoints", "hidden"):
            whole_number(name, getattr(self, name), 1)
        whole_number("stem", self.stem, 0)
        if not isinstance(self.blocks, tuple) or len(self.blocks) != 3:
            raise UsageError(f"blocks must be three numbers, not {self.blocks!r}")
        for count in self.blocks:
            whole_number("blocks", count, 0)
        if self.size < 64 or self.size % 64:
            raise UsageError(f"size must be a multiple of 64, not {self.size}")

    @property
    def stride(self) -> int:
        """Pixels of the image along a pixel of the body's input."""
        return self.size // 64

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {**asdict(self), "blocks": list(self.blocks)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """Return the configuration that `to_json` wrote.

        Raises:
            UsageError: if a field is missing or unknown, or no such network can be.
        """
        names = {field.name for field in fields(cls)}
        if values.keys() != names:
            odd = sorted(values.keys() ^ names)[0]
            raise UsageError(f"a recognizer's configuration has no or an unknown field {odd!r}")
        blocks = values["blocks"]
        return cls(**{**values, "blocks": tuple(blocks) if isinstance(blocks, list) else blocks})


class Reading(NamedTuple):
    """What the network says of n images.

    Attributes:
        hues: (n, 3, 2), floor, wall and object as points near the unit circle: cosine and
            sine of the hue's angle.
        scale: (n,), 0 for the smallest and 1 for the largest object.
        orientation: (n,), -1 for the lowest and 1 for the highest angle.
        shape: (n, 4) logits.
    """

    hues: Tensor
    scale: Tensor
    orientation: Tensor
    shape: Tensor


class _Block(nn.Module):
    """Two convolutions beside the identity; begins as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (n, channels, h, w)."""
        inner: Tensor = self.second(F.relu_(self.first(F.relu(x))))
        return inner.add_(x)


class RecognitionNetwork(nn.Module):
    """Reads the factors; see the module. About a million parameters by default."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NetworkConfig()
        self.pointer = _Pointer(config.width)
        self.geometry = _Geometry(config)
        line = torch.linspace(-1, 1, 64)
        grid = torch.stack((line.expand(64, 64), line[:, None].expand(64, 64)))
        self.register_buffer("grid", grid, persistent=False)

    def forward(self, images: Tensor) -> Reading:
        """Read n images.

        Args:
            images: uint8, or float in [0, 1], of shape (n, 3, size, size); sRGB.
        """
        hues, pooled = self._look(images)
        return Reading(hues, *self.geometry.read(pooled))

    def features(self, images: Tensor) -> Tensor:
        """Return what the factors are read from: float32 (n, `feature_dim`).

        The hues' points (6 numbers; see `Reading`), then the pooled features that the dense
        layers take: places along both axes and areas of the keypoints, and means of the last
        convolution's channels. The dense layers themselves are trained to forget all in an
        image that changes no factor, such as its sharpness.

        Args:
            images: as of `forward`.
        """
        hues, pooled = self._look(images)
        return torch.cat((hues.flatten(1), pooled), 1)

    def in_bf16(self) -> RecognitionNetwork:
        """Return a copy whose convolutions compute in bfloat16, as those under autocast do.

        The stem, whose few channels cost little, and all other layers stay in float32.
        """
        made = copy.deepcopy(self)
        for part in (made.pointer, made.geometry):
            for name, layer in part.named_modules():
                if isinstance(layer, nn.Conv2d) and name != "stem":
                    layer.to(torch.bfloat16)
        return made

    @property
    def feature_dim(self) -> int:
        """How many numbers `features` gives."""
        return 2 * HUES + self.geometry.features

    def _look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hues (n, 3, 2) and the pooled features of the geometry."""
        # Large images are not all in a CPU's cache together; what is left of them is.
        together = _CACHED if images.is_cpu and self.config.stride > 1 else max(1, len(images))
        parts = [self._pixels(part) for part in images.split(together)]
        small, vectors, stem = (torch.cat(found) for found in zip(*parts, strict=True))
        grid: Tensor = self.grid  # type: ignore[assignment]
        grid = grid.expand(len(images), -1, -1, -1)
        masks = self.pointer(torch.cat((small - 0.5, vectors, grid), 1))
        with torch.autocast(images.device.type, enabled=False):
            hues = torch.einsum("nhp,ncp->nhc", masks, vectors.flatten(2))
            relative = relative_hues(vectors, hues.detach())
            light = torch.stack((small.amax(1), small.amin(1)), 1)
        return hues, self.geometry(torch.cat((light - 0.5, relative, grid, stem), 1))

    def _pixels(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what squares of pixels say by themselves.

        Returns:
            their means (n, 3, 64, 64) in [0, 1]; the hues of these (n, 2, 64, 64), see
            `hue_vectors`; and what the stem sees in them (n, stem, 64, 64), without a channel where
            there is none.
        """
        stride, count = self.config.stride, self.config.stride**2
        whole = images.dtype == torch.uint8
        none = torch.empty(len(images), 0, 64, 64, device=images.device)
        if stride == 1:
            if not whole:
                return images, hue_vectors(images), none
            return images.float() / LEVELS, hue_vectors_of_sums(images, 1), none
        pixels = squares(images, stride)
        means = pixels.view(len(images), 64, 64, HUES, count)
        if whole:
            sums = means.sum(4).permute(0, 3, 1, 2).contiguous()
            small, vectors = sums / (LEVELS * count), hue_vectors_of_sums(sums, count)
        else:
            small = means.mean(4).permute(0, 3, 1, 2).contiguous()
            vectors = hue_vectors(small)
        if not self.config.stem:
            return small, vectors, none
        pixels = pixels.sub_(LEVELS / 2).div_(LEVELS) if whole else pixels - 0.5
        return small, vectors, self.geometry.stem_of(pixels)


class _Pointer(nn.Module):
    """Points at the pixels that show floor, wall and object: three soft masks of 64 x 64."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(7, width // 2, 4, stride=2, padding=1)
        self.down = nn.Conv2d(width // 2, width, 2, stride=2)
        self.block = _Block(width)
        self.masks = nn.Conv2d(width, 16 * HUES, 1)
        self.places = nn.Parameter(torch.zeros(HUES, 64, 64))

    def forward(self, x: Tensor) -> Tensor:
        """Return weights (n, 3, 64 * 64) of sum 1 for inputs (n, 7, 64, 64)."""
        x = x.to(self.enter.weight.dtype, memory_format=torch.channels_last)
        x = F.relu_(self.block(self.down(F.relu_(self.enter(x)))))
        masks = F.pixel_shuffle(self.masks(x), 4).float() + _PLACE_GAIN * self.places
        return masks.flatten(2).softmax(2)


class _Geometry(nn.Module):
    """Reads scale, orientation and shape from colours relative to the surfaces' own."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.width
        stem = config.stem if config.stride > 1 else 0
        if stem:
            self.stem = nn.Conv2d(3, stem, config.stride, stride=config.stride)
        self.enter = nn.Conv2d(10 + stem, width, 4, stride=2, padding=1)
        channels = (width, 2 * width, 4 * width)
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(count) for _ in range(blocks)))
            for count, blocks in zip(channels, config.blocks, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(channels)
        )
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(channels))
        self.join = _Block(width)
        self.maps = nn.Conv2d(width, config.keypoints, 1)
        self.areas = nn.Conv2d(width, config.keypoints, 1)
        self.features = 3 * config.keypoints + channels[2]
        self.head = nn.Sequential(
            nn.Linear(self.features, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, 2 + len(SHAPES)),
        )
        self.register_buffer("line", torch.linspace(-1, 1, 32), persistent=False)

    def stem_of(self, pixels: Tensor) -> Tensor:
        """Return what the stem's convolution sees in `squares` of pixels: (n, stem, 64, 64)."""
        seen = F.relu_(F.linear(pixels, self.stem.weight.flatten(1), self.stem.bias))
        return seen.transpose(1, 2).unflatten(2, (64, 64)).float()

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled features, float32 (n, `features`), of inputs (n, 10 + stem, 64, 64)."""
        x = x.to(self.enter.weight.dtype, memory_format=torch.channels_last)
        steps = [self.stages[0](self.enter(x))]
        for down, stage in zip(self.down, self.stages[1:], strict=True):
            steps.append(stage(down(steps[-1])))
        top = steps[-1]
        for step, up in zip(reversed(steps[:-1]), reversed(self.up), strict=True):
            top = step + F.interpolate(up(top), scale_factor=2.0, mode="nearest")
        fine = F.relu_(self.join(top))
        maps, areas = self.maps(fine).float(), self.areas(fine).float()
        coarse = F.relu(steps[-1]).float().mean((2, 3))
        with torch.autocast(x.device.type, enabled=False):  # places are finer than bf16 can say
            heat = maps.permute(0, 2, 3, 1).flatten(1, 2).softmax(1)
            line: Tensor = self.line  # type: ignore[assignment]
            places = torch.stack((line.expand(32, 32), line[:, None].expand(32, 32)))
            across, along = (places.flatten(1) @ heat).unbind(1)
            return torch.cat((across, along, areas.sigmoid().mean((2, 3)), coarse), 1)

    def read(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scale (n,), orientation (n,) and the shape's logits (n, 4)."""
        with torch.autocast(pooled.device.type, enabled=False):
            out = self.head(pooled)
        return out[:, 0], out[:, 1], out[:, 2:]
