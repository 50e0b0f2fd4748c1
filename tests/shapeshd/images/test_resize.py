"""Images of other sizes: block means and bicubic splines, against NumPy and PIL."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from shapeshd.errors import UsageError
from shapeshd.factors import uniform_factors
from shapeshd.images.resize import check_image_size, resized
from shapeshd.raytracer.tracer import trace_images


def noise(side: int, number: int = 3) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(side).integers(0, 256, (number, 3, side, side), dtype=np.uint8)
    )


@pytest.mark.parametrize(("side", "wanted"), [(128, 64), (192, 64), (256, 64), (512, 256)])
def test_a_whole_ratio_is_the_mean_of_blocks(side: int, wanted: int) -> None:
    images = noise(side)
    ratio = side // wanted
    sums = images.numpy().reshape(3, 3, wanted, ratio, wanted, ratio).sum(axis=(3, 5), dtype=int)
    expected = (2 * sums + ratio**2) // (2 * ratio**2)  # in whole numbers; halves go up
    found = resized(images, wanted)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize(
    ("side", "wanted"), [(100, 64), (48, 64), (160, 64), (130, 256), (300, 256)]
)
@pytest.mark.parametrize("kind", ["noise", "real"])
def test_other_ratios_as_pil(side: int, wanted: int, kind: str) -> None:
    images = noise(side) if kind == "noise" else trace_images(uniform_factors(0, 0, 2), side)
    found = resized(images, wanted).permute(0, 2, 3, 1).numpy().astype(int)
    for pixels, image in zip(images.permute(0, 2, 3, 1).numpy(), found, strict=True):
        for channel in range(3):
            # In floating point: of bytes, PIL cuts off what overshoots in the first direction.
            plane = Image.fromarray(pixels[..., channel].astype(np.float32))
            drawn = plane.resize((wanted, wanted), Image.Resampling.BICUBIC)
            expected = np.clip(np.rint(np.asarray(drawn)), 0, 255)
            difference = np.abs(expected - image[..., channel])
            assert difference.max() <= 1
            assert difference.mean() < 0.01


@pytest.mark.parametrize(("side", "wanted"), [(100, 64), (48, 64), (300, 256)])
def test_bytes_without_overshoot_as_pil(side: int, wanted: int) -> None:
    images = noise(side) // 3 + 85
    found = resized(images, wanted).permute(0, 2, 3, 1).numpy().astype(int)
    for pixels, image in zip(images.permute(0, 2, 3, 1).numpy(), found, strict=True):
        drawn = Image.fromarray(pixels).resize((wanted, wanted), Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(drawn).astype(int) - image).max() <= 1


@pytest.mark.parametrize("side", [64, 100, 128, 33])
@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_a_grey_stays_that_grey(side: int, level: int) -> None:
    images = torch.full((1, 3, side, side), level, dtype=torch.uint8)
    assert (resized(images, 64) == level).all()


def test_the_right_size_is_not_touched() -> None:
    images = noise(64)
    assert resized(images, 64) is images


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    images = noise(100, 5)
    assert torch.equal(resized(images, 64)[3:4], resized(images[3:4], 64))


@pytest.mark.parametrize(
    ("side", "wanted", "how"),
    [(64, 64, None), (256, 256, None), (256, 64, "area"), (128, 64, "area"), (100, 64, "bicubic"),
     (32, 64, "bicubic"), (63, 64, "bicubic"), (128, 256, "bicubic"), (1024, 256, "area")],
)  # fmt: skip
def test_how_a_size_is_brought_to_the_recognizers(side: int, wanted: int, how: str | None) -> None:
    assert check_image_size(side, side, wanted, "x.zip") == how


@pytest.mark.parametrize(
    ("height", "width", "wanted", "message"),
    [
        (64, 65, 64, "65x64 pixels, but must be square"),
        (31, 31, 64, "31x31 pixels, too few"),
        (127, 127, 256, "256x256; take recognizer='lite'"),
        (64, 64, 256, "take recognizer='lite'"),
        (1, 1, 64, "too few"),
    ],
)
def test_sizes_that_cannot_be_read(height: int, width: int, wanted: int, message: str) -> None:
    with pytest.raises(UsageError) as stop:
        check_image_size(height, width, wanted, "x.zip")
    assert message in str(stop.value)
    if height < 32:
        assert "lite" not in str(stop.value)
