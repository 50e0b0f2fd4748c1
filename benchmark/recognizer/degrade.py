"""Degrades images: in training by chance, and by one known strength to measure what it costs.

Images of a generator are never as clean as rendered ones: they are blurred, noisy, too bright, or
were saved as JPEG. A recognizer that has only seen clean ones errs more on them. There are two
sorts of degradation: "mild", a little blur or noise, which leaves the factors as readable as they
were; and "strong", which also compresses and changes the brightness.

`KnownDegradation` is one degradation of one strength: `recognizer evaluate --degrade` measures with
it how well degraded images are read.
"""

from __future__ import annotations

import io
import math
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor

from shapeshd.errors import UsageError, named
from shapeshd.support.device import moved

Degradation: TypeAlias = Literal["mild", "strong"]
DEGRADATIONS: tuple[str, ...] = get_args(Degradation)

MAX_BLUR = 0.75
"""Largest standard deviation of the mild blur, in 64ths of the image's width."""

MAX_NOISE = 5 / 255
"""Largest standard deviation of the mild noise; images lie in [0, 1]."""

STRONG_BLUR = (0.05, 1.0)
"""Range of the strong blur's standard deviation, in 64ths of the image's width."""

STRONG_NOISE = 12 / 255
"""Largest standard deviation of the strong noise."""

GAINS = (0.8, 1.2)
"""Range of the factor of brightness, on sRGB values."""

QUALITIES = (60, 98)
"""Range of the quality of JPEG, both ends included; chroma is subsampled 4:2:0, or 4:4:4."""

_JPEG, _OTHERS = 0.4, 0.3  # probabilities of the strong operations
_WHOLE_CHROMA = 0.25
_CHROMA = {False: "4:2:0", True: "4:4:4"}

_RANGES = {"jpeg": (1, 100), "noise": (0, 255), "blur": (0, 32), "brightness": (0, 4)}
_TRUNCATE = 4.0  # standard deviations at which a measured blur ends, as SciPy's


