"""The re-render residual: against other implementations, and on images whose fault is known."""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats
from torch import Tensor

from shapeshd.benchmark.fidelity.intervals import mean_interval, median_interval, share_interval
from shapeshd.benchmark.fidelity.rerender import Renderer
from shapeshd.benchmark.fidelity.residual import (
    COLOURED,
    GREY,
    MEASURES,
    TOLERATED,
    hue_error,
    limits,
    psnr,
    residuals,
    ssim,
    summarize,
)
from shapeshd.benchmark.recognizer.degrade import blurred
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.engines.povray import render_images
from shapeshd.errors import UsageError
from shapeshd.factors import uniform_factors
from shapeshd.raytracer.tracer import trace_images

pytestmark = pytest.mark.usefixtures("one_thread")

REAL, SAMPLE = 200, 100


def noise(count: int, side: int = 24, seed: int = 0) -> Tensor:
    draws = np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return torch.from_numpy(draws)


# The pictures' distances, each against another implementation.


def test_psnr_and_ssim_are_those_of_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.image")
    images = noise(6)
    others = (images.float() + 12 * torch.randn(images.shape)).clamp(0, 255).byte()
    others[1] = images[2]
    _, everywhere = functional.structural_similarity_index_measure(
        images.float(), others.float(), data_range=255.0, return_full_image=True
    )
    inside = everywhere[:, :, 5:-5, 5:-5].mean((1, 2, 3))  # its own mean takes padded borders in
    torch.testing.assert_close(ssim(images, others), inside, atol=2e-5, rtol=0)
    ratio = functional.peak_signal_noise_ratio(
        images.float(), others.float(), data_range=255.0, reduction="none", dim=(1, 2, 3)
    )
    torch.testing.assert_close(psnr(images, others), ratio)


