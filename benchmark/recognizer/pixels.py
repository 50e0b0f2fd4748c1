"""What the pixels of an image say by themselves: light, hues, and the squares below an average.

Images of 8 bits have few levels: what depends on one of them alone is looked up in a table.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 255
_SRGB_KNEE = 0.0031308
_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # so many bytes as one number


def linear_light(values: Tensor) -> Tensor:
    """Decode sRGB values in [0, 1] to linear light (IEC 61966-2-1)."""
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def hue_vectors(images: Tensor) -> Tensor:
    """Return each pixel's hue as a vector whose length is the colour's saturation.

    The light scales a surface's colour in linear light. So a pixel is decoded to linear
    light, scaled until its largest channel is 1, and encoded again: this is the surface's own
    colour in HSV, whatever its brightness.

    Args:
        images: float (n, 3, H, W), sRGB in [0, 1].

    Returns:
        float (n, 2, H, W): saturation times cosine and sine of the hue's angle.
    """
    return _hues_of_light(linear_light(images))


def hue_vectors_of_sums(sums: Tensor, count: int) -> Tensor:
    """Return `hue_vectors` of the means of 8-bit pixels.

    Args:
        sums: float32 (n, 3, H, W), each the sum of `count` levels, in 0 .. 255 `count`.
        count: pixels in each sum.

    Returns:
        float32 (n, 2, H, W).
    """
    light = _light_of_sums(count, sums.device).index_select(0, sums.flatten().int())
    return _hues_of_light(light.view(sums.shape))


@functools.lru_cache(maxsize=8)
def _light_of_sums(count: int, device: torch.device) -> Tensor:
    """Return the linear light of each sum of `count` levels: float32 (255 `count` + 1,)."""
    with torch.inference_mode(False):  # a table that any mode can use
        sums = torch.arange(LEVELS * count + 1, dtype=torch.float32, device=device)
        return linear_light(sums / (LEVELS * count))


def _hues_of_light(linear: Tensor) -> Tensor:
    """Return the hue vectors (n, 2, H, W) of linear light (n, 3, H, W)."""
    linear = linear / linear.amax(1, keepdim=True).clamp_min(1e-6)
    low = linear <= _SRGB_KNEE
    colour = torch.where(low, 12.92 * linear, 1.055 * linear.clamp_min(1e-8) ** (1 / 2.4) - 0.055)
    red, green, blue = colour.unbind(1)
    largest = colour.amax(1)
    saturation = largest - colour.amin(1)
    # Position in the hexagon of HSV, in sixths of a turn: 0 red, 2 green, 4 blue.
    of_red = green - blue
    of_green = 2 * saturation + blue - red
    of_blue = 4 * saturation + red - green
    position = torch.where(red == largest, of_red, torch.where(green == largest, of_green, of_blue))
    angle = position / saturation.clamp_min(1e-6) * (math.pi / 3)
    return torch.stack((saturation * angle.cos(), saturation * angle.sin()), 1)


def relative_hues(vectors: Tensor, hues: Tensor) -> Tensor:
    """Turn each pixel's hue back by that of floor, wall and object.

    Args:
        vectors: (n, 2, H, W), see `hue_vectors`.
        hues: (n, 3, 2), points near the unit circle.

    Returns:
        (n, 6, H, W): saturation times cosine and sine of the difference, surface by surface.
    """
    directions = F.normalize(hues, dim=2)
    across = torch.stack((-directions[:, :, 1], directions[:, :, 0]), 2)
    turned = torch.cat((directions, across), 1) @ vectors.flatten(2)
    return turned.view(len(vectors), turned.shape[1], *vectors.shape[2:])


def squares(images: Tensor, side: int) -> Tensor:
    """Cut images into squares of `side` pixels.

    Args:
        images: uint8 or float (n, 3, H, W), H and W multiples of `side`.
        side: in pixels.

    Returns:
        float (n, H / side * W / side, 3 side^2): the squares row by row, in each the pixels of red
        row by row, then green and blue.
    """
    n, channels, height, width = images.shape
    rows, columns = height // side, width // side
    word = _WORDS.get(side)
    whole_words = images.storage_offset() % side == 0 and len(images) > 0
    if word is not None and images.dtype == torch.uint8 and whole_words:
        # The pixels of a square's row are moved together, as one number.
        packed = images.contiguous().view(word).view(n, channels, rows, side, columns)
        cut = packed.permute(0, 2, 4, 1, 3).contiguous().view(torch.uint8)
    else:
        cut = images.reshape(n, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
    cut = cut.reshape(n, rows * columns, channels * side**2)
    return cut if cut.is_floating_point() else cut.float()
