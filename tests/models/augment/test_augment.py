"""Augmentation against SciPy, colorsys, closed forms and the distributions of its paper."""

from __future__ import annotations

import colorsys
import dataclasses
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation
from torch import Tensor

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.models.augment import image_transforms
from shapeshd.models.augment.adaptive_probability import AdaptiveProbability
from shapeshd.models.augment.augment import (
    GROUPS,
    PAPER,
    SAFE,
    STRENGTHS,
    TRANSFORMS,
    AugmentConfig,
    Parameters,
    apply,
    augment,
    draw,
)

MANY = 4000
LEAST_P_VALUE = 1e-4  # of tests whose random numbers are fixed: they pass or fail for ever


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Images of independent pixels, in which any misplaced pixel shows."""
    return 2 * torch.rand(shape, generator=generator(seed), dtype=torch.float64) - 1


def only(name: str, count: int, size: tuple[int, int] = (32, 32), p: float = 1.0) -> Parameters:
    return draw(count, size, p, AugmentConfig((name,)), generator(7))


def waves(height: int, width: int, seed: int = 0) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A smooth function of the plane that is its own reflection at the edges of an image.

    cos(pi k x / (w - 1)) is even about the first and the last pixel's centre, so that the image
    that it makes, continued by reflection, is the function itself, wherever one looks.
    """
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(4, 4)) / (1 + np.arange(4)[:, None] + np.arange(4))

    def function(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        across = [np.cos(math.pi * k * x / (width - 1)) for k in range(4)]
        down = [np.cos(math.pi * k * y / (height - 1)) for k in range(4)]
        return sum(weights[j, i] * down[j] * across[i] for i in range(4) for j in range(4))

    return function


# Names and configuration


def test_an_unknown_transform_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(UsageError, match=r"no transform 'flop'; there are flip, .* cutout$"):
        AugmentConfig(("flip", "flop"))


@pytest.mark.parametrize(
    ("rates", "strengths", "message"),
    [
        ({"hue": 0.5}, {}, "a rate of 'hue', which is not among"),
        ({}, {"hue": 0.5}, "a strength of 'hue', which is not among"),
        ({}, {"flip": 0.5}, "flip has no strength; these have: translate, "),
        ({"scale": 1.5}, {}, "the rate of scale must be above 0 and at most 1, not 1.5"),
        ({"scale": 0}, {}, "must be above 0"),
        ({}, {"cutout": 1.1}, "the strength of cutout must be above 0 and at most 1, not 1.1"),
        ({}, {"scale": -1}, "the strength of scale must be above 0, not -1"),
        ({}, {"scale": math.inf}, "the strength of scale must be above 0, not inf"),
        ({}, {"scale": math.nan}, "the strength of scale must be above 0, not nan"),
    ],
)
def test_impossible_configurations_are_refused(
    rates: dict[str, float], strengths: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        AugmentConfig(("flip", "scale", "cutout"), rates, strengths)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_an_impossible_probability_is_refused(p: float) -> None:
    with pytest.raises(UsageError, match="must be in"):
        draw(2, (8, 8), p, AugmentConfig(), generator())


def test_filter_refuses_images_smaller_than_it() -> None:
    with pytest.raises(UsageError, match="more than 21 pixels, not 21"):
        only("filter", 2, (32, 21))
    assert apply(noise(2, 3, 22, 22), only("filter", 2, (22, 22))).shape == (2, 3, 22, 22)


def test_the_default_set_is_the_safe_one() -> None:
    assert AugmentConfig().transforms == SAFE
    assert set(PAPER) == set(TRANSFORMS) - set(GROUPS["corruption"])
    assert STRENGTHS.keys() == set(TRANSFORMS) - {"flip", "rotate90", "luma_flip"}


# Nothing is done where nothing is drawn


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_at_zero_images_stay(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = noise(3, 6, 24, 26).to(dtype).to(memory_format=layout)
    y = augment(x, 0.0, AugmentConfig(TRANSFORMS), generator())
    assert y.dtype == dtype and y.is_contiguous(memory_format=layout)
    assert torch.equal(x, y)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_sample_stays_unless_its_transform_is_active(name: str) -> None:
    x = noise(40, 3, 24, 24).float()
    parameters = only(name, 40, (24, 24), p=0.5)
    y = apply(x, parameters)
    active = parameters.active[:, TRANSFORMS.index(name)]
    assert 0 < active.sum() < 40
    assert torch.equal(y[~active], x[~active])
    changed = (y != x).flatten(1).any(1)
    if name in ("flip", "rotate90", "luma_flip"):  # coins, one side of which does nothing
        assert 0 < (changed & active).sum() < active.sum()
    else:  # a whole number of pixels may be none, but seldom is
        assert changed[active].float().mean() > (0.8 if name == "translate" else 0.999)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_formats_stay_and_short_ones_lose_no_more_than_their_digits(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = noise(4, 6, 24, 26).to(dtype).to(memory_format=layout)
    parameters = draw(4, (24, 26), 1.0, AugmentConfig(TRANSFORMS), generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = apply(x, parameters)
    assert y.dtype == dtype and y.is_contiguous(memory_format=layout)
    step = 2**-8 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(y.double(), apply(x.double(), parameters), rtol=step, atol=1e-4)


# Pixel blitting copies pixels


def test_flip() -> None:
    x = noise(32, 3, 9, 12)
    parameters = only("flip", 32, (9, 12))
    flipped = parameters.lookup[:, 0, 0] < 0
    assert stats.binomtest(int(flipped.sum()), 32).pvalue > LEAST_P_VALUE
    torch.testing.assert_close(
        apply(x, parameters), torch.where(flipped[:, None, None, None], torch.flip(x, [3]), x)
    )


def test_rotate90() -> None:
    x = noise(64, 3, 11, 11)
    y = apply(x, only("rotate90", 64, (11, 11)))
    turns = []
    for before, after in zip(x, y, strict=True):
        errors = [(torch.rot90(before, k, (1, 2)) - after).abs().max() for k in range(4)]
        assert min(errors) < 1e-9
        turns.append(int(np.argmin(errors)))
    assert stats.chisquare(np.bincount(turns, minlength=4)).pvalue > LEAST_P_VALUE


def test_translate() -> None:
    height, width = 40, 24
    x = noise(64, 3, height, width)
    parameters = only("translate", 64, (height, width))
    y, most = apply(x, parameters), [0, 0]
    for before, after, lookup in zip(x.numpy(), y.numpy(), parameters.lookup, strict=True):
        right, down = (-lookup[:2, 2]).int().tolist()
        most = [max(most[0], abs(right)), max(most[1], abs(down))]
        wide = np.pad(before, ((0, 0), (10, 10), (10, 10)), mode="reflect")
        moved = np.roll(wide, (down, right), (1, 2))[:, 10:-10, 10:-10]
        np.testing.assert_allclose(after, moved, atol=1e-9)
    assert most == [3, 5]  # an eighth of either size


# Geometry


@pytest.mark.parametrize("name", ["scale", "rotate", "anisotropic", "shift", "all"])
def test_geometry_is_the_function_at_the_moved_places(name: str) -> None:
    """Against the closed form; the rest is what bilinear steps of half a pixel cost."""
    height, width = 40, 48
    function = waves(height, width)
    rows, columns = np.mgrid[:height, :width]
    x = torch.from_numpy(function(columns, rows)).expand(12, 3, -1, -1)
    names = GROUPS["pixel"] + GROUPS["geometric"] if name == "all" else (name,)
    parameters = draw(12, (height, width), 1.0, AugmentConfig(names), generator())
    y = apply(x, parameters)
    assert (y - x).flatten(1).abs().amax(1).median() > 0.2  # they have moved
    for image, lookup in zip(y, parameters.lookup.numpy(), strict=True):
        places = lookup @ np.stack((columns, rows, np.ones_like(rows))).reshape(3, -1)
        wanted = function(places[0], places[1]).reshape(height, width)
        np.testing.assert_allclose(image, np.broadcast_to(wanted, image.shape), atol=0.01)


def test_geometry_is_scipys() -> None:
    """On a blurred image of noise, by cubic splines, edges included."""
    size = 64
    image = ndimage.gaussian_filter(noise(size, size).numpy(), 2, mode="mirror")
    image /= image.std()
    config = AugmentConfig(GROUPS["geometric"])
    parameters = draw(8, (size, size), 1.0, config, generator(3))
    y = apply(torch.from_numpy(image).expand(8, 3, -1, -1), parameters)
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])  # SciPy's first coordinate is the row
    for made, lookup in zip(y[:, 0].numpy(), parameters.lookup.numpy(), strict=True):
        wanted = ndimage.affine_transform(image, swap @ lookup @ swap, order=3, mode="mirror")
        assert np.abs(made - wanted).mean() < 0.02 < 0.5 < np.abs(made - image).mean()


def test_the_filters_reconstruct_and_are_those_of_the_9_7_wavelets() -> None:
    """The pair by its definition: the factors of 1 + 4 y + 10 y^2 + 20 y^3, y = sin(w / 2)^2."""
    roots = np.roots([20, 10, 4, 1])
    real, pair = roots[np.isreal(roots)].real, roots[~np.isreal(roots)]
    y, zero = np.array([-0.25, 0.5, -0.25]), np.array([0.25, 0.5, 0.25])  # sin^2, cos^2
    lines = []
    for some in (real, pair):
        line = np.convolve(zero, zero)
        for root in some:
            factor = y.astype(complex)
            factor[1] -= root
            line = np.convolve(line, factor)
        lines.append((line / line.sum()).real)
    for ours, wanted in zip(
        (image_transforms._ENLARGE, image_transforms._REDUCE), lines, strict=True
    ):
        whole = np.array([*ours[:0:-1], *ours])
        np.testing.assert_allclose(whole / whole.sum(), wanted, atol=1e-12)
    both = np.convolve(2 * lines[0], lines[1])[1::2]  # at even distances from the middle
    np.testing.assert_allclose(both, np.eye(1, 7, 3)[0], atol=1e-12)


def test_detail_that_no_longer_fits_is_filtered_away() -> None:
    """A checkerboard shrunk to 0.6 would alias to a coarse pattern; the mean is left."""
    board = torch.from_numpy((-1.0) ** np.indices((64, 64)).sum(0)).expand(1, 3, -1, -1)
    parameters = only("scale", 1, (64, 64))
    shrunk = torch.tensor([[[1 / 0.6, 0, 31.5 * (1 - 1 / 0.6)], [0, 1 / 0.6, -21.0], [0, 0, 1]]])
    y = apply(board, dataclasses.replace(parameters, lookup=shrunk.double()))
    assert y.abs().max() < 0.1


def drawn(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """What is drawn at p = 1: matrices of images about their middle, and of colours; the size."""
    size = 1024
    parameters = only(name, MANY, (size, size))
    to_middle = np.array([[1, 0, (size - 1) / 2], [0, 1, (size - 1) / 2], [0, 0, 1]])
    forward = np.linalg.inv(to_middle) @ np.linalg.inv(parameters.lookup.numpy()) @ to_middle
    return forward, parameters.colour.numpy(), size


def angles(turns: np.ndarray) -> np.ndarray:
    """The angles of rotations about the grey axis, half turns."""
    return Rotation.from_matrix(turns).as_rotvec() @ np.ones(3) / math.sqrt(3) / math.pi


# By name: what is read off the matrices (n, ...) of images g and of colours c, and its
# distribution.
DISTRIBUTIONS: dict[str, tuple[Callable[..., np.ndarray], str, tuple[float, float]]] = {
    "translate": (lambda g, c, size: g[:, :2, 2] / size, "uniform", (-0.125, 0.25)),
    "scale": (lambda g, c, size: np.log2(g[:, [0, 1], [0, 1]]), "norm", (0, 0.2)),
    # Two uniform angles make one.
    "rotate": (lambda g, c, size: np.arctan2(g[:, 1, 0], g[:, 0, 0]) / math.pi, "uniform", (-1, 2)),
    "anisotropic": (lambda g, c, size: np.log2(g[:, [0, 1], [0, 1]]), "norm", (0, 0.2)),
    "shift": (lambda g, c, size: g[:, :2, 2] / size, "norm", (0, 0.125)),
    "brightness": (lambda g, c, size: c[:, :3, 3], "norm", (0, 0.2)),
    "contrast": (lambda g, c, size: np.log2(c[:, [0, 1, 2], [0, 1, 2]]), "norm", (0, 0.5)),
    "hue": (lambda g, c, size: angles(c[:, :3, :3]), "uniform", (-1, 2)),
    "saturation": (lambda g, c, size: np.log2(c[:, 0, 0] - c[:, 0, 1]), "norm", (0, 1)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_strengths_have_the_papers_distributions(name: str) -> None:
    read, distribution, arguments = DISTRIBUTIONS[name]
    values = read(*drawn(name)).reshape(MANY, -1)
    for column in values.T:
        assert stats.kstest(column, distribution, args=arguments).pvalue > LEAST_P_VALUE
    if name in ("translate", "shift"):
        assert abs(np.corrcoef(values.T)[0, 1]) < 0.06
    elif values.shape[1] > 1:  # one number makes all
        sign = -1 if name == "anisotropic" else 1
        np.testing.assert_allclose(values[:, 0], sign * values[:, 1], atol=1e-9)


def test_half_the_strength_is_half_as_far() -> None:
    for name in ("scale", "brightness", "translate"):
        whole, half = (
            draw(50, (512, 512), 1.0, AugmentConfig((name,), strengths=values), generator())
            for values in ({}, {name: STRENGTHS[name] / 2})
        )
        if name == "scale":
            first, second = (-torch.log2(q.lookup[:, 0, 0]) for q in (whole, half))
        elif name == "brightness":
            first, second = whole.colour[:, 0, 3], half.colour[:, 0, 3]
        else:
            first, second = (q.lookup[:, 0, 2] for q in (whole, half))
        slack = 0.75 if name == "translate" else 1e-9  # pixels are whole
        torch.testing.assert_close(first / 2, second, rtol=0, atol=slack)


# Colour


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


@settings(max_examples=30, deadline=None)
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


# Corruption


def test_octaves_sum_to_the_identity_and_each_passes_its_own() -> None:
    octaves = image_transforms._OCTAVES.numpy()
    assert octaves.shape == (4, 43)
    np.testing.assert_allclose(octaves.sum(0), np.eye(1, 43, 21)[0], atol=1e-15)
    # By the definition: sym2 is db2, whose low-pass is ((1 +- sqrt 3), (3 +- sqrt 3)) / 4 sqrt 2.
    root = math.sqrt(3)
    low = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * math.sqrt(2))
    frequencies = np.linspace(0, math.pi, 50)
    z = np.exp(1j * frequencies)

    def passed(line: np.ndarray, power: int) -> np.ndarray:
        return np.abs(np.polyval(line, z**power)) ** 2 / 2

    high = low * [1, -1, 1, -1]
    wanted = [
        passed(low, 1) * passed(low, 2) * passed(low, 4),
        passed(low, 1) * passed(low, 2) * passed(high, 4),
        passed(low, 1) * passed(high, 2),
        passed(high, 1),
    ]
    response = [
        (line * np.cos(np.arange(-21, 22) * w)).sum() for line in octaves for w in frequencies
    ]
    np.testing.assert_allclose(np.reshape(response, (4, 50)), wanted, atol=1e-12)


def test_filter_is_scipys_along_both_axes() -> None:
    x = noise(5, 3, 30, 26)
    parameters = only("filter", 5, (30, 26))
    y = apply(x, parameters)
    for before, after, gains in zip(x.numpy(), y.numpy(), parameters.gains.numpy(), strict=True):
        taps = gains @ image_transforms._OCTAVES.numpy()
        wanted = ndimage.convolve1d(before, taps, axis=1, mode="mirror")
        wanted = ndimage.convolve1d(wanted, taps, axis=2, mode="mirror")
        np.testing.assert_allclose(after, wanted, atol=1e-10)


def test_gains_have_the_papers_distribution() -> None:
    """At a small p a single octave is changed, by 2^N(0, 1) before the power is kept."""
    gains = draw(20 * MANY, (32, 32), 0.02, AugmentConfig(("filter",)), generator()).gains.numpy()
    power = np.array([10, 1, 1, 1]) / 13
    np.testing.assert_allclose((gains**2 @ power)[(gains == 1).all(1)], 1)
    for i in range(4):
        others = [j for j in range(4) if j != i]
        single = (gains[:, others[0]] == gains[:, others[1]]) & (gains[:, i] != gains[:, others[0]])
        single &= gains[:, others[1]] == gains[:, others[2]]
        np.testing.assert_allclose(gains[single] ** 2 @ power, 1)
        ratio = np.log2(gains[single, i] / gains[single, others[0]])
        assert len(ratio) > 1000 and stats.kstest(ratio, "norm").pvalue > LEAST_P_VALUE


def test_noise_is_normal_of_a_half_normal_strength() -> None:
    x = noise(400, 3, 24, 24)
    added = (apply(x, only("noise", 400, (24, 24))) - x).flatten(1).numpy()
    sigma = added.std(1)
    assert stats.kstest(sigma, "halfnorm", args=(0, 0.1)).pvalue > LEAST_P_VALUE
    scaled = (added / sigma[:, None]).ravel()[:5000]
    assert stats.kstest(scaled, "norm").pvalue > LEAST_P_VALUE
    assert abs(np.corrcoef(added[0], added[1])[0, 1]) < 0.1


def test_cutout_is_a_rectangle_of_half_the_size() -> None:
    x = noise(300, 3, 32, 48)
    parameters = only("cutout", 300, (32, 48))
    y, centres = apply(x, parameters), []
    for before, after, cut in zip(x, y, parameters.cut.tolist(), strict=True):
        left, right, top, bottom = cut
        assert abs(right - left - 24) <= 1 and abs(bottom - top - 16) <= 1
        centres.append(((left + right) / 96, (top + bottom) / 64))
        wanted = before.clone()
        wanted[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 0
        assert torch.equal(after, wanted)
    for axis in (0, 1):
        values = np.array(centres)[:, axis]
        assert stats.kstest(values, "uniform").pvalue > LEAST_P_VALUE


# Pairs, parts, chances


@pytest.mark.parametrize("name", TRANSFORMS)
def test_both_images_of_a_pair_get_the_same(name: str) -> None:
    x = noise(12, 6, 24, 24)
    parameters = only(name, 12, (24, 24))
    y = apply(x, parameters)
    torch.testing.assert_close(y, torch.cat([apply(part, parameters) for part in x.chunk(2, 1)], 1))
    assert not torch.equal(x, y)


def test_two_halves_of_the_batch_are_the_whole() -> None:
    x = noise(10, 6, 24, 24).float()
    config = AugmentConfig(TRANSFORMS)
    whole = augment(x, 0.6, config, generator(5))
    halves = [
        augment(x[part], 0.6, config, generator(5), batch=10, part=part)
        for part in (slice(0, 5), slice(5, 10))
    ]
    torch.testing.assert_close(torch.cat(halves), whole, rtol=0, atol=1e-5)
    parameters = draw(10, (24, 24), 0.6, config, generator(5))
    assert len(parameters[3:7]) == 4
    for item in dataclasses.fields(Parameters):
        assert torch.equal(getattr(parameters[3:7], item.name), getattr(parameters, item.name)[3:7])


def test_the_generator_decides_and_p_takes_no_more_of_it() -> None:
    config = AugmentConfig(TRANSFORMS)
    states = []
    for p in (0.0, 0.5, torch.tensor(0.5), 1.0):
        rng = generator(3)
        draw(4, (24, 24), p, config, rng)
        states.append(rng.get_state())
    assert all(torch.equal(state, states[0]) for state in states)
    x = noise(4, 3, 24, 24)
    first, again, other = (augment(x, 0.5, config, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_each_transform_is_as_often_active_as_p_says() -> None:
    p, rates = 0.3, {"scale": 0.5, "hue": 0.1}
    active = draw(MANY, (24, 24), p, AugmentConfig(TRANSFORMS, rates), generator()).active
    for index, name in enumerate(TRANSFORMS):
        chance = p * rates.get(name, 1)
        if name == "filter":  # each of four octaves
            chance = 1 - (1 - chance) ** 4
        found = int(active[:, index].sum())
        assert stats.binomtest(found, MANY, chance).pvalue > LEAST_P_VALUE, name
    # They are independent: as many have two as chance would have it.
    for first, second in ((0, 2), (7, 8), (3, 14)):
        chance = p * p * (0.5 if 3 in (first, second) else 1)
        both = int((active[:, first] & active[:, second]).sum())
        assert stats.binomtest(both, MANY, chance).pvalue > LEAST_P_VALUE


def test_what_is_not_configured_never_happens() -> None:
    active = draw(200, (24, 24), 1.0, AugmentConfig(("flip", "noise")), generator()).active
    wanted = torch.tensor([name in ("flip", "noise") for name in TRANSFORMS])
    assert torch.equal(active, wanted.expand(200, -1))


# Derivatives


@pytest.mark.parametrize("group", GROUPS)
def test_second_derivatives(group: str) -> None:
    names = tuple(name for name in GROUPS[group] if name != "filter")
    size = (4, 5)
    parameters = draw(2, size, 1.0, AugmentConfig(names), generator(1))
    x = noise(2, 3, *size).requires_grad_()

    def function(x: Tensor) -> Tensor:
        return apply(x, parameters).pow(3)  # so that the second derivative is not zero

    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


def test_second_derivatives_of_the_filter() -> None:
    gains = only("filter", 1).gains
    x = noise(1, 1, 22, 22).requires_grad_()

    def function(x: Tensor) -> Tensor:
        return image_transforms.amplify(x, gains).pow(3)

    assert torch.autograd.gradcheck(function, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, x, fast_mode=True)


def test_the_gradient_penalty_passes_through() -> None:
    """R1's gradient with respect to a discriminator's weight, against finite differences."""
    parameters = draw(2, (24, 24), 1.0, AugmentConfig(TRANSFORMS), generator(2))
    x = noise(2, 3, 24, 24)
    first = noise(4, 3, 3, 3, seed=1)

    def penalty(weight: Tensor) -> Tensor:
        images = x.clone().requires_grad_()
        logits = F.conv2d(apply(images, parameters), weight).tanh().sum((1, 2, 3))
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return gradient.square().sum((1, 2, 3)).mean()

    weight = first.clone().requires_grad_()
    (found,) = torch.autograd.grad(penalty(weight), weight)
    direction = noise(4, 3, 3, 3, seed=2)
    slope = (penalty(first + 1e-5 * direction) - penalty(first - 1e-5 * direction)) / 2e-5
    assert (found * direction).sum().item() == pytest.approx(slope.item(), rel=1e-6)


# The controller


def test_p_climbs_from_0_to_1_in_as_many_images_as_it_says() -> None:
    controller = AdaptiveProbability(target=0.6, interval=4, kimg=1.0)
    values = []
    for _ in range(36):
        controller.observe(32.0, 32)  # all rightly told: r_t = 1
        values.append(controller.p)
    assert values[:3] == [0, 0, 0]
    np.testing.assert_allclose(values[3::4][:7], 0.128 * np.arange(1, 8))
    assert values[31:] == [1.0] * 5
    assert controller.measured == 1.0


@pytest.mark.parametrize(("sums", "moved"), [((32, 32, 32), 1), ((8, 8, 8), -1), ((-9, 0, 9), -1)])
def test_p_moves_by_the_sign_of_the_mean(sums: tuple[float, ...], moved: int) -> None:
    controller = AdaptiveProbability(target=0.5, interval=3, kimg=10.0, p=0.5)
    for value in sums:
        logits = torch.tensor(value, requires_grad=True, dtype=torch.float32)
        controller.observe(logits, 32)
        assert not torch.as_tensor(controller.total).requires_grad  # it holds no graph
    assert controller.measured == pytest.approx(sum(sums) / 96)
    assert controller.p == pytest.approx(0.5 + moved * 96 / 10_000)
    assert controller.total == 0 and controller.count == 0


def test_p_stays_at_the_target_and_in_its_range() -> None:
    controller = AdaptiveProbability(target=0.5, interval=1, kimg=1.0, p=0.4)
    controller.observe(16, 32)
    assert controller.p == 0.4
    controller = AdaptiveProbability(interval=1, kimg=0.001)
    controller.observe(-32, 32)
    assert controller.p == 0
    controller.observe(32, 32)
    assert controller.p == 1


def test_a_controller_goes_on_where_it_was_saved() -> None:
    rng = np.random.default_rng(0)
    controllers = [AdaptiveProbability(target=0.1, kimg=2.0, p=0.3)] * 2
    controllers = [dataclasses.replace(controller) for controller in controllers]
    for step in range(19):
        total = torch.tensor(float(rng.integers(-16, 33)))
        for controller in controllers:
            controller.observe(total, 32)
        if step % 5 == 1:  # also between two moves
            text = json.dumps(controllers[1].to_json())
            controllers[1] = AdaptiveProbability.from_json(json.loads(text))
    assert controllers[0].to_json() == controllers[1].to_json()
    assert controllers[0].p != 0.3


def test_a_state_that_does_not_fit_is_refused() -> None:
    state = AdaptiveProbability().to_json()
    with pytest.raises(UsageError, match="lacks the field 'p'"):
        AdaptiveProbability.from_json({k: v for k, v in state.items() if k != "p"})
    with pytest.raises(UsageError, match="has no field 'value'"):
        AdaptiveProbability.from_json({**state, "value": 0.5})
    with pytest.raises(UsageError, match="p of the augmentation must be between 0 and 1"):
        AdaptiveProbability.from_json({**state, "p": 1.5})
    with pytest.raises(UsageError, match="interval"):
        AdaptiveProbability(interval=0)


def test_a_diverged_discriminator_is_said_and_p_stays() -> None:
    controller = AdaptiveProbability(interval=1, p=0.25)
    with pytest.raises(ShapesHDError, match="diverged"):
        controller.observe(torch.tensor(math.nan), 32)
    assert controller.p == 0.25