def test_ssim_is_that_of_the_paper_by_scipy() -> None:
    one, other = noise(1, seed=1)[0].double(), noise(1, seed=2)[0].double()
    other = (0.7 * one + 0.3 * other).floor()

    def windowed(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    found = []
    for x, y in zip(one.numpy(), other.numpy(), strict=True):
        mx, my = windowed(x), windowed(y)
        vx, vy, c = windowed(x * x) - mx**2, windowed(y * y) - my**2, windowed(x * y) - mx * my
        c1, c2 = 6.5025, 58.5225
        found.append((2 * mx * my + c1) * (2 * c + c2) / (mx**2 + my**2 + c1) / (vx + vy + c2))
    value = ssim(one.byte()[None], other.byte()[None])
    assert float(value) == pytest.approx(np.mean(found), abs=1e-5)


def test_hue_error_is_that_of_colorsys() -> None:
    images, references = noise(3, 12, 3), noise(3, 12, 4)
    images[0, :, :4] = images[0, :1, :4]  # grey: its hue is lost
    found = []
    for image, reference in zip(images.numpy(), references.numpy(), strict=True):
        errors = []
        for pixel, wanted in zip(image.reshape(3, -1).T, reference.reshape(3, -1).T, strict=True):
            if int(wanted.max()) - int(wanted.min()) < COLOURED:
                continue
            if int(pixel.max()) - int(pixel.min()) < GREY:
                errors.append(90.0)
                continue
            turn = colorsys.rgb_to_hsv(*map(float, pixel))[0]
            turn -= colorsys.rgb_to_hsv(*map(float, wanted))[0]
            errors.append(360 * abs((turn + 0.5) % 1 - 0.5))
        found.append(np.mean(errors))
    np.testing.assert_allclose(hue_error(images, references).numpy(), found, rtol=1e-4)


def test_equal_images() -> None:
    images = noise(2, 16)
    found = dict(zip(MEASURES, residuals(images, images).T, strict=True))
    assert found["rmse"].tolist() == found["hue"].tolist() == [0, 0]
    np.testing.assert_allclose(found["ssim"], 1, atol=1e-6)
    finest = 10 * math.log10(255**2 * images[0].numel())
    np.testing.assert_allclose(found["psnr"], finest, rtol=1e-6)
    one_level = images.clone()
    one_level[:, 0, 3, 3] ^= 1
    np.testing.assert_allclose(psnr(images, one_level), finest, rtol=1e-5)


def test_grey_images_have_no_hue_to_be_wrong() -> None:
    grey = torch.full((1, 3, 16, 16), 90, dtype=torch.uint8)
    assert float(hue_error(noise(1, 16), grey)) == 0


def test_many_images_are_cut_without_a_trace() -> None:
    images, others = noise(70, 80), noise(70, 80, 1)
    whole = residuals(images, others)
    assert whole.shape == (70, len(MEASURES))
    np.testing.assert_allclose(whole[66:], residuals(images[66:], others[66:]), rtol=1e-5)
    assert residuals(images[:0], others[:0]).shape == (0, len(MEASURES))


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (noise(2), noise(3), "have no re-renders"),
        (noise(2).float(), noise(2), "must be uint8"),
        (noise(2, 10), noise(2, 10), "10x10 pixels"),
        (noise(2)[:, :1], noise(2)[:, :1], "have no re-renders"),
    ],
)
def test_what_cannot_be_compared(one: Tensor, other: Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        residuals(one, other)


# The numbers that many residuals become.


def test_intervals_cover_the_truth() -> None:
    rng, hits = np.random.default_rng(0), np.zeros(3)
    runs, true = 400, 0.03
    for _ in range(runs):
        values = rng.normal(2.0, 3.0, 60)
        found = (mean_interval(values), median_interval(values))
        share = share_interval(int(rng.binomial(120, true)), 120)
        inside = [v["low"] <= 2.0 <= v["high"] for v in found]
        hits += [*inside, share["low"] <= true <= share["high"]]
    assert (hits / runs > 0.92).all()  # 0.95 -+ 3 standard errors; exact ones are wider
    exact = stats.t.interval(0.95, 59, values.mean(), stats.sem(values))
    assert (found[0]["low"], found[0]["high"]) == pytest.approx(exact)


def table(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, axis=1)


def drawn(count: int, seed: int, factor: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rmse, hue = rng.gamma(2, 0.5, count) * factor, rng.gamma(2, 0.2, count) * factor
    return table(rmse, 48 - 20 * np.log10(rmse), 1 - 0.01 * rmse, hue)


def test_a_summary_counts_what_lies_beyond_real_images() -> None:
    real, sample = drawn(2_000, 0), drawn(300, 1, 3.0)
    found = summarize(sample, real)
    for column, name in enumerate(MEASURES):
        limit, extreme = limits(real[:, column], name)
        sign = -1 if name in ("psnr", "ssim") else 1
        kept = sign * real[:, column] <= sign * limit
        assert 0.998 <= kept.mean() < 1
        assert (sign * real[:, column] <= sign * extreme).all()
        count = int((sign * sample[:, column] > sign * limit).sum())
        assert found[name]["beyond_quantile"]["count"] == count
        assert found[name]["beyond_maximum"]["count"] <= count
        assert found[name]["floor"]["quantile"] == limit
    assert not found["ok"]
    assert found["beyond"]["count"] >= found["rmse"]["beyond_quantile"]["count"] > 0
    assert found["real_beyond"]["value"] < 0.004


def test_images_like_real_ones_raise_no_alarm_however_few() -> None:
    for count in (100, 1_000):
        passed = [
            summarize(drawn(count, 2 * seed), drawn(2 * count, 2 * seed + 1))["ok"]
            for seed in range(30)
        ]
        assert passed.count(False) <= 3
    assert TOLERATED < 0.05


def test_too_few_residuals() -> None:
    with pytest.raises(UsageError, match="cannot be summarized"):
        summarize(drawn(5, 0), drawn(100, 1))


# Images through a recognizer, rendered again.


@pytest.fixture(scope="module")
def lite() -> Callable[[Tensor], np.ndarray]:
    return load_recognizer("lite")


@pytest.fixture(scope="module")
def real(lite: Callable[[Tensor], np.ndarray], one_thread: None) -> np.ndarray:
    return judged(lite, trace_images(uniform_factors(1, 0, REAL), 64))


@pytest.fixture(scope="module")
def images(one_thread: None) -> Tensor:
    return trace_images(uniform_factors(2, 0, SAMPLE), 64)


def judged(lite: Callable[[Tensor], np.ndarray], images: Tensor) -> np.ndarray:
    return residuals(images, trace_images(lite(images), 64))


def test_real_images_lie_at_the_floor(
    lite: Callable[[Tensor], np.ndarray], real: np.ndarray, images: Tensor
) -> None:
    found = summarize(judged(lite, images), real)
    assert found["ok"]
    assert found["beyond"]["value"] <= 0.02
    assert found["psnr"]["mean"]["value"] > 40
    assert found["ssim"]["mean"]["value"] > 0.99
    assert found["hue"]["mean"]["value"] < 1


def test_the_ray_tracers_residual_is_that_of_povray(
    lite: Callable[[Tensor], np.ndarray], real: np.ndarray, images: Tensor
) -> None:
    by_povray = torch.from_numpy(render_images(uniform_factors(2, 0, 24), 64)).permute(0, 3, 1, 2)
    found = judged(lite, by_povray.contiguous())
    expected = judged(lite, images[:24])
    np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=0.15)
    assert (found[:, 0] <= real[:, 0].max() + 0.2).all()


def test_both_engines_render_factors() -> None:
    factors, cpu = uniform_factors(3, 0, 5), torch.device("cpu")
    by_povray, by_tracer = Renderer("povray", 40, cpu), Renderer("torch", 40, cpu)
    wanted = torch.from_numpy(render_images(factors, 40)).permute(0, 3, 1, 2)
    assert torch.equal(by_povray(factors), wanted)
    assert torch.equal(by_tracer(factors), trace_images(factors, 40))
    assert by_povray.digest != by_tracer.digest
    with pytest.raises(UsageError, match=r"engine 'blender'.*povray, torch"):
        Renderer("blender", 40, cpu)


def blur(images: Tensor) -> Tensor:
    return (blurred(images.float(), torch.full((len(images),), 0.8)) + 0.5).byte()


def grain(images: Tensor) -> Tensor:
    torch.manual_seed(0)
    return (images.float() + 6 * torch.randn(images.shape)).round().clamp(0, 255).byte()


def jpeg(images: Tensor) -> Tensor:
    found = []
    for image in images.permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", fidelity=40)
        found.append(torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1))
    return torch.stack(found)


