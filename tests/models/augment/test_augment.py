"""Augmentation against SciPy, colorsys, closed forms and the distributions of its paper."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from shapeshd.errors import UsageError
from shapeshd.models.augment import operations
from shapeshd.models.augment.transforms import (
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
from tests.support.augmented import LEAST_P_VALUE, MANY, generator, noise, only

# Names and configuration


def test_an_unknown_transform_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(UsageError, match=r"'flop'; .*flip, .*cutout$"):
        AugmentConfig(("flip", "flop"))


@pytest.mark.parametrize(
    ("rates", "strengths", "message"),
    [
        ({"hue": 0.5}, {}, "rate of 'hue'"),
        ({}, {"hue": 0.5}, "strength of 'hue'"),
        ({}, {"flip": 0.5}, "flip has no strength"),
        ({"scale": 1.5}, {}, "rate of scale .*at most 1, not 1.5"),
        ({"scale": 0}, {}, "must be above 0"),
        ({}, {"cutout": 1.1}, "strength of cutout .*at most 1, not 1.1"),
        ({}, {"scale": -1}, "strength of scale .*not -1"),
        ({}, {"scale": math.inf}, "strength of scale .*not inf"),
        ({}, {"scale": math.nan}, "strength of scale .*not nan"),
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
    with pytest.raises(UsageError, match="more than 21 pixels"):
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
        return operations.amplify(x, gains).pow(3)

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
