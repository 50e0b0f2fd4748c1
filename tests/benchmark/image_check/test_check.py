"""Images of known factors that were changed on purpose, and the shipped `lite`."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from shapeshd.benchmark.image_check.check import check_images
from shapeshd.benchmark.image_check.kept_images import Kept
from shapeshd.benchmark.image_check.response import fit_response
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.benchmark.result.image_check import ImageCheckRecord, images_text
from shapeshd.factors import joint_bins, uniform_factors
from shapeshd.raytracer.tracer import trace_images
from tests.support.fake_scores import ReadsWritten

COUNT = 64
SEED = 31


@functools.cache
def lite() -> Recognizer:
    return load_recognizer("lite")


@functools.cache
def images() -> Tensor:
    return trace_images(uniform_factors(SEED, 0, COUNT), 64)


def look(shown: Tensor) -> ImageCheckRecord:
    found = check_images(Kept(np.arange(len(shown)), shown, lite()(shown)), lite(), 64)
    assert found is not None
    return found


def noisy(shown: Tensor, levels: float) -> Tensor:
    noise = torch.randn(shown.shape, generator=torch.Generator().manual_seed(0))
    return (shown.float() + levels * noise).round().clamp(0, 255).byte()


def as_jpeg(shown: Tensor, quality: int) -> Tensor:
    read = []
    for image in shown.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        read.append(torch.from_numpy(np.array(Image.open(file))))
    return torch.stack(read).permute(0, 3, 1, 2).contiguous()


def linear(shown: Tensor) -> Tensor:
    values = shown.double().numpy() / 255
    decoded = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return torch.from_numpy(np.rint(255 * decoded).astype(np.uint8))


def test_real_images_are_like_real_images() -> None:
    found = look(images())
    assert found.ok
    assert found.alike
    assert found.change is None
    assert images_text(found, parts=True) == ""
    assert found.attenuation is not None
    assert found.attenuation.joint.value > 0.9
    assert found.right_bins is not None
    assert found.right_bins > 0.9


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda shown: shown.flip(1), "BGR"),
        (lambda shown: shown.flip(3), "mirrored"),
        (linear, "linear"),
        (lambda shown: (0.8 * shown.float()).round().byte(), "brightness by 0.80"),
    ],
)
def test_a_known_change_is_named(change: Callable[[Tensor], Tensor], name: str) -> None:
    found = look(change(images()).contiguous())
    assert not found.ok
    assert found.beyond.value > 0.9
    assert found.change is not None
    assert name in found.change
    assert name in images_text(found, parts=False)


def test_noise_is_no_scene() -> None:
    noise = torch.randint(0, 256, (COUNT, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    found = look(noise.byte())
    assert (found.ok, found.alike, found.change) == (False, False, None)
    assert found.attenuation is None
    assert images_text(found, parts=False).startswith("These images do not look like the dataset")


@pytest.mark.parametrize("damage", [lambda s: as_jpeg(s, 50), lambda s: noisy(s, 16)])
def test_damaged_images_are_read_as_badly_as_known_ones_with_their_differences(
    damage: Callable[[Tensor], Tensor],
) -> None:
    shown = damage(images())
    found = look(shown)
    right = (joint_bins(lite()(shown)) == joint_bins(uniform_factors(SEED, 0, COUNT))).mean()
    assert not found.ok
    assert found.alike
    assert found.change is None
    assert found.right_bins is not None
    assert abs(found.right_bins - right) < 3.5 * (0.25 / COUNT + 0.25 / COUNT) ** 0.5
    assert found.right_factors is not None
    assert found.right_bins <= min(share.value for share in found.right_factors.values()) < 1
    assert found.attenuation is not None
    assert found.attenuation.joint.high < 0.95
    assert "may come from the images" in images_text(found, parts=True)


def test_what_reads_no_real_images_is_not_asked() -> None:
    kept = Kept(np.arange(COUNT), images(), uniform_factors(SEED, 0, COUNT))
    assert check_images(kept, ReadsWritten(), 64) is None


def test_few_images_are_not_judged() -> None:
    few = images()[:20]
    assert check_images(Kept(np.arange(20), few, lite()(few)), lite(), 64) is None


def test_a_response_is_found_again() -> None:
    real = images()
    moved = torch.roll(real, 1, 3)
    moved[..., 0] = real[..., 0]  # as the filter repeats the border
    darker = (0.8 * moved.float() + 10).round().byte()
    response = fit_response(darker, real)
    assert response.gain == pytest.approx(0.8, abs=0.01)
    assert response.shift == pytest.approx((1, 0), abs=0.02)
    assert response.blur < 0.2
    left = (response(real) - darker.float()).square().mean().sqrt()
    assert float(left) < 1.5


def test_the_blur_of_a_response_is_its_width() -> None:
    real = images()
    kernel = torch.tensor([0.25, 0.5, 0.25])  # variance 1/2
    padded = torch.nn.functional.pad(real.float(), (1, 1, 1, 1), mode="replicate")
    weights = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
    blurred = torch.nn.functional.conv2d(padded, weights, groups=3)
    response = fit_response(blurred.round().byte(), real)
    assert response.blur == pytest.approx(0.5**0.5, abs=0.02)
