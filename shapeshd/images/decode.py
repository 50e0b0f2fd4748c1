"""One encoded image to pixels, for folders, archives and LMDBs.

PNG, JPEG, WebP, BMP and PPM. An image is taken as it is seen: an embedded colour profile and the
orientation that a camera noted (EXIF) are applied, 16 bits a channel are rounded to 8, a palette is
looked up, grey becomes three equal channels, an alpha channel that is opaque everywhere is dropped.
What cannot become 8-bit sRGB without a guess is refused: alpha that is not opaque, CMYK without a
profile, several frames. Without a profile the numbers are taken as sRGB.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapeshd.errors import ShapesHDError, UsageError, one_line
from shapeshd.support.distributed import core_count

from .colour import applied_profile, rounded_to_8_bits
from .names import FORMATS, MAX_PIXELS, SUFFIXES

MAX_FILE_BYTES = 96 * 2**20
"""The largest encoded image that is read; 4096 x 4096 pixels without compression are 50 MB."""

_PALETTE = "palette looked up"
_ALPHA = "opaque alpha dropped"
_ROTATED = "EXIF orientation applied"
_ROUNDED = "16 bits a channel rounded to 8"
_GREY = "grey taken as equal channels"
_MANY = "several other conversions"
_EXIF_ORIENTATION = 0x0112
_MOST_WAYS = 200
_IHDR_DEPTH = 24  # of a PNG file: signature, length, type, width, height, then the bit depth


def decode_image(data: bytes, name: str) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the pixels of an encoded image, uint8 (H, W, 3), and what was done to get them.

    Args:
        data: the whole file.
        name: what to call it in messages.

    Raises:
        UsageError: if it cannot become 8-bit sRGB without a guess.
        ShapesHDError: if it is no image, or damaged.
    """
    with _opened(data, name) as image:
        deep = _sixteen_bit(image, data)
        image.load()
        done: list[str] = []
        loaded = _rounded(image, data, name, done) if deep else image
        return np.asarray(_to_rgb(loaded, name, done)), done


def check_image(data: bytes, name: str) -> None:
    """Look at an image's header, and at the checksums of a PNG, without decoding it.

    Raises:
        UsageError, ShapesHDError: as `decode_image`, as far as can be seen from that.
    """
    with _opened(data, name) as image:
        image.verify()


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[PIL.Image.Image]:
    """Give an image that is not decoded yet; what Pillow raises becomes one line."""
    if not data:
        raise ShapesHDError(f"{name}: is empty")
    try:
        # No other decoder of Pillow is ever called.
        with PIL.Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            _check_before_decoding(image, name)
            yield image
    except ShapesHDError:
        raise
    except PIL.UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise ShapesHDError(f"{name}: is no image ({known}), or damaged") from None
    except PIL.Image.DecompressionBombError:
        raise _too_large(name, None) from None
    except Exception as error:  # Pillow raises anything on arbitrary bytes
        raise ShapesHDError(f"{name}: is damaged ({one_line(error)})") from None


def _check_before_decoding(image: PIL.Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, image.size)
    if getattr(image, "n_frames", 1) > 1:
        raise UsageError(f"{name}: holds several frames: save each as an image of its own")


def _sixteen_bit(image: PIL.Image.Image, data: bytes) -> bool:
    """Tell whether channels have more than 8 bits, which Pillow cuts off without a word."""
    if image.format == "PNG":
        return data[_IHDR_DEPTH] > 8
    if image.format == "PPM":  # the largest value is an argument of Pillow's decoder
        return image.mode == "I" or any(
            isinstance(value, int) and value > 255 for value in _arguments(image)
        )
    return False


def _arguments(image: PIL.Image.Image) -> tuple[Any, ...]:
    tile: Any = getattr(image, "tile", None)
    if not tile or tile[0][0] == "raw":  # rows as they are: 8 bits
        return ()
    arguments = tile[0][3]
    return arguments if isinstance(arguments, tuple) else (arguments,)


def _rounded(image: PIL.Image.Image, data: bytes, name: str, done: list[str]) -> PIL.Image.Image:
    if "transparency" in image.info:
        raise UsageError(f"{name}: has 16 bits a channel and a transparent colour: save it with 8")
    noted, image = image.info, rounded_to_8_bits(image, data, name)
    image.info = noted
    done.append(_ROUNDED)
    return image


