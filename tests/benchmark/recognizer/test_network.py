"""The network: what it is told of colours is right, and its form."""

from __future__ import annotations

import colorsys
import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from shapeshd.benchmark.recognizer.network import (
    NetworkConfig,
    RecognitionNetwork,
    hue_vectors,
    relative_hues,
)
from shapeshd.errors import UsageError
from shapeshd.factors import uniform_factors
from shapeshd.raytracer.tracer import trace_images

TINY = {"width": 8, "blocks": (1, 1, 1), "keypoints": 4, "hidden": 16}


def encoded(linear: np.ndarray) -> np.ndarray:
    """Return the sRGB values of linear light: the standard's own two branches."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def decoded(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def lit_pixels(hues: np.ndarray, saturations: np.ndarray, lights: np.ndarray) -> Tensor:
    """Return pixels (1, 3, 1, n) of surfaces whose HSV colour (value 1) a light scales."""
    colours = [colorsys.hsv_to_rgb(h, s, 1.0) for h, s in zip(hues, saturations, strict=True)]
    linear = np.array([[decoded(value) for value in colour] for colour in colours])
    return torch.from_numpy(encoded(linear * lights[:, None]).T[None, :, None, :])


def vectors_of(hues: np.ndarray, saturations: np.ndarray) -> np.ndarray:
    angles = 2 * math.pi * hues
    return saturations * np.stack((np.cos(angles), np.sin(angles)))


@pytest.mark.parametrize("saturated", [True, False])
def test_a_hue_is_seen_through_any_light(saturated: bool) -> None:
    """Against colorsys and the sRGB standard: 20,000 colours under random lights."""
    random = np.random.default_rng(1)
    hues = random.random(20_000)
    saturations = np.ones(20_000) if saturated else random.random(20_000)
    lights = np.exp(random.uniform(np.log(0.001), 0, 20_000))
    found = hue_vectors(lit_pixels(hues, saturations, lights))[0, :, 0].numpy()
    np.testing.assert_allclose(found, vectors_of(hues, saturations), atol=2e-6)


def test_the_hexagon_s_corners_and_seams() -> None:
    hues = np.arange(24) / 24
    ones = np.ones(24)
    found = hue_vectors(lit_pixels(hues, ones, 0.3 * ones))[0, :, 0].numpy()
    np.testing.assert_allclose(found, vectors_of(hues, ones), atol=1e-6)


def test_single_precision_and_eight_bits_are_good_enough() -> None:
    """A bin of a hue is 30 degrees; a pixel of 8 bits in good light is within two."""
    random = np.random.default_rng(2)
    hues, ones = random.random(5000), np.ones(5000)
    pixels = lit_pixels(hues, ones, random.uniform(0.1, 1, 5000))
    levels = (pixels * 255).round() / 255
    found = hue_vectors(levels.float())[0, :, 0].double().numpy()
    turns = np.arctan2(found[1], found[0]) / (2 * np.pi) - hues
    assert np.abs((turns + 0.5) % 1 - 0.5).max() * 360 < 2
    np.testing.assert_allclose(np.hypot(*found), 1, atol=0.05)


def test_grey_has_no_hue() -> None:
    greys = (torch.arange(256) / 255).expand(1, 3, 1, 256)
    assert torch.equal(hue_vectors(greys), torch.zeros(1, 2, 1, 256))


def test_gradients_are_finite_everywhere() -> None:
    levels = torch.tensor([0.0, 1e-8, 1 / 255, 0.04045, 0.5, 1.0], dtype=torch.float32)
    colours = torch.cartesian_prod(levels, levels, levels)
    pixels = colours.T[None, :, None, :].contiguous().requires_grad_()
    found = hue_vectors(pixels)
    assert found.isfinite().all()
    found.square().sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()


def test_relative_hues_turn_a_surface_s_own_hue_to_zero() -> None:
    random = np.random.default_rng(3)
    angles, saturations = random.uniform(0, 2 * np.pi, 40), random.random(40)
    own = random.uniform(0, 2 * np.pi, (1, 3))
    vectors = torch.tensor(saturations * np.stack((np.cos(angles), np.sin(angles))))
    hues = 0.4 * torch.tensor(np.stack((np.cos(own), np.sin(own)), 2))  # the length is no matter
    found = relative_hues(vectors.view(1, 2, 5, 8), hues)
    assert found.shape == (1, 6, 5, 8)
    turned = angles[None] - own[0][:, None]  # (3, 40)
    expected = np.concatenate((np.cos(turned), np.sin(turned))) * saturations
    np.testing.assert_allclose(found.view(6, 40), expected, atol=1e-12)


def test_the_configuration_round_trips_through_json() -> None:
    for config in (NetworkConfig(), NetworkConfig(256, 24, (2, 1, 3), 20, 64, 8)):
        values = json.loads(json.dumps(config.to_json()))
        again = NetworkConfig.from_json(values)
        assert again == config
        assert isinstance(again.blocks, tuple)
        assert hash(again) == hash(config)


@pytest.mark.parametrize("size", [1, 32, 63, 65, 100])
def test_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match="multiple of 64"):
        NetworkConfig(size=size)


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_fields_that_do_not_fit_are_refused_by_name(change: str) -> None:
    values = NetworkConfig().to_json()
    if change == "missing":
        del values["stem"]
    else:
        values["stems"] = values.pop("stem")
    with pytest.raises(UsageError, match="'stem'") as caught:
        NetworkConfig.from_json(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", "64"), ("size", None), ("width", 0), ("width", 2.5), ("blocks", [1, 2]),
     ("blocks", 3), ("blocks", [1, -1, 1]), ("keypoints", 0), ("hidden", "many"), ("stem", -1)],
)  # fmt: skip
def test_values_that_are_no_networks_are_refused_by_name(name: str, value: object) -> None:
    """As a card that somebody has edited can hold them."""
    with pytest.raises(UsageError, match=name) as caught:
        NetworkConfig.from_json({**NetworkConfig().to_json(), name: value})
    assert "\n" not in str(caught.value)


def images_of(count: int, size: int) -> Tensor:
    return trace_images(uniform_factors(1, 0, count), size)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_shapes_of_a_reading(size: int) -> None:
    network = RecognitionNetwork(NetworkConfig(size=size, **TINY)).eval()
    with torch.inference_mode():
        for count in (1, 3):
            reading = network(images_of(count, size))
            assert [tuple(part.shape) for part in reading] == [
                (count, 3, 2), (count,), (count,), (count, 4)
            ]  # fmt: skip
            assert all(part.dtype == torch.float32 and part.isfinite().all() for part in reading)
            assert (reading.hues.norm(dim=2) <= 1 + 1e-5).all()  # an average of such vectors
        assert len(network(torch.zeros(0, 3, size, size, dtype=torch.uint8)).scale) == 0


def test_uint8_and_float_are_read_alike() -> None:
    network = RecognitionNetwork(NetworkConfig(**TINY)).eval()
    images = images_of(2, 64)
    with torch.inference_mode():
        for a, b in zip(network(images), network(images.float() / 255), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("size", [64, 256])
def test_the_neighbours_in_a_batch_do_not_matter(size: int) -> None:
    torch.manual_seed(0)
    network = RecognitionNetwork(NetworkConfig(size=size, **TINY)).eval()
    images = images_of(6, size)
    images[3] = 0
    images[4] = torch.randint(0, 256, images[4].shape, dtype=torch.uint8)
    with torch.inference_mode():
        alone = [network(images[index : index + 1]) for index in range(6)]
        for order in (torch.arange(6), torch.tensor([5, 3, 0, 4, 1, 2])):
            together = network(images[order])
            for place, index in enumerate(order.tolist()):
                for a, b in zip(alone[index], together, strict=True):
                    torch.testing.assert_close(a[0], b[place], atol=2e-5, rtol=1e-4)


def test_every_weight_learns_once_the_zeroed_layers_have_moved() -> None:
    torch.manual_seed(0)
    network = RecognitionNetwork(NetworkConfig(size=128, **TINY))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("second.weight"):
                torch.nn.init.normal_(weight, std=0.05)
    reading = network(images_of(8, 128))
    torch.stack([(part * torch.randn_like(part)).sum() for part in reading]).sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 0, name
