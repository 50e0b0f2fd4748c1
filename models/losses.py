"""The losses of the reference models: small pure functions, named after their equations.

Discriminators return logits; the C, C1, C2 and D of the equations are their sigmoids. With
-ln sigmoid(t) = softplus(-t) and -ln(1 - sigmoid(t)) = softplus(t), no logit is too large for a
finite loss. What an equation has as an expectation is the mean over a batch, so that the mean
over processes with equal parts of a batch is the loss of the whole.

What comes in a shorter format, as under autocast, is taken to float32 first; float64 stays.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .networks.layers import full_precision

Number = TypeVar("Number", float, Tensor)


class Elbo(NamedTuple):
    """The two terms of the negative evidence lower bound, in nats, means over samples.

    Attributes:
        reconstruction: ||x - G(z)||^2 / (2 sigma^2).
        divergence: of the code's distribution from the prior.
    """

    reconstruction: Tensor
    divergence: Tensor


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence KL(N(mean, diag(exp(log_variance))) || N(0, I)).

    Args:
        mean: (n, d).
        log_variance: (n, d).

    Returns:
        (n,), nats; 0 where the distribution is the prior.
    """
    mean, log_variance = full_precision(mean), full_precision(log_variance)
    return (mean.square() + log_variance.expm1() - log_variance).sum(1) / 2


def elbo(
    x: Tensor, reconstruction: Tensor, mean: Tensor, log_variance: Tensor, sigma: float
) -> Elbo:
    """Return the terms of the negative evidence lower bound (Kingma & Welling 2014), phase 1.

    The likelihood is p(x | z) = N(G(z), sigma^2 I). One constant is left out: with d components
    in a sample, ln p(x) is on average at least -reconstruction - divergence
    - d/2 ln(2 pi sigma^2).

    The encoder also takes noise eps, and q(z | x) = E_eps q(z | x, eps) is a mixture whose
    divergence has no closed form. The mean of KL(q(z | x, eps) || p(z)), which stands here, is
    at least the mixture's, since the divergence is convex in q: what is left is still a lower
    bound of the likelihood, only a looser one.

    Args:
        x: data (n, ...).
        reconstruction: G(z) for one z of each sample's q(z | x, eps), as `x`.
        mean: of that q, (n, latent_dim).
        log_variance: of that q, (n, latent_dim).
        sigma: standard deviation of the likelihood, in units of `x`; above 0.

    Returns:
        Two scalars.
    """
    difference = full_precision(x) - full_precision(reconstruction)
    error = _square_sums(difference).mean() / (2 * sigma**2)
    return Elbo(error, kl_to_standard_normal(mean, log_variance).mean())


def norm_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Return the mean over samples of ||G(E(x, eps)) - x||, the norm of equations 3 and 6.

    The norm is L2 over all components of a sample, and not squared. Where a sample is met
    exactly its gradient is taken to be 0.

    Args:
        x: data (n, ...).
        reconstruction: as `x`.

    Returns:
        A scalar, in units of `x`.
    """
    return _norms(full_precision(reconstruction) - full_precision(x)).mean()


def adversarial(fake_logits: Tensor) -> Tensor:
    """Return E[-ln C(fake)]: what the network that makes the fake ones lowers.

    This is the second term of equation 3 and the second and third of equation 6, less their
    weights, and all of equation 8.

    Args:
        fake_logits: (n,), of codes, of differences of codes, or of generated samples.

    Returns:
        A scalar, nats; ln 2 where the discriminator cannot decide.
    """
    return F.softplus(-full_precision(fake_logits)).mean()


def equation_2(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the logistic loss E[-ln C(real)] + E[-ln(1 - C(fake))] of the plain AAE's C.

    Equations 4, 5 and 7 are the same function of other logits.

    Args:
        real_logits: (n,), of z ~ N(0, I).
        fake_logits: (m,), of codes E(x, eps).

    Returns:
        A scalar, nats; 2 ln 2 for a discriminator that cannot decide.
    """
    return adversarial(real_logits) + adversarial(-fake_logits)


def equation_3(norm: Tensor, loss_c: Tensor, lambda_c: float | Tensor) -> Tensor:
    """Return the loss of the plain AAE's E and G.

    Args:
        norm: `norm_error`.
        loss_c: `adversarial` of C's logits of codes.
        lambda_c: its weight.
    """
    return norm + lambda_c * loss_c


