"""The transforms that move pixels, against SciPy and the paper's distributions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from shapeshd.models.augment import operations
from shapeshd.models.augment.transforms import (
    GROUPS,
    STRENGTHS,
    AugmentConfig,
    apply,
    draw,
)
from tests.support.augmented import LEAST_P_VALUE, MANY, angles, generator, noise, only, waves


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
    for ours, wanted in zip((operations._ENLARGE, operations._REDUCE), lines, strict=True):
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
