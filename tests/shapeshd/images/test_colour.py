"""Profiles, 16 bits, orientation and grey against what they mean by their standards."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.images.decode import decode_image
from tests.support.icc_profiles import PRIMARIES, as_srgb, profile
from tests.support.image_files import encoded

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65_536, (40, 30, 4))
EDGES = np.array([0, 1, 128, 129, 256, 257, 385, 386, 65_278, 65_279, 65_406, 65_407, 65_535])
WIDE = ["Display P3", "Adobe RGB (1998)"]


def deep_png(values: np.ndarray, kind: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write; `kind` is the format's colour type."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = values.shape[:2]
    rows = values.astype(">u2").reshape(height, -1)
    up = np.diff(rows.view(np.uint8).astype(np.int64), axis=0, prepend=0) % 256  # filter 2
    data = b"".join(b"\x02" + row.astype(np.uint8).tobytes() for row in up)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def nearest(values: np.ndarray) -> np.ndarray:
    return np.floor(values / 257 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_a_profile_gives_the_colours_that_it_means(name, format):
    more = {"lossless": True} if format == "WEBP" else {}
    data = encoded(PIXELS, format, icc_profile=profile(name), **more)
    found, done = decode_image(data, "x")
    assert np.abs(found.astype(int) - as_srgb(name, PIXELS)).max() <= 1
    assert np.abs(found.astype(int) - PIXELS).max() > 30  # and these are others
    assert done == [f"colour profile {name} converted to sRGB"]


def test_a_jpeg_is_decoded_and_then_converted():
    data = encoded(PIXELS, "JPEG", quality=95, icc_profile=profile("Display P3"))
    raw = np.asarray(PIL.Image.open(io.BytesIO(data)))
    found, _ = decode_image(data, "x")
    assert np.abs(found.astype(int) - as_srgb("Display P3", raw)).max() <= 1


@pytest.mark.parametrize("who", ["by hand", "LittleCMS"])
def test_an_srgb_profile_changes_no_bit(who):
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    icc = own if who == "LittleCMS" else profile("sRGB by hand")
    found, done = decode_image(encoded(PIXELS, icc_profile=icc), "x")
    np.testing.assert_array_equal(found, PIXELS)
    assert done == []
    grey, done = decode_image(encoded(PIXELS[..., 0], icc_profile=icc), "x")
    np.testing.assert_array_equal(grey, PIXELS[..., :1].repeat(3, 2))
    assert done == ["grey taken as equal channels"]


def test_a_palette_and_opaque_alpha_are_converted_after_they_are_looked_up():
    few = PIL.Image.fromarray(PIXELS).quantize(16)
    found, done = decode_image(encoded(few, icc_profile=profile("Display P3")), "x")
    wanted = as_srgb("Display P3", np.asarray(few.convert("RGB")))
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert len(done) == 2
    opaque = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    found, done = decode_image(encoded(opaque, icc_profile=profile("Display P3")), "x")
    assert np.abs(found.astype(int) - as_srgb("Display P3", PIXELS)).max() <= 1


def test_a_grey_image_with_the_profile_of_a_coloured_one():
    found, done = decode_image(encoded(PIXELS[..., 0], icc_profile=profile(WIDE[1])), "x")
    wanted = as_srgb(WIDE[1], PIXELS[..., :1].repeat(3, 2))
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert done[0] == "grey taken as equal channels"


def test_threads_share_a_profile():
    data = [encoded(PIXELS[row:], icc_profile=profile(WIDE[row % 2])) for row in range(20)]
    wanted = [decode_image(one, "x")[0] for one in data]
    start = threading.Barrier(4)

    def decode(_: int) -> list[np.ndarray]:
        start.wait()
        return [decode_image(one, "x")[0] for one in data]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(decode, range(4)):
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("icc", "message"),
    [
        (b"no profile at all", "colour profile is damaged"),
        (profile("Display P3")[:200], "colour profile is damaged"),
        (profile("Display P3")[:140] + b"\xff" * 200, "colour profile is damaged"),
        (profile("Display P3", space=b"CMYK"), "colour profile is for CMYK"),
        (profile("Display P3", space=b"Lab "), "colour profile is for Lab"),
    ],
)
def test_a_damaged_profile_is_one_line(icc, message):
    with pytest.raises(ShapesHDError, match=message) as caught:
        decode_image(encoded(PIXELS, icc_profile=icc), "a.png")
    assert str(caught.value).startswith("a.png: ")
    assert "\n" not in str(caught.value)


def test_a_profile_that_cannot_be_unpacked_is_one_line():
    data = bytearray(encoded(PIXELS, icc_profile=profile("Display P3")))
    place = data.index(b"iCCP")
    length = int.from_bytes(data[place - 4 : place], "big")
    data[place + 40 : place + 60] = bytes(20)
    crc = zlib.crc32(bytes(data[place : place + 4 + length]))
    data[place + 4 + length : place + 8 + length] = crc.to_bytes(4, "big")
    with pytest.raises(ShapesHDError, match=r"^a\.png: .*colour profile"):
        decode_image(bytes(data), "a.png")


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (6, 4), (0, 1)])
def test_sixteen_bits_are_rounded(kind, channels):
    values = DEEP[..., :channels].copy()
    values[0, : len(EDGES)] = EDGES[:, None]
    if kind == 6:
        values[..., 3] = 65_535
    found, done = decode_image(deep_png(values, kind), "x")
    wanted = nearest(values[..., : max(1, min(3, channels))])
    np.testing.assert_array_equal(found, np.broadcast_to(wanted, found.shape))
    assert done[0] == "16 bits a channel rounded to 8"


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_of_ppm_are_rounded(channels):
    values = DEEP[..., :channels]
    head = b"P5" if channels == 1 else b"P6"
    data = head + b"\n30 40\n65535\n" + values.astype(">u2").tobytes()
    found, done = decode_image(data, "x")
    np.testing.assert_array_equal(found, np.broadcast_to(nearest(values), found.shape))
    assert done[0] == "16 bits a channel rounded to 8"


def test_sixteen_bits_with_what_is_guessed_are_refused():
    clear = DEEP.copy()
    clear[0, 0, 3] = 300
    for data, message in (
        (deep_png(clear, 6), "not opaque"),
        (deep_png(DEEP[..., :2], 4), "grey with alpha"),
    ):
        with pytest.raises(UsageError, match=message):
            decode_image(data, "x")


def test_orientation_and_profile_together():
    sideways = PIL.Image.Exif()
    sideways[0x0112] = 6  # turn clockwise to see it
    turned = PIL.Image.fromarray(PIXELS).rotate(90, expand=True)
    data = encoded(turned, exif=sideways, icc_profile=profile("Display P3"))
    found, done = decode_image(data, "x")
    assert np.abs(found.astype(int) - as_srgb("Display P3", PIXELS)).max() <= 1
    assert done == [
        "EXIF orientation applied",
        "colour profile Display P3 converted to sRGB",
    ]


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_is_three_equal_channels(mode):
    grey = PIL.Image.fromarray(PIXELS).convert(mode)
    found, done = decode_image(encoded(grey), "x")
    wanted = np.asarray(grey.convert("L"))
    np.testing.assert_array_equal(found, wanted[..., None].repeat(3, 2))
    assert "grey taken as equal channels" in done


def test_profiles_are_told_apart_by_their_names():
    assert set(WIDE) < set(PRIMARIES)
    first, second = (decode_image(encoded(PIXELS, icc_profile=profile(n)), "x")[1] for n in WIDE)
    assert first != second