def equation_4(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the loss of C1, which sees differences of two codes; see `equation_2`.

    Args:
        real_logits: (n,), of z ~ N(0, 2I).
        fake_logits: (m,), of E(x, eps) - E(x', eps').
    """
    return equation_2(real_logits, fake_logits)


def equation_5(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the loss of C2, which is affine and sees codes; see `equation_2`.

    Args:
        real_logits: (n,), of z ~ N(0, I).
        fake_logits: (m,), of codes E(x, eps).
    """
    return equation_2(real_logits, fake_logits)


def equation_6(
    norm: Tensor,
    loss_c1: Tensor,
    lambda_1: float | Tensor,
    loss_c2: Tensor,
    lambda_2: float | Tensor,
) -> Tensor:
    """Return the loss of E and G against C1 and C2.

    Args:
        norm: `norm_error`.
        loss_c1: `adversarial` of C1's logits of differences of codes.
        lambda_1: its weight.
        loss_c2: `adversarial` of C2's logits of codes.
        lambda_2: its weight.
    """
    return norm + lambda_1 * loss_c1 + lambda_2 * loss_c2


def equation_7(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the loss of the GAN's D; see `equation_2`.

    Args:
        real_logits: (n,), of data beside their reconstructions, or of data alone in a plain GAN.
        fake_logits: (m,), of G'(z) beside G(z), or of G'(z) alone.
    """
    return equation_2(real_logits, fake_logits)


def equation_8(fake_logits: Tensor) -> Tensor:
    """Return the loss of the GAN's generator G'; see `adversarial`.

    Args:
        fake_logits: (n,), of G'(z) beside G(z), or of G'(z) alone.
    """
    return adversarial(fake_logits)


def discriminator_advantage(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return by how much a discriminator beats chance: (2 ln 2 - its loss) / (2 ln 2).

    The loss is that of `equation_2`, which is 2 ln 2 for who always says one half. No
    discriminator's expected loss is below 2 ln 2 - 2 JS, where JS is the Jensen-Shannon
    divergence between the two distributions in nats (Goodfellow et al. 2014, theorem 1). The
    advantage is thus a lower bound of that divergence in bits, and equal to it for the best
    discriminator; an unbiased estimate of the bound if the samples are not those that the
    discriminator was trained on.

    Args:
        real_logits: (n,).
        fake_logits: (m,).

    Returns:
        A scalar, at most 1: no error at all. 0 is chance; a discriminator that is sure and
        wrong has less, without limit.
    """
    return 1 - equation_2(real_logits, fake_logits) / (2 * math.log(2))


def r1_penalty(logits: Tensor, inputs: Tensor) -> Tensor:
    """Return the mean over samples of ||gradient of D's logit by its input||^2.

    On real samples this is the penalty R1 (Mescheder et al. 2018, arXiv:1801.04406), there with
    the weight gamma / 2; on codes of images, the same zero-centred penalty on the fake side
    (their R2). The weight, and the number of steps that a lazy penalty stands for, are the
    caller's.

    Args:
        logits: (n,), of `inputs`.
        inputs: (n, ...), all that the discriminator sees: of pairs, both images. Must have
            required a gradient before the logits were computed.

    Returns:
        A scalar that can be differentiated by the discriminator's weights.
    """
    (gradients,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return _square_sums(full_precision(gradients)).mean()


def path_lengths(images: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    """Return ||J^T y|| of each sample, where J is the Jacobian of its image by its w.

    This is the length in equation 4 of Karras et al. 2020 (arXiv:1912.04958). There y is
    N(0, I); here it is that over the square root of the number of pixels, so that the mean square
    of the length, ||J||^2 (Frobenius) over the number of pixels, does not grow with the image.
    Data without pixels, of shape (n, d), count as one.

    Args:
        images: (n, c, h, w) or (n, d), the generator's samples.
        w: (n, style), or (n, layers, style) with a style for each layer: J is then that of each
            layer's style, and the squares of their lengths are averaged. The images must have
            been computed from this tensor.
        noise: as `images`, standard normal numbers.

    Returns:
        (n,), that can be differentiated by the generator's weights; the gradient of a length of
        0 is taken to be 0.
    """
    y = noise / math.sqrt(images.shape[2:].numel())
    (gradients,) = torch.autograd.grad(images, w, y, create_graph=True)
    return _norms(full_precision(gradients)) / math.sqrt(w.shape[1:-1].numel())


def path_length_penalty(lengths: Tensor, average: float | Tensor) -> Tensor:
    """Return the mean of (length - average)^2; see `path_lengths`.

    Args:
        lengths: (n,).
        average: the moving average of lengths, as `moved_average` gives it: a constant, with
            these lengths already in it.
    """
    return (lengths - average).square().mean()


@torch.no_grad()
def moved_average(average: Number, mean_length: Number, decay: float) -> Number:
    """Return the moving average of path lengths after a step.

    Begun at 0, it is m (1 - (1 - decay)^k) after k steps that all had the mean m.

    Args:
        average: so far.
        mean_length: of the step's lengths, over all processes.
        decay: share of the average that the step replaces, 0 .. 1.

    Returns:
        A number if given numbers; a scalar without a gradient if given scalars.
    """
    return average + decay * (mean_length - average)


def flow_point(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return (1 - t) noise + t x: where the straight path from noise to data is at the time t.

    It is equation 1 of Liu et al. 2023 (arXiv:2209.03003), and the conditional flow of optimal
    transport of Lipman et al. 2023 (arXiv:2210.02747), equation 22, with sigma_min = 0.

    Args:
        x: (n, ...), data.
        noise: as `x`, standard normal numbers.
        t: (n,), in [0, 1].
    """
    t = t.view(-1, *(1 for _ in _axes(x)))
    return torch.lerp(noise, x, t.expand_as(x))


def flow_matching(velocity: Tensor, x: Tensor, noise: Tensor) -> Tensor:
    """Return the mean over components of (v - (x - noise))^2.

    The conditional flow matching loss (Lipman et al. 2023, equation 23, sigma_min = 0), divided by
    the number of components. The v that makes it least is E[x - noise | point, t], whose
    differential equation has the paths' own distribution at each time (their theorem 1).

    Args:
        velocity: (n, ...), v at `flow_point`.
        x: data, of the same shape.
        noise: likewise.
    """
    return (full_precision(velocity) - (x - noise)).square().mean()


def _axes(x: Tensor) -> tuple[int, ...]:
    """Return all axes but the first; to flatten them would copy images in channels-last."""
    return tuple(range(1, x.ndim))


def _square_sums(x: Tensor) -> Tensor:
    return x.square().sum(_axes(x))


def _norms(x: Tensor) -> Tensor:
    # The gradient of this norm at 0 is 0; that of a square root of the sum would be NaN.
    norms: Tensor = torch.linalg.vector_norm(x, dim=_axes(x))
    return norms
