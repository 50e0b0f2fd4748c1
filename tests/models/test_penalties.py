"""R1 and path lengths against closed forms and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from shapeshd.models import Generator, GeneratorConfig
from shapeshd.models.losses import (
    moved_average,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)
from tests.support.differentiable import convolutional, jacobian, perceptron, random


def test_r1_of_an_affine_discriminator() -> None:
    slope, x = random(4), random(3, 4, seed=1).requires_grad_()
    penalty = r1_penalty(x @ slope + 2, x)
    assert penalty.item() == pytest.approx(slope.square().sum().item(), rel=1e-12)


def test_r1_by_finite_differences() -> None:
    network, x = perceptron(4, 1), random(5, 4, seed=1)
    wanted = jacobian(network, x).square().sum((1, 2)).mean()
    x.requires_grad_()
    torch.testing.assert_close(r1_penalty(network(x)[:, 0], x), wanted, rtol=1e-7, atol=0)


def test_r1_of_pairs_is_that_of_both_images() -> None:
    network, pairs = convolutional(6), random(3, 6, 4, 4)
    slopes = jacobian(network, pairs)[:, 0].view(3, 6, 4, 4)
    second = slopes[:, 3:].square().sum((1, 2, 3)).mean()
    pairs.requires_grad_()
    made = r1_penalty(network(pairs)[:, 0], pairs)
    torch.testing.assert_close(made, slopes.square().sum((1, 2, 3)).mean(), rtol=1e-7, atol=0)
    assert made > second > 0


def of_weights(network: nn.Module, function: Callable[[Callable[..., Tensor]], Tensor]) -> None:
    """Check the gradients by the weights of what `function` makes of the network."""
    names = [name for name, _ in network.named_parameters()]

    def by_weights(*own: Tensor) -> Tensor:
        with_them = dict(zip(names, own, strict=True))
        return function(lambda *x: torch.func.functional_call(network, with_them, x))

    own = tuple(p.detach().clone().requires_grad_() for p in network.parameters())
    assert gradcheck(by_weights, own)
    assert gradgradcheck(by_weights, own)


def test_r1_can_be_differentiated_by_the_weights() -> None:
    x = random(2, 3).requires_grad_()
    of_weights(perceptron(3, 1), lambda network: r1_penalty(network(x)[:, 0], x))


@pytest.mark.parametrize("shape", [(3, 2, 5), (7,)])
def test_path_length_of_a_linear_generator(shape: tuple[int, ...]) -> None:
    """J is the matrix; 2 x 5 pixels of 3 colours, or a vector, which counts as one pixel."""
    components, pixels = math.prod(shape), math.prod(shape[1:])
    matrix = random(components, 4)
    w, noise = random(6, 4, seed=1).requires_grad_(), random(6, *shape, seed=2)
    made = path_lengths((w @ matrix.T).view(6, *shape), w, noise)
    wanted = (noise.view(6, -1) @ matrix).norm(dim=1) / math.sqrt(pixels)
    torch.testing.assert_close(made, wanted)


def test_mean_square_path_length_is_that_of_the_jacobian() -> None:
    """By the distribution of y: ||J||^2 over the number of pixels, here 3 x 2 x 0.7^2 / 2."""
    matrix = torch.kron(torch.eye(3), torch.tensor([[0.7], [0.7]])).double()
    w, noise = torch.zeros(20_000, 3).double().requires_grad_(), random(20_000, 3, 2, 1)
    lengths = path_lengths((w @ matrix.T).view(-1, 3, 2, 1), w, noise)
    assert lengths.square().mean().item() == pytest.approx(3 * 0.7**2, rel=0.02)


def test_path_length_over_layers() -> None:
    """Each layer has its own J; the squares of their lengths are averaged, not summed."""
    matrices = random(2, 12, 4)
    w, noise = random(5, 2, 4, seed=1).requires_grad_(), random(5, 3, 2, 2, seed=2)
    images = torch.einsum("lps,nls->np", matrices, w).view(5, 3, 2, 2)
    each = [(noise.flatten(1) @ matrix / 2).norm(dim=1) for matrix in matrices]
    wanted = ((each[0] ** 2 + each[1] ** 2) / 2).sqrt()
    torch.testing.assert_close(path_lengths(images, w, noise), wanted)


@pytest.mark.parametrize("layers", [False, True])
def test_path_length_of_the_generator_by_finite_differences(layers: bool) -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(
        size=8, latent_dim=3, style_dim=4, mapping_layers=1, channel_base=32, channel_max=4
    )
    network = Generator(config).double()
    w, noise = random(2, 4, seed=1), random(2, 3, 8, 8, seed=2)
    if layers:
        w = w[:, None] + random(2, network.layers, 4, seed=3)
    slopes = jacobian(network.synthesize, w)  # (2, 192, 4 or layers * 4)
    products = torch.einsum("npw,np->nw", slopes, noise.flatten(1) / 8)
    wanted = products.norm(dim=1) / math.sqrt(network.layers if layers else 1)
    w.requires_grad_()
    made = path_lengths(network.synthesize(w), w, noise)
    torch.testing.assert_close(made, wanted, rtol=1e-6, atol=0)


def test_path_lengths_can_be_differentiated_by_the_weights() -> None:
    w, noise = random(2, 3).requires_grad_(), random(2, 4, seed=1)
    of_weights(
        perceptron(3, 4),
        lambda network: path_length_penalty(path_lengths(network(w), w, noise), 0.4),
    )


def test_a_path_of_no_length_has_a_finite_gradient() -> None:
    scale = torch.zeros((), requires_grad=True)
    w = torch.ones(2, 3, requires_grad=True)
    lengths = path_lengths(scale * w, w, torch.ones(2, 3))
    assert lengths.tolist() == [0, 0]
    path_length_penalty(lengths, 1.0).backward()
    assert scale.grad is not None
    assert scale.grad.item() == 0


def test_path_length_penalty_is_about_the_average() -> None:
    lengths = torch.tensor([1.0, 2.0, 6.0])
    assert path_length_penalty(lengths, 2.0).item() == pytest.approx((1 + 0 + 16) / 3)
    assert path_length_penalty(lengths, torch.tensor(2.0)).item() == pytest.approx(17 / 3)


@given(st.floats(0.001, 1), st.floats(0, 100), st.integers(1, 50))
@settings(max_examples=50)
def test_moving_average_in_closed_form(decay: float, mean: float, steps: int) -> None:
    number, scalar = 0.0, torch.zeros((), dtype=torch.float64)
    length = torch.tensor(mean, dtype=torch.float64, requires_grad=True)
    for _ in range(steps):
        number = moved_average(number, mean, decay)
        scalar = moved_average(scalar, length, decay)
    wanted = mean * (1 - (1 - decay) ** steps)
    assert number == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert scalar.item() == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert not scalar.requires_grad
