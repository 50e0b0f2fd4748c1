"""Brings images to the size that a recognizer reads."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from shapeshd.errors import UsageError, named

SMALLEST = 32
LARGEST_ENLARGEMENT = 2.0


def check_image_size(height: int, width: int, wanted: int, name: str) -> str | None:
    """Return how images are brought to `wanted` x `wanted` pixels; None if they are that size.

    Returns:
        "area" for a whole ratio, "bicubic" otherwise.

    Raises:
        UsageError: if they are not square, or so small that the factors cannot be read.
    """
    if height != width:
        raise UsageError(f"{name}: its images have {width}x{height} pixels, but must be square")
    if height < SMALLEST or wanted > LARGEST_ENLARGEMENT * height:
        raise UsageError(
            f"{name}: its images have {width}x{height} pixels, too few to read the factors with a "
            f"recognizer for {wanted}x{wanted}"
            + (
                f"; take {named('recognizer', 'lite')}"
                if wanted > 64 and height >= SMALLEST
                else ""
            )
        )
    if height == wanted:
        return None
    return "area" if height % wanted == 0 else "bicubic"


def resized(images: Tensor, wanted: int) -> Tensor:
    """Resize images with antialiasing, in sRGB as every image program does.

    By a whole ratio pixels are averaged; otherwise they are interpolated by antialiased
    bicubic splines.

    Args:
        images: uint8 (n, 3, H, H).
        wanted: width and height in pixels.

    Returns:
        uint8 (n, 3, wanted, wanted).
    """
    size = images.shape[-1]
    if size == wanted:
        return images
    values = images.float()
    if size % wanted == 0:
        values = F.avg_pool2d(values, size // wanted)
    else:
        values = F.interpolate(values, (wanted, wanted), mode="bicubic", antialias=True)
    return (values + 0.5).floor().clamp(0, 255).byte()
