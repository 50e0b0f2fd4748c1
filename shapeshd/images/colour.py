"""What an image says of its numbers beside them: its colour profile, and 16 bits a channel.

Colour profiles (ICC.1:2022) are applied by LittleCMS, as browsers and image programs do. One that
is sRGB, whoever wrote it, changes no bit.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from shapeshd.errors import ShapesHDError, UsageError, one_line

_SAME = 2
"""Levels by which a profile may differ from sRGB and still be one: writers round its tables."""

_LATTICE = np.arange(0, 256, 15, dtype=np.uint8)
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour spaces of profiles, and Pillow's modes of the images that can have them."""

_LONGEST_TITLE = 60
_PROFILES = 64
"""How many profiles are kept ready; a set of images has one, or a few."""


@dataclass(frozen=True)
class _Conversion:
    """What a profile does: `transform`, of LittleCMS, is None where it is sRGB."""

    title: str
    mode: str
    transform: object | None


def applied_profile(image: PIL.Image.Image, name: str) -> tuple[PIL.Image.Image, str | None]:
    """Convert an image by its embedded profile.

    Args:
        image: RGB, grey (L) or CMYK.
        name: what to call it in messages.

    Returns:
        The image as sRGB (RGB), and what was done; the image itself and None if it has no profile
        or one that is sRGB.

    Raises:
        ShapesHDError: if the profile is damaged.
        UsageError: if it is one for another kind of image.
    """
    if "icc_profile" not in image.info:
        return image, None
    profile = image.info["icc_profile"]
    if not profile:  # Pillow could not unpack it
        raise _damaged(name, "cut off, or its parts are missing")
    try:
        from PIL import ImageCms

        conversion = _conversion(bytes(profile), image.mode)
        if conversion.transform is None:
            return image, None
        image = image if image.mode == conversion.mode else image.convert(conversion.mode)
        converted = ImageCms.applyTransform(image, conversion.transform)  # type: ignore[arg-type]
    except ShapesHDError as error:
        raise type(error)(f"{name}: {error}") from None
    except ImportError:
        raise ShapesHDError(
            f"{name}: has a colour profile, and this Pillow was built without LittleCMS: install "
            "the one of PyPI or conda-forge, or save the images as sRGB"
        ) from None
    except Exception as error:  # LittleCMS refuses in many ways
        raise _damaged(name, one_line(error) or type(error).__name__) from None
    assert converted is not None
    return converted, f"colour profile {conversion.title} converted to sRGB"


@functools.lru_cache(maxsize=_PROFILES)
def _conversion(data: bytes, mode: str) -> _Conversion:
    """Return what a profile does to images of a mode; errors lack the image's name."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
    space = profile.profile.xcolor_space
    if mode == "L" and space == "RGB ":  # as programs save that make a grey image of a coloured one
        mode = "RGB"
    if _SPACES.get(space) != mode:
        raise UsageError(
            f"its colour profile is for {space.strip() or 'nothing'} and its pixels are {mode}: "
            "remove the profile, or save the image as sRGB"
        )
    title = " ".join(ImageCms.getProfileDescription(profile).split())[:_LONGEST_TITLE] or "unnamed"
    # What the profile's maker meant; but white shall stay white.
    intent = ImageCms.Intent(ImageCms.getDefaultIntent(profile))
    if intent == ImageCms.Intent.ABSOLUTE_COLORIMETRIC:
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    transform = ImageCms.buildTransform(
        profile, ImageCms.createProfile("sRGB"), mode, "RGB", renderingIntent=intent
    )
    if mode != "CMYK" and _changes_nothing(transform, mode):
        return _Conversion(title, mode, None)
    return _Conversion(title, mode, transform)


def _changes_nothing(transform: object, mode: str) -> bool:
    """Tell whether a transform leaves colours from all over the cube where they are."""
    from PIL import ImageCms

    axes = [_LATTICE] * 3 if mode == "RGB" else [np.arange(256, dtype=np.uint8)]
    colours = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(1, -1, len(axes))
    before = PIL.Image.fromarray(colours if mode == "RGB" else colours[..., 0])
    after = ImageCms.applyTransform(before, transform)  # type: ignore[arg-type]
    difference = np.asarray(after, dtype=np.int64) - np.asarray(before.convert("RGB"))
    return bool(np.abs(difference).max() <= _SAME)


def _damaged(name: str, why: str) -> ShapesHDError:
    return ShapesHDError(
        f"{name}: its colour profile is damaged ({why}): remove it, or save the image as sRGB"
    )


def rounded_to_8_bits(image: PIL.Image.Image, data: bytes, name: str) -> PIL.Image.Image:
    """Return an image of 16 bits a channel with 8, rounded; Pillow would cut off.

    Args:
        image: as Pillow has loaded it: RGB, RGBA, or grey with all its bits.
        data: the whole file.
        name: what to call it in messages.

    Raises:
        UsageError: if it is grey with an alpha channel.
    """
    if image.mode.startswith("I"):
        return PIL.Image.fromarray(_rounded(np.asarray(image)))
    if image.format == "PPM":
        return image  # Pillow has rounded
    # It keeps the upper of two bytes. Read as if the lower came first, the file gives the other.
    with PIL.Image.open(io.BytesIO(data), formats=("PNG",)) as again:
        kind, box, offset, form = again.tile[0]
        if form not in ("RGB;16B", "RGBA;16B"):
            raise UsageError(f"{name}: is grey with alpha, of 16 bits a channel: save it as RGB")
        again.tile = [(kind, box, offset, f"{form[:-1]}L")]  # type: ignore[list-item, unused-ignore]
        again.load()
        return PIL.Image.fromarray(_rounded(256 * np.asarray(image, np.int64) + np.asarray(again)))


def _rounded(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return values of 0 .. 65535 as 0 .. 255: divided by 257, to the nearest."""
    return ((values.astype(np.int64) + 128) // 257).astype(np.uint8)
