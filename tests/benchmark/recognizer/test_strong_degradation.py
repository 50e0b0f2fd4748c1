"""Degradation by chance, and of one strength: beside Pillow's JPEG, SciPy's blur, NumPy's rest."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from shapeshd.benchmark.recognizer import degrade as module
from shapeshd.benchmark.recognizer.degrade import (
    GAINS,
    QUALITIES,
    STRONG_NOISE,
    KnownDegradation,
    degrade,
    degrade_strongly,
    jpeg,
)
from shapeshd.errors import UsageError
from shapeshd.factors import uniform_factors
from shapeshd.raytracer.tracer import trace_images


@pytest.fixture(scope="module")
def scenes() -> Tensor:
    return trace_images(uniform_factors(15, 0, 40), 64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(monkeypatch: pytest.MonkeyPatch, **ranges: tuple[float, float] | float) -> None:
    """Let every image suffer blur, gain and noise, of these strengths, and no JPEG."""
    monkeypatch.setattr(module, "_OTHERS", 1.1)
    monkeypatch.setattr(module, "_JPEG", -1.0)
    none = {"STRONG_BLUR": (0.01, 0.01), "GAINS": (1.0, 1.0), "STRONG_NOISE": 0.0}
    for name, value in {**none, **ranges}.items():
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("quality", [50, 75, 90, 98])
@pytest.mark.parametrize("whole", [False, True])
def test_jpeg_is_what_a_saved_file_holds(scenes: Tensor, quality: int, whole: bool) -> None:
    image = scenes[3]
    file = io.BytesIO()
    pixels = np.ascontiguousarray(np.moveaxis(image.numpy(), 0, 2))
    PIL.Image.fromarray(pixels).save(
        file, "jpeg", quality=quality, subsampling=0 if whole else "4:2:0"
    )
    expected = np.moveaxis(np.array(PIL.Image.open(file)), 2, 0)
    found = jpeg(image, quality, whole_chroma=whole)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert not np.array_equal(expected, image.numpy())


def test_a_strong_blur_is_scipy_s(scenes: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, STRONG_BLUR=(0.6, 0.6))
    found = degrade_strongly(scenes[:4], seeded())
    expected = gaussian_filter(
        scenes[:4].numpy().astype(float), (0, 0, 0.6, 0.6), mode="nearest", radius=(0, 0, 1, 1)
    )
    assert np.abs(found.numpy() - expected).max() <= 0.501  # it is rounded to levels


def test_gain_multiplies_and_clips(scenes: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    for gain in (0.8, 1.2):
        only(monkeypatch, GAINS=(gain, gain))
        found = degrade_strongly(scenes[:4], seeded()).numpy()
        expected = np.clip(scenes[:4].numpy() * gain, 0, 255)
        assert np.abs(found - expected).max() <= 0.501


def test_noise_is_normal_of_every_level(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, STRONG_NOISE=STRONG_NOISE)
    grey = torch.full((300, 3, 32, 32), 128, dtype=torch.uint8)
    found = (degrade_strongly(grey, seeded()).double() - 128).flatten(1)
    deviations = (found.square().mean(1) - 1 / 12).clamp_min(0).sqrt().numpy()
    assert abs(float(found.mean())) < 0.05
    assert deviations.max() <= 1.05 * STRONG_NOISE * 255
    for quantile in (0.25, 0.5, 0.75):
        share = np.quantile(deviations, quantile) / (STRONG_NOISE * 255)
        assert share == pytest.approx(quantile, abs=0.1)


def test_operations_come_as_often_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """By counting: JPEG where it is drawn (0.4) or nothing else is (0.7^3), gain with 0.3."""
    qualities: list[int] = []
    whole: list[bool] = []

    def counted(image: Tensor, quality: int, *, whole_chroma: bool) -> Tensor:
        qualities.append(quality)
        whole.append(whole_chroma)
        return image

    monkeypatch.setattr(module, "jpeg", counted)
    flat = torch.full((4_000, 3, 2, 2), 200, dtype=torch.uint8)
    monkeypatch.setattr(module, "STRONG_NOISE", 0.0)
    found = degrade_strongly(flat, seeded())
    assert len(qualities) / len(flat) == pytest.approx(0.4 + 0.6 * 0.7**3, abs=0.03)
    assert np.mean(whole) == pytest.approx(0.25, abs=0.03)
    assert (min(qualities), max(qualities)) == QUALITIES
    changed = (found != 200).flatten(1).any(1)  # a flat image shows neither blur nor JPEG
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.03)
    values = found[changed, 0, 0, 0].double() / 200
    assert GAINS[0] - 0.003 <= values.min() < GAINS[0] + 0.02
    assert GAINS[1] - 0.02 < values.max() <= GAINS[1] + 0.003


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_first_are_degraded_and_the_rest_is_left(scenes: Tensor, share: float) -> None:
    found = degrade(scenes, share, seeded(), "strong")
    assert found.dtype == torch.float32
    count = round(len(scenes) * share)
    assert torch.equal(found[count:], scenes[count:].float() / 255)
    changed = (found != scenes.float() / 255).flatten(1).any(1)
    assert changed[:count].sum() >= 0.9 * count  # what is weak may leave an image as it was
    levels = found * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)


def test_the_generator_alone_decides(scenes: Tensor) -> None:
    torch.manual_seed(0)
    first = degrade(scenes, 1.0, seeded(1), "strong")
    torch.manual_seed(1)
    assert torch.equal(first, degrade(scenes, 1.0, seeded(1), "strong"))
    assert not torch.equal(first, degrade(scenes, 1.0, seeded(2), "strong"))


def known(text: str, images: Tensor) -> Tensor:
    degradation = KnownDegradation.parse(text)
    assert str(degradation) == text
    found = degradation(images, seeded())
    assert (found.dtype, found.shape) == (torch.uint8, images.shape)
    return found


def test_a_known_degradation_is_of_its_strength(scenes: Tensor) -> None:
    images = scenes[:6]
    values = images.numpy().astype(float)
    assert torch.equal(known("jpeg=75", images), torch.stack([jpeg(one, 75) for one in images]))
    blurred = known("blur=1.5", images).numpy() - gaussian_filter(
        values, (0, 0, 1.5, 1.5), mode="nearest"
    )
    assert np.abs(blurred).max() <= 0.51
    darker = known("brightness=0.9", images).numpy() - 0.9 * values
    assert np.abs(darker).max() <= 0.501
    grey = torch.full((40, 3, 32, 32), 128, dtype=torch.uint8)
    noise = known("noise=8", grey).double() - 128
    assert float(noise.std()) == pytest.approx((64 + 1 / 12) ** 0.5, rel=0.02)
    assert abs(float(noise.mean())) < 0.15
    for same in ("blur=0", "noise=0", "brightness=1"):
        assert torch.equal(known(same, images), images)


@pytest.mark.parametrize(
    "text",
    ["jpeg", "jpeg=", "jpeg=0", "jpeg=101", "jpeg=7.5", "noise=-1", "blur=nan", "blur=33", "hue=1"],
)
def test_a_degradation_that_there_is_none_of(text: str) -> None:
    with pytest.raises(UsageError, match=f"degrade.*{text}"):
        KnownDegradation.parse(text)
