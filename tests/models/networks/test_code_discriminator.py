"""The discriminators of codes: definitions, second derivatives, and what each can tell apart."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapeshd.models.networks.blocks import Perceptron
from shapeshd.models.networks.code_discriminator import CodeDiscriminator, LinearCodeDiscriminator

KINDS = (lambda: CodeDiscriminator(5, 12, 3), lambda: LinearCodeDiscriminator(5))


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_c1_is_a_perceptron() -> None:
    torch.manual_seed(0)
    network, z = CodeDiscriminator(5, 12, 3), normal(7, 5)
    assert isinstance(network.body, Perceptron)
    logits = network(z)
    assert logits.shape == (7,)
    assert torch.equal(logits, network.body(z)[:, 0])
    assert sum(p.numel() for p in network.parameters()) == 6 * 12 + 2 * 13 * 12 + 13


def test_c1_begins_near_chance() -> None:
    torch.manual_seed(0)
    logits = CodeDiscriminator(64, 512, 4)(math.sqrt(2) * normal(2000, 64))
    assert logits.square().mean().sqrt() < 0.5
    assert logits.std() > 0.01


def test_c2_is_affine_and_begins_at_zero() -> None:
    network, z = LinearCodeDiscriminator(5), normal(7, 5)
    assert torch.equal(network(z), torch.zeros(7))
    weight, bias = normal(5, seed=2), 0.7
    network.affine.weight.data = weight[None]
    network.affine.bias.data.fill_(bias)
    torch.testing.assert_close(network(z), z @ weight + bias)
    torch.testing.assert_close(network(z) + network(-z), torch.full((7,), 2 * bias))


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = kind().double()
    names = [name for name, _ in network.named_parameters()]

    def function(z: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), (z,))

    own = [parameter.detach().clone().requires_grad_() for parameter in network.parameters()]
    z = normal(3, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(function, (z, *own))
    assert torch.autograd.gradgradcheck(function, (z, *own))


def test_gradient_of_c1_is_smooth() -> None:
    """Its penalty has a second derivative by the codes that is not zero, as a ReLU's would be."""
    torch.manual_seed(0)
    z = normal(4, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(CodeDiscriminator(5, 12, 3)(z).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), z)
    assert (second.abs().amax(1) > 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_stay_fine_under_autocast(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network, z = kind(), normal(6, 5)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, short = network(z), network(z.bfloat16())
    assert torch.equal(logits, network(z))
    assert torch.equal(short, network(z.bfloat16().float()))


@pytest.mark.parametrize("kind", KINDS)
def test_one_graph(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network, z = kind(), normal(6, 5)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z), network(z))


def trained(network: nn.Module, codes: torch.distributions.Distribution, rate: float) -> float:
    """Train against N(0, I) with the logistic loss; return the mean loss of the last steps."""
    torch.manual_seed(1)
    adam, losses = torch.optim.Adam(network.parameters(), lr=rate), []
    for _ in range(400):
        z, made = torch.randn(256, 2), codes.sample((256, 2))
        loss = F.softplus(-network(z)).mean() + F.softplus(network(made)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return sum(losses[-100:]) / 100


CHANCE = 2 * math.log(2)


def test_c1_finds_a_shape_that_c2_cannot() -> None:
    """Uniform codes of the prior's mean and variance: a plane tells them from it no better."""
    uniform = torch.distributions.Uniform(-math.sqrt(3), math.sqrt(3))
    assert trained(LinearCodeDiscriminator(2), uniform, 3e-3) == pytest.approx(CHANCE, abs=0.01)
    torch.manual_seed(0)
    assert trained(CodeDiscriminator(2, 32, 3), uniform, 3e-3) < CHANCE - 0.1


def test_c2_finds_a_shift_and_its_optimum_is_known() -> None:
    """N(0, I) against N(m, I): the log-ratio is affine, -m.z + |m|^2 / 2; C2 must find it."""
    network = LinearCodeDiscriminator(2)
    trained(network, torch.distributions.Normal(1.0, 1.0), 2e-2)
    torch.testing.assert_close(network.affine.weight[0], torch.full((2,), -1.0), rtol=0, atol=0.15)
    assert network.affine.bias.item() == pytest.approx(1.0, abs=0.15)
