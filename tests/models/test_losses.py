"""The losses against their equations, closed forms, exact distributions, finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.spatial.distance import jensenshannon
from scipy.stats import multivariate_normal, norm
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from shapeshd.models.losses import (
    adversarial,
    discriminator_advantage,
    elbo,
    equation_2,
    equation_3,
    equation_4,
    equation_5,
    equation_6,
    equation_7,
    equation_8,
    kl_to_standard_normal,
    norm_error,
    path_lengths,
    r1_penalty,
)
from tests.support.differentiable import random

DISCRIMINATOR_LOSSES = [equation_2, equation_4, equation_5, equation_7]


# Logistic losses


@pytest.mark.parametrize("equation", DISCRIMINATOR_LOSSES)
def test_discriminator_losses_as_they_are_printed(equation: Callable[..., Tensor]) -> None:
    real, fake = random(7, scale=3), random(5, seed=1, scale=3)
    printed = (-torch.log(torch.sigmoid(real))).mean() + (
        -torch.log(1 - torch.sigmoid(fake))
    ).mean()
    torch.testing.assert_close(equation(real, fake), printed)
    nothing = torch.zeros(3)
    assert equation(nothing, nothing).item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("function", [adversarial, equation_8])
def test_adversarial_losses_as_they_are_printed(function: Callable[[Tensor], Tensor]) -> None:
    fake = random(5, scale=3)
    torch.testing.assert_close(function(fake), -torch.log(torch.sigmoid(fake)).mean())
    assert function(torch.zeros(3)).item() == pytest.approx(math.log(2))


def test_equations_3_and_6_as_they_are_printed() -> None:
    """On linear networks, with the expectation over pairs (x, eps) of everything at once."""
    x, eps, other = random(8, 4), random(8, 2, seed=1), random(8, 3, seed=2)
    into, out = random(6, 3, seed=3), random(3, 4, seed=4)
    z = torch.cat((x, eps), 1) @ into
    c, c1, c2 = (random(3, seed=5 + i) for i in range(3))
    lambda_c, lambda_1, lambda_2 = 0.3, 0.7, 1.9
    third = sixth = 0.0
    for i in range(8):
        length = math.sqrt(sum(float((z[i] @ out)[j] - x[i, j]) ** 2 for j in range(4)))
        third += length - lambda_c * math.log(torch.sigmoid(z[i] @ c))
        sixth += length - lambda_1 * math.log(torch.sigmoid((z[i] - other[i]) @ c1))
        sixth -= lambda_2 * math.log(torch.sigmoid(z[i] @ c2))
    error = norm_error(x, z @ out)
    made_third = equation_3(error, adversarial(z @ c), lambda_c)
    made_sixth = equation_6(
        error, adversarial((z - other) @ c1), lambda_1, adversarial(z @ c2), lambda_2
    )
    assert made_third.item() == pytest.approx(third / 8, rel=1e-12)
    assert made_sixth.item() == pytest.approx(sixth / 8, rel=1e-12)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_extreme_logits_have_finite_losses_and_gradients(logit: float) -> None:
    real, fake = torch.full((2,), logit).requires_grad_(), torch.full((2,), -logit).requires_grad_()
    loss = equation_2(real, fake)
    loss.backward()
    # Right without a doubt, or wrong without a doubt.
    assert loss.item() == (0 if logit > 0 else 2e4)
    for made, slope in ((real.grad, -0.5), (fake.grad, 0.5)):
        assert made is not None
        assert made.tolist() == [0.0 if logit > 0 else slope] * 2
    assert adversarial(torch.tensor([logit])).item() == (0 if logit > 0 else 1e4)
    assert discriminator_advantage(real, fake).isfinite()


def test_logistic_losses_have_second_derivatives() -> None:
    real, fake = random(3).requires_grad_(), random(4, seed=1).requires_grad_()
    assert gradcheck(equation_2, (real, fake))
    assert gradgradcheck(equation_2, (real, fake))


weights = st.lists(st.integers(1, 20), min_size=4, max_size=4)


@given(weights, weights, st.lists(st.floats(-3, 3), min_size=4, max_size=4))
@settings(max_examples=60)
def test_advantage_is_at_most_the_divergence_in_bits(
    p: list[int], q: list[int], change: list[float]
) -> None:
    """Samples of four kinds in exact proportion; the best logit of a kind is ln p - ln q."""
    distribution_p, distribution_q = np.array(p) / sum(p), np.array(q) / sum(q)
    best = torch.from_numpy(np.log(distribution_p / distribution_q))
    bits = jensenshannon(distribution_p, distribution_q, base=2) ** 2
    counts = torch.tensor(p), torch.tensor(q)

    def advantage(logits: Tensor) -> float:
        real, fake = (logits.repeat_interleave(count) for count in counts)
        return discriminator_advantage(real, fake).item()

    assert advantage(best) == pytest.approx(bits, abs=1e-9)
    assert advantage(best + torch.tensor(change)) <= bits + 1e-12


def test_advantage_at_its_ends() -> None:
    sure = torch.full((3,), 50.0)
    assert discriminator_advantage(sure, -sure).item() == pytest.approx(1)
    assert discriminator_advantage(0 * sure, 0 * sure).item() == pytest.approx(0, abs=1e-7)
    assert discriminator_advantage(-sure, sure).item() < -50


# The evidence lower bound


@given(
    st.lists(
        st.tuples(st.floats(-20, 20), st.floats(-15, 5)),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=60)
def test_divergence_is_that_of_torch(values: list[tuple[float, float]]) -> None:
    mean, log_variance = torch.tensor(values, dtype=torch.float64).T[:, None]
    q = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    made = kl_to_standard_normal(mean, log_variance)
    assert made.shape == (1,)
    torch.testing.assert_close(made, kl_divergence(q, prior))


def test_divergence_of_each_sample() -> None:
    mean, log_variance = random(5, 3), random(5, 3, seed=1)
    alone = [kl_to_standard_normal(mean[i : i + 1], log_variance[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), torch.cat(alone))
    assert kl_to_standard_normal(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]
    inputs = mean.requires_grad_(), log_variance.requires_grad_()
    assert gradcheck(kl_to_standard_normal, inputs)
    assert gradgradcheck(kl_to_standard_normal, inputs)


def test_divergence_of_a_mixture_is_smaller() -> None:
    """Why noise in the encoder leaves a bound: two components, the integral by quadrature."""
    means, deviations = np.array([-0.9, 1.3]), np.array([0.6, 0.4])

    def density(z: float) -> float:
        return float(norm.pdf(z, means, deviations).mean())

    def integrand(z: float) -> float:
        return density(z) * (math.log(density(z)) - float(norm.logpdf(z)))

    mixture, error = quad(integrand, -8, 8, limit=200)
    assert error < 1e-6
    log_variance = torch.from_numpy(2 * np.log(deviations))[:, None]
    mean_of_both = kl_to_standard_normal(torch.from_numpy(means)[:, None], log_variance).mean()
    assert mixture > 0.1
    # At most ln 2 is lost: what the noise can tell of the code.
    assert mixture + 1e-6 < mean_of_both.item() < mixture + math.log(2)


class LinearModel:
    """x = A z + sigma e, with orthogonal columns of A: the posterior has independent parts."""

    sigma = 0.6

    def __init__(self) -> None:
        basis, _ = torch.linalg.qr(random(5, 3))
        self.matrix = basis * torch.tensor([2.0, 0.5, 1.1], dtype=torch.float64)
        self.x = random(5, seed=1, scale=2)
        precision = torch.eye(3) + self.matrix.T @ self.matrix / self.sigma**2
        self.covariance = torch.linalg.inv(precision)
        self.mean = self.covariance @ self.matrix.T @ self.x / self.sigma**2

    def log_evidence(self) -> float:
        covariance = self.matrix @ self.matrix.T + self.sigma**2 * torch.eye(5, dtype=torch.float64)
        return float(multivariate_normal(np.zeros(5), covariance.numpy()).logpdf(self.x.numpy()))

    def bound(self, mean: Tensor, log_variance: Tensor) -> float:
        """The bound, its mean over z exact: six points that have the moments of q."""
        spread = torch.diag((log_variance / 2).exp()) * math.sqrt(3)
        z = mean + torch.cat((spread, -spread))
        many = [tensor.expand(6, -1) for tensor in (self.x, mean, log_variance)]
        terms = elbo(many[0], z @ self.matrix.T, many[1], many[2], self.sigma)
        constant = 5 / 2 * math.log(2 * math.pi * self.sigma**2)
        return -float(terms.reconstruction) - float(terms.divergence) - constant


def test_elbo_is_the_evidence_at_the_posterior() -> None:
    model = LinearModel()
    off = model.covariance - torch.diag(model.covariance.diag())
    assert off.abs().max() < 1e-12
    bound = model.bound(model.mean, model.covariance.diag().log())
    assert bound == pytest.approx(model.log_evidence(), abs=1e-10)


@given(
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    st.lists(st.floats(-6, 3), min_size=3, max_size=3),
)
@settings(max_examples=40)
def test_elbo_lacks_the_divergence_from_the_posterior(
    mean: list[float], log_variance: list[float]
) -> None:
    model = LinearModel()
    chosen = torch.tensor([mean, log_variance], dtype=torch.float64)
    q = MultivariateNormal(chosen[0], torch.diag(chosen[1].exp()))
    gap = kl_divergence(q, MultivariateNormal(model.mean, model.covariance)).item()
    bound = model.bound(chosen[0], chosen[1])
    assert bound <= model.log_evidence()
    assert bound == pytest.approx(model.log_evidence() - gap, rel=1e-9, abs=1e-9)


def test_elbo_of_images_sums_over_all_components() -> None:
    x, made = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
    mean, log_variance = random(2, 6), random(2, 6, seed=1)
    likelihood = Normal(made, 0.2).log_prob(x) + math.log(0.2 * math.sqrt(2 * math.pi))
    terms = elbo(x, made, mean, log_variance, 0.2)
    torch.testing.assert_close(terms.reconstruction, -likelihood.sum() / 2)
    torch.testing.assert_close(terms.divergence, kl_to_standard_normal(mean, log_variance).mean())


# The norm


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 5, 2)])
def test_norm_of_each_sample(shape: tuple[int, ...]) -> None:
    x, made = random(*shape), random(*shape, seed=1)
    lengths = np.linalg.norm((x - made).numpy().reshape(4, -1), axis=1)
    assert norm_error(x, made).item() == pytest.approx(lengths.mean(), rel=1e-12)
    assert gradcheck(norm_error, (x.requires_grad_(), made.requires_grad_()))


def test_norm_of_nothing_has_the_gradient_zero() -> None:
    """One sample is met exactly, the other is (3, 4) away."""
    x = torch.zeros(2, 2)
    made = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    error = norm_error(x, made)
    error.backward()
    assert error.item() == 2.5
    assert made.grad is not None
    torch.testing.assert_close(made.grad, torch.tensor([[0.0, 0.0], [0.3, 0.4]]))


# Formats of numbers and of memory


def test_short_formats_are_computed_in_single_precision() -> None:
    """Against float64 on the same rounded numbers: bfloat16 itself would err by 4e-3."""
    x, made = random(64, 12), random(64, 12, seed=1)
    mean, log_variance = random(64, 6, seed=2), random(64, 6, seed=3)
    short = [tensor.bfloat16() for tensor in (x, made, mean, log_variance)]
    exact = [tensor.double() for tensor in short]

    def losses(x: Tensor, made: Tensor, mean: Tensor, log_variance: Tensor) -> list[Tensor]:
        found = [*elbo(x, made, mean, log_variance, 0.5), norm_error(x, made)]
        return [*found, equation_2(x[:, 0], made[:, 0]), discriminator_advantage(x[:, 0], x[:, 1])]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses(*short)
    for one, wanted in zip(found, losses(*exact), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), wanted, rtol=1e-5, atol=1e-5)


def test_penalties_of_short_formats_are_single_precision() -> None:
    slope = torch.tensor([1.0, 2.0, 2.0], dtype=torch.bfloat16)
    x = torch.ones(100, 3, dtype=torch.bfloat16, requires_grad=True)
    penalty = r1_penalty(x @ slope, x)
    lengths = path_lengths(x @ slope.diag(), x, torch.ones(100, 3))
    assert penalty.dtype == lengths.dtype == torch.float32
    assert penalty.item() == 9
    torch.testing.assert_close(lengths, torch.full((100,), 3.0))


def test_channels_last_changes_nothing() -> None:
    x, made, noise = (random(2, 3, 4, 4, seed=seed) for seed in range(3))
    layer, w = nn.Linear(5, 48).double(), random(2, 5)

    def losses(memory: torch.memory_format) -> list[Tensor]:
        one, two, y = (tensor.contiguous(memory_format=memory) for tensor in (x, made, noise))
        style = w.clone().requires_grad_()
        images = layer(style).view(2, 3, 4, 4).contiguous(memory_format=memory)
        one.requires_grad_()
        penalty = r1_penalty((one.square() * two).sum((1, 2, 3)), one)
        return [norm_error(one, two), penalty, *path_lengths(images, style, y)]

    plain, last = losses(torch.contiguous_format), losses(torch.channels_last)
    for one, other in zip(plain, last, strict=True):
        torch.testing.assert_close(one, other)