def swapped(images: Tensor) -> Tensor:
    """Red and blue exchanged: every hue is mirrored, so the hues stay uniform."""
    return images.flip(1)


@pytest.mark.parametrize("damage", [blur, grain, jpeg, swapped])
def test_damaged_images_are_found_bad(
    lite: Callable[[Tensor], np.ndarray],
    real: np.ndarray,
    images: Tensor,
    damage: Callable[[Tensor], Tensor],
) -> None:
    found = summarize(judged(lite, damage(images)), real)
    assert not found["ok"]
    assert found["beyond"]["low"] > 0.5
    assert found["psnr"]["mean"]["high"] < found["psnr"]["floor"]["mean"]["low"]


def test_a_few_perfect_images_are_not_called_bad(
    lite: Callable[[Tensor], np.ndarray], real: np.ndarray, images: Tensor
) -> None:
    assert summarize(judged(lite, images[:5].repeat(20, 1, 1, 1)), real)["ok"]


def test_wrong_colours_are_seen_in_the_hue(images: Tensor) -> None:
    factors = uniform_factors(2, 0, 8)
    factors[:, 0] = (factors[:, 0] + 1 / 12) % 1
    error = hue_error(trace_images(factors, 64), images[:8])
    assert (error > 2).all()  # the floor, a part of the picture, is 30 degrees off
    assert (error < 30).all()