class KnownDegradation(NamedTuple):
    """A degradation of one strength, such as ``jpeg=75``.

    Attributes:
        kind: "jpeg", saved with chroma halved (4:2:0); "noise", normal and independent; "blur", by
            a Gaussian; or "brightness", which multiplies sRGB values.
        strength: the quality, 1 to 100; the standard deviation of the noise in levels of 8 bits,
            0 to 255; that of the blur in pixels, 0 to 32; the factor of brightness, 0 to 4.
    """

    kind: str
    strength: float

    @classmethod
    def parse(cls, text: str) -> KnownDegradation:
        """Return the degradation that ``KIND=STRENGTH`` says.

        Raises:
            UsageError: if there is no such kind, or the strength is none of its range.
        """
        kind, equals, number = text.partition("=")
        if kind not in _RANGES or not equals:
            raise UsageError(
                f"{named('degrade', text)}: say jpeg=QUALITY, noise=LEVELS, blur=PIXELS or "
                "brightness=FACTOR"
            )
        low, high = _RANGES[kind]
        try:
            strength = float(number)
        except ValueError:
            strength = math.nan
        whole = kind == "jpeg"
        if not low <= strength <= high or (whole and strength % 1):
            what = "a whole number" if whole else "a number"
            raise UsageError(f"{named('degrade', text)}: {kind} takes {what} from {low} to {high}")
        return cls(kind, strength)

    def __str__(self) -> str:
        return f"{self.kind}={self.strength:g}"

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return degraded images, rounded to levels.

        Args:
            images: uint8 (n, 3, H, W) on the CPU.
            generator: draws the noise.

        Returns:
            uint8 (n, 3, H, W).
        """
        if self.kind == "jpeg":
            return torch.stack([jpeg(image, int(self.strength)) for image in images])
        values = images.float()
        if self.kind == "noise":
            values = values + self.strength * torch.randn(values.shape, generator=generator)
        elif self.kind == "brightness":
            values = values * self.strength
        elif self.strength > 0:
            values = blurred(values, torch.full((len(values),), self.strength), _TRUNCATE)
        return values.round().clamp(0, 255).to(torch.uint8)


def degrade(
    images: Tensor, share: float, generator: torch.Generator, degradation: Degradation = "mild"
) -> Tensor:
    """Degrade the first few images of a batch, and leave the rest.

    Args:
        images: uint8 (n, 3, H, W).
        share: of the images to degrade, in [0, 1].
        generator: draws which operations and how strong they are, on the CPU.
        degradation: "mild" blurs a half of them and adds noise to the other; "strong" is
            `degrade_strongly`.

    Returns:
        float32 (n, 3, H, W) in [0, 1], of levels of 8 bits except where it is blurred mildly.
    """
    if degradation == "strong":
        count = round(len(images) * share)
        changed = degrade_strongly(images[:count], generator)
        return torch.cat((changed, images[count:])).float() / 255
    values = images.float() / 255
    half = min(round(len(images) * share / 2), len(images) // 2)
    if not half:
        return values
    device = values.device
    width = images.shape[-1] / 64
    sigmas = (0.05 + (MAX_BLUR - 0.05) * torch.rand(half, generator=generator)) * width
    levels = MAX_NOISE * torch.rand(half, 1, 1, 1, generator=generator)
    noise = torch.randn((half, *values.shape[1:]), generator=generator) * levels
    noisy = (values[half : 2 * half] + moved(noise, device)).clamp(0, 1)
    noisy = (noisy * 255).round() / 255
    return torch.cat((blurred(values[:half], sigmas), noisy, values[2 * half :]))


def degrade_strongly(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur images, change their brightness, add noise and compress them, each by chance.

    The order is that in which a generator's images suffer it. An image is compressed with a
    probability of 0.4, and each other operation has one of 0.3; where none was drawn, the image is
    compressed. How strong an operation is, is uniform within its range.

    Args:
        images: uint8 (n, 3, H, W).
        generator: draws all of it, on the CPU; a function of its state alone.

    Returns:
        uint8 (n, 3, H, W).
    """
    count, device = len(images), images.device
    if not count:
        return images

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    blurs, gained, noisy = torch.rand(3, count, generator=generator) < _OTHERS
    compressed = torch.rand(count, generator=generator) < _JPEG
    compressed |= ~(blurs | gained | noisy)
    sigmas = between(*STRONG_BLUR) * images.shape[-1] / 64
    gains = between(*GAINS)
    levels = between(0, STRONG_NOISE)
    qualities = torch.randint(QUALITIES[0], QUALITIES[1] + 1, (count,), generator=generator)
    whole = torch.rand(count, generator=generator) < _WHOLE_CHROMA

    values = images.float() / 255
    if blurs.any():
        rows = moved(blurs.nonzero()[:, 0], device)
        values[rows] = blurred(values[rows], sigmas[blurs])
    values = values * moved(torch.where(gained, gains, 1.0), device)[:, None, None, None]
    noise = torch.randn((int(noisy.sum()), *images.shape[1:]), generator=generator)
    values[moved(noisy.nonzero()[:, 0], device)] += moved(
        noise * levels[noisy, None, None, None], device
    )
    found = (values.clamp(0, 1) * 255).round().to(torch.uint8)
    rows = compressed.nonzero()[:, 0]
    if len(rows):
        there = moved(rows, device)
        made = [
            jpeg(image, int(qualities[row]), whole_chroma=bool(whole[row]))
            for row, image in zip(rows.tolist(), found[there].cpu(), strict=True)
        ]
        found[there] = moved(torch.stack(made), device)
    return found


def jpeg(image: Tensor, quality: int, *, whole_chroma: bool = False) -> Tensor:
    """Return an image, uint8 (3, H, W) on the CPU, as JPEG leaves it.

    Args:
        image: uint8 (3, H, W) on the CPU.
        quality: from 1 to 100, as libjpeg takes it.
        whole_chroma: keep chroma at full resolution (4:4:4); else it is halved (4:2:0).
    """
    file = io.BytesIO()
    picture = PIL.Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.save(file, "JPEG", quality=quality, subsampling=_CHROMA[whole_chroma])
    with PIL.Image.open(file, formats=("JPEG",)) as read:
        return torch.from_numpy(np.array(read)).permute(2, 0, 1)


def blurred(images: Tensor, sigmas: Tensor, truncate: float = 2.0) -> Tensor:
    """Blur each image by its own Gaussian.

    Args:
        images: float (n, 3, H, W).
        sigmas: (n,), standard deviations in pixels, > 0; on the CPU, or they are waited for.
        truncate: where the filter ends, in standard deviations of the widest, rounded to pixels.
    """
    reach = max(1, round(truncate * float(sigmas.max())))
    steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernels = torch.exp(-0.5 * (steps / moved(sigmas, images.device)[:, None]) ** 2)
    kernels = kernels / kernels.sum(1, keepdim=True)
    count, channels, height, width = images.shape
    weights = kernels.repeat_interleave(channels, 0)[:, None]
    x = images.reshape(1, count * channels, height, width)
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = F.conv2d(x, weights[:, :, :, None], groups=count * channels)
    x = F.conv2d(x, weights[:, :, None, :], groups=count * channels)
    return x.reshape(images.shape)
