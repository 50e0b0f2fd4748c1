"""Slightly blurred and noisy images, so that a recognizer does not live on perfect ones.

A generator's images are never as clean as rendered ones. A share of every batch is therefore
degraded in training, by little: the factors stay as readable as they were.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_BLUR = 0.75
"""Largest standard deviation of the blur, in 64ths of the image's width."""

MAX_NOISE = 5 / 255
"""Largest standard deviation of the noise; images lie in [0, 1]."""


def degrade(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Blur the first few images of a batch, add noise to the next few, leave the rest.

    Args:
        images: uint8 (n, 3, H, W).
        share: of the images to degrade, half of them by blur, in [0, 1].
        generator: draws how much, on the CPU.

    Returns:
        float32 (n, 3, H, W) in [0, 1], of levels of 8 bits where there is no blur.
    """
    values = images.float() / 255
    half = min(round(len(images) * share / 2), len(images) // 2)
    if not half:
        return values
    device = values.device
    width = images.shape[-1] / 64
    sigmas = (0.05 + (MAX_BLUR - 0.05) * torch.rand(half, generator=generator)) * width
    levels = MAX_NOISE * torch.rand(half, 1, 1, 1, generator=generator)
    noise = torch.randn((half, *values.shape[1:]), generator=generator) * levels
    noisy = (values[half : 2 * half] + noise.to(device)).clamp(0, 1)
    noisy = (noisy * 255).round() / 255
    return torch.cat((blurred(values[:half], sigmas.to(device)), noisy, values[2 * half :]))


def blurred(images: Tensor, sigmas: Tensor) -> Tensor:
    """Blur each image by its own Gaussian.

    Args:
        images: float (n, 3, H, W).
        sigmas: (n,), standard deviations in pixels, > 0.
    """
    reach = max(1, round(2 * float(sigmas.max())))
    steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernels = torch.exp(-0.5 * (steps / sigmas[:, None]) ** 2)
    kernels = kernels / kernels.sum(1, keepdim=True)
    count, channels, height, width = images.shape
    weights = kernels.repeat_interleave(channels, 0)[:, None]
    x = images.reshape(1, count * channels, height, width)
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = F.conv2d(x, weights[:, :, :, None], groups=count * channels)
    x = F.conv2d(x, weights[:, :, None, :], groups=count * channels)
    return x.reshape(images.shape)