def _to_rgb(image: PIL.Image.Image, name: str, done: list[str]) -> PIL.Image.Image:
    """Return a loaded image as 8-bit sRGB, and append to `done` what that took."""
    noted = image.info
    if image.getexif().get(_EXIF_ORIENTATION, 1) not in (0, 1):
        image = PIL.ImageOps.exif_transpose(image)
        done.append(_ROTATED)
    image = _without_alpha(image, name, done)
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("RGB", "L", "CMYK"):
        raise UsageError(f"{name}: is {_mode_in_words(image.mode)}, not 8-bit RGB")
    if image.mode == "L":
        done.append(_GREY)
    if "icc_profile" in noted:
        image.info = noted  # what makes a new image of one may leave it out
        image, profile = applied_profile(image, name)
        if profile is not None:
            done.append(profile)
    if image.mode == "CMYK":
        raise UsageError(f"{name}: is CMYK without a colour profile, not 8-bit RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _without_alpha(image: PIL.Image.Image, name: str, done: list[str]) -> PIL.Image.Image:
    """Look up a palette, and drop an alpha channel that is opaque everywhere."""
    has_alpha = image.mode in ("RGBA", "PA", "LA", "La") or "transparency" in image.info
    grey = image.mode in ("L", "LA", "La", "1")
    if image.mode in ("P", "PA"):
        done.append(_PALETTE)
    if has_alpha:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise UsageError(f"{name}: is not opaque: remove the alpha channel")
        done.append(_ALPHA)
        return image.convert("RGB").getchannel("R") if grey else image.convert("RGB")
    return image.convert("RGB") if image.mode in ("P", "PA") else image


def _mode_in_words(mode: str) -> str:
    return "of numbers above 255, or floats" if mode in ("I", "F") else mode


def _too_large(name: str, size: tuple[int, int] | None) -> UsageError:
    what = f"{size[0]}x{size[1]} pixels" if size else "its pixels"
    return UsageError(f"{name}: {what} are too many: at most {MAX_PIXELS:,} an image")


class Decoder:
    """Reads numbered images side by side in threads, in order, all of one size.

    Args:
        read: called in any thread with an image's number; returns the whole encoded file.
        label: gives an image's name for messages.
        count: how many there are.
    """

    def __init__(
        self, read: Callable[[int], bytes], label: Callable[[int], str], count: int
    ) -> None:
        self._read = read
        self._label = label
        self._pool: ThreadPoolExecutor | None = None
        self._first: tuple[int, tuple[int, int]] | None = None  # number and (H, W) of the first
        self._ways: list[tuple[str, ...]] = [()]  # in which images were converted
        self._way = np.zeros(count, np.uint8)  # of each image: its place in that list

    def images(self, numbers: Sequence[int]) -> Tensor:
        """Return the images `numbers`, at least one: uint8 (n, 3, H, W).

        Raises:
            UsageError: if one cannot become 8-bit sRGB, or is of another size; names it.
            ShapesHDError: if one cannot be read; names it.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(core_count(), thread_name_prefix="decode")
        if self._first is None:
            self._first = (numbers[0], self._decode(numbers[0])[0].shape[:2])
        height, width = self._first[1]
        images = np.empty((len(numbers), height, width, 3), dtype=np.uint8)

        def place(row: int) -> list[str]:
            pixels, done = self._decode(numbers[row])
            if pixels.shape[:2] != (height, width):
                self._refuse_size(numbers[row], pixels.shape)
            images[row] = pixels
            return done

        for number, done in zip(numbers, self._pool.map(place, range(len(numbers))), strict=True):
            self._way[number] = self._place_of(tuple(done)) if done else 0
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def _place_of(self, way: tuple[str, ...]) -> int:
        if way not in self._ways:
            if len(self._ways) > _MOST_WAYS:  # such as a profile of its own in each
                way = (_MANY,)
            if way not in self._ways:
                self._ways.append(way)
        return self._ways.index(way)

    def conversions(self, numbers: Sequence[int]) -> Counter[str]:
        """Count what was done to those of the images `numbers` that were read, by kind."""
        counts = np.bincount(self._way[numbers], minlength=len(self._ways))
        found: Counter[str] = Counter()
        for way, count in zip(self._ways, counts.tolist(), strict=True):
            found.update(dict.fromkeys(way, count) if count else {})
        return found

    def describe(self) -> dict[str, Any]:
        """Return what the values of the images are, ready for JSON."""
        return {"dtype": "uint8", "range": "0 to 255", "range_from": "type"}

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _decode(self, number: int) -> tuple[NDArray[np.uint8], list[str]]:
        return decode_image(self._read(number), self._label(number))

    def _refuse_size(self, number: int, shape: tuple[int, ...]) -> None:
        assert self._first is not None
        first, (height, width) = self._first
        raise UsageError(
            f"{self._label(number)} has {shape[1]}x{shape[0]} pixels and {self._label(first)} "
            f"{width}x{height}: one size alone can be scored"
        )


def nothing_found(where: str, others: Counter[str]) -> UsageError:
    """Return the error for a place without images.

    Args:
        where: what was searched, such as "x.zip: holds".
        others: how many files of each suffix it holds instead.
    """
    found = ", ".join(
        f"{n:,} {suffix or 'without a suffix'}" for suffix, n in others.most_common(3)
    )
    instead = f"; it holds {found}" if found else ""
    return UsageError(f"{where} no images ({', '.join(SUFFIXES)}){instead}")
