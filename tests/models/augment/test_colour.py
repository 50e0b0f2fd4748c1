"""The transforms of colours, against SciPy, colorsys and closed forms."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from shapeshd.models.augment.transforms import (
    GROUPS,
    AugmentConfig,
    apply,
    draw,
)
from tests.support.augmented import angles, generator, noise, only


def pixels(x: Tensor) -> np.ndarray:
    """The colours (n, h w, 3) of images."""
    return x.flatten(2).movedim(1, 2).numpy()


@pytest.mark.parametrize("name", GROUPS["colour"])
def test_colours_are_mapped_by_the_matrix(name: str) -> None:
    x = noise(6, 3, 5, 7)
    parameters = only(name, 6)
    m = parameters.colour.numpy()
    wanted = pixels(x) @ m[:, :3, :3].transpose(0, 2, 1) + m[:, None, :3, 3]
    np.testing.assert_allclose(pixels(apply(x, parameters)), wanted, atol=1e-12)
    np.testing.assert_array_equal(m[:, 3], np.tile([0, 0, 0, 1.0], (6, 1)))


def test_each_colour_transform_does_its_own() -> None:
    x = noise(20, 3, 4, 4)
    before = pixels(x)
    grey = before.mean(2, keepdims=True)

    def after(name: str) -> np.ndarray:
        return pixels(apply(x, only(name, 20)))

    def constant(values: np.ndarray) -> bool:
        """Tell whether a sample's pixels and channels all have one value."""
        flat = values.reshape(len(values), -1)
        return bool(np.allclose(flat, flat[:, :1], rtol=1e-9, atol=1e-9))

    assert constant(after("brightness") - before)
    assert constant(after("contrast") / before)
    saturated = after("saturation")
    np.testing.assert_allclose(saturated.mean(2, keepdims=True), grey, atol=1e-12)
    assert constant((saturated - grey) / (before - grey))
    turned = after("hue")
    np.testing.assert_allclose(turned.mean(2, keepdims=True), grey, atol=1e-12)
    length = np.linalg.norm(turned - grey, axis=2)
    np.testing.assert_allclose(length, np.linalg.norm(before - grey, axis=2), atol=1e-12)
    flipped = after("luma_flip")
    sign = np.sign(flipped.mean(2) / grey[..., 0]).mean(1)[:, None, None]
    assert set(sign.ravel()) == {-1.0, 1.0}
    np.testing.assert_allclose(flipped, before - grey + sign * grey, atol=1e-12)


def test_hue_is_scipys_rotation_about_grey() -> None:
    parameters = only("hue", 50)
    m = parameters.colour[:, :3, :3].numpy()
    about_grey = angles(m)[:, None] * math.pi * np.ones(3) / math.sqrt(3)
    np.testing.assert_allclose(m, Rotation.from_rotvec(about_grey).as_matrix(), atol=1e-12)


def test_colours_follow_the_papers_order() -> None:
    """All of them at once are the single ones, in turn."""
    together = draw(30, (32, 32), 1.0, AugmentConfig(GROUPS["colour"]), generator(7)).colour
    product = torch.eye(4, dtype=torch.float64)
    for name in ("brightness", "contrast", "luma_flip", "hue", "saturation"):
        product = only(name, 30).colour @ product
    torch.testing.assert_close(together, product)


def test_moves_follow_the_papers_order() -> None:
    config = AugmentConfig(("flip", "rotate90", "scale", "shift"))
    together = draw(30, (32, 48), 1.0, config, generator(7)).lookup
    product = torch.eye(3, dtype=torch.float64)
    for name in ("flip", "rotate90", "scale", "shift"):
        product = product @ only(name, 30, (32, 48)).lookup  # inverses, so from the left
    torch.testing.assert_close(together, product)


def hue_of(colour: np.ndarray) -> float:
    """HSV's hue, turns; colours below 0 are first made lighter, which leaves it."""
    return colorsys.rgb_to_hsv(*(colour - colour.min() + 0.5))[0]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_the_safe_set_keeps_every_hue_place_and_order(seed: int) -> None:
    x = noise(4, 3, 6, 6, seed=seed)
    x[:, :, 1] = x[:, :, 0] * 0.7 - 0.3  # a wall of the same hues in shade: v x + v - 1 in [-1, 1]
    parameters = draw(4, (6, 6), 1.0, AugmentConfig(), generator(seed))
    y = apply(x, parameters)
    assert torch.equal(parameters.lookup, torch.eye(3).double().expand(4, 3, 3))
    assert not parameters.cut.any() and parameters.noise is None and (parameters.gains == 1).all()
    for before, after in zip(pixels(x).reshape(-1, 3), pixels(y).reshape(-1, 3), strict=True):
        turn = abs(hue_of(before) - hue_of(after))
        assert min(turn, 1 - turn) < 1e-6
    brighter = x[:, :, 0].mean(1) > x[:, :, 1].mean(1)
    assert torch.equal(y[:, :, 0].mean(1) > y[:, :, 1].mean(1), brighter)


def test_a_set_that_turns_hues_is_noticed() -> None:
    """The property above can fail: it does with "hue"."""
    x = noise(4, 3, 6, 6)
    y = apply(x, only("hue", 4, (6, 6)))
    turns = [
        abs(hue_of(a) - hue_of(b))
        for a, b in zip(pixels(x).reshape(-1, 3), pixels(y).reshape(-1, 3), strict=True)
    ]
    assert max(turns) > 0.1
