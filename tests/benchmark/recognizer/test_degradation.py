"""Degraded images: the blur against SciPy's, the noise against what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from shapeshd.benchmark.recognizer.degrade import MAX_BLUR, MAX_NOISE, blurred, degrade


def random_images(count: int, size: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("sigmas", [[0.05], [0.3, 0.75], [0.1, 1.6, 3.0]])
def test_the_blur_is_scipy_s(sigmas: list[float]) -> None:
    images = torch.rand(len(sigmas), 3, 20, 24, dtype=torch.float64, generator=seeded())
    found = blurred(images, torch.tensor(sigmas, dtype=torch.float64)).numpy()
    reach = max(1, round(2 * max(sigmas)))
    for number, sigma in enumerate(sigmas):
        expected = images[number].numpy()
        for axis in (1, 2):
            expected = gaussian_filter1d(expected, sigma, axis=axis, mode="nearest", radius=reach)
        np.testing.assert_allclose(found[number], expected, atol=1e-12)


def test_the_cut_kernel_is_close_to_the_whole_one() -> None:
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=seeded())
    found = blurred(images, torch.tensor([MAX_BLUR], dtype=torch.float64)).numpy()[0]
    expected = images[0].numpy()
    for axis in (1, 2):
        expected = gaussian_filter1d(expected, MAX_BLUR, axis=axis, mode="nearest")
    assert np.abs(found - expected).max() < 0.03


def test_flat_images_stay_flat() -> None:
    flat = torch.full((2, 3, 8, 8), 0.3, dtype=torch.float64)
    torch.testing.assert_close(blurred(flat, torch.tensor([0.2, 2.0]).double()), flat)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 40])
def test_the_share_is_half_blurred_half_noisy_and_the_rest_is_left(
    count: int, share: float
) -> None:
    images = random_images(count, 64)
    found = degrade(images, share, seeded())
    assert found.shape == images.shape
    assert found.dtype == torch.float32
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    half = min(round(count * share / 2), count // 2)
    assert torch.equal(found[2 * half :], images[2 * half :].float() / 255)
    levels = found[half:] * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    if half == 20:  # a weak blur or noise may leave an image as it was
        changed = (found != images.float() / 255).flatten(1).any(1)
        blurry = (found * 255 - (found * 255).round()).abs().flatten(1).amax(1) > 1e-3
        assert changed[:half].sum() > 8
        assert changed[half:].sum() > 8
        assert blurry[:half].sum() > 8


def test_nothing_is_degraded_at_a_share_of_zero() -> None:
    images = random_images(8)
    assert torch.equal(degrade(images, 0.0, seeded()), images.float() / 255)


def test_the_noise_is_of_every_level_up_to_the_largest() -> None:
    """Its standard deviation is uniform in [0, MAX_NOISE]; rounding adds 1/12 of a level."""
    grey = torch.full((400, 3, 32, 32), 128, dtype=torch.uint8)
    found = (degrade(grey, 1.0, seeded())[200:] * 255 - 128).double().flatten(1)
    deviations = (found.square().mean(1) - 1 / 12).clamp_min(0).sqrt().numpy()
    largest = MAX_NOISE * 255
    assert largest == 5
    assert abs(float(found.mean())) < 0.05
    assert deviations.max() <= 1.05 * largest
    for quantile in (0.25, 0.5, 0.75):
        assert np.quantile(deviations, quantile) / largest == pytest.approx(quantile, abs=0.1)


def test_the_blur_grows_with_the_size_of_the_image() -> None:
    """An image of 256 pixels is blurred by four times the pixels: the same in its scene."""

    def spread(size: int) -> Tensor:
        images = torch.zeros(80, 3, size, size, dtype=torch.uint8)
        images[:, :, :, size // 2] = 255
        line = degrade(images, 1.0, seeded())[:40, 0, size // 2].double()
        place = torch.arange(size) - size // 2
        return ((line * place**2).sum(1) / line.sum(1)).sqrt()

    small, large = spread(64), spread(256)
    assert 2 < float(large.max()) < 4 * MAX_BLUR
    wide = small > 0.4  # a narrower one falls between the pixels of the small image
    assert wide.sum() > 5
    torch.testing.assert_close(large[wide] / 4, small[wide], rtol=0.15, atol=0)


def test_the_generator_alone_decides() -> None:
    images = random_images(16)
    torch.manual_seed(0)
    first = degrade(images, 1.0, seeded(1))
    torch.manual_seed(1)
    assert torch.equal(first, degrade(images, 1.0, seeded(1)))
    assert not torch.equal(first, degrade(images, 1.0, seeded(2)))
