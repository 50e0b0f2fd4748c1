"""The encoder: trunk and head against their definitions, bounds, precision, second derivatives."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from shapeshd.errors import UsageError
from shapeshd.models import Generator, GeneratorConfig
from shapeshd.models.networks.blocks import Perceptron
from shapeshd.models.networks.encoder import (
    LARGEST_LOG_VARIANCE,
    Encoder,
    EncoderConfig,
    Head,
    Trunk,
    build_encoder,
)
from shapeshd.support.schema import validated

SMALL = EncoderConfig(
    size=16,
    channel_base=64,
    channel_max=6,
    feature_dim=9,
    noise_dim=4,
    latent_dim=5,
    head_width=12,
    head_layers=3,
)


def small(seed: int = 0, **changes: Any) -> Encoder:
    torch.manual_seed(seed)
    return build_encoder(replace(SMALL, **changes))


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trunk_of(encoder: Encoder) -> Trunk:
    assert isinstance(encoder.trunk, Trunk)
    return encoder.trunk


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * 2**0.5


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128, 256])
def test_shapes_of_all_sizes(size: int) -> None:
    encoder = small(size=size, channel_base=512, channel_max=4)
    x, noise = normal(3, 3, size, size), normal(3, 4, seed=2)
    features = encoder.trunk(x)
    assert features.shape == (3, 9)
    mean, log_variance = encoder.head(features, noise)
    assert mean.shape == log_variance.shape == (3, 5)
    together = encoder(x, noise)
    assert torch.equal(together[0], mean) and torch.equal(together[1], log_variance)


def test_default_codes_fit_the_default_generator() -> None:
    with torch.device("meta"):
        encoder = build_encoder(EncoderConfig())
        generator = Generator(GeneratorConfig())
    assert encoder.head.latent_dim == generator.latent_dim


def test_number_of_parameters() -> None:
    """By hand, for the defaults at 256 pixels; the trunk is the discriminator's without groups."""
    with torch.device("meta"):
        encoder = build_encoder(EncoderConfig(feature_dim=300, noise_dim=20, latent_dim=64))
    widths = [128, 256, 512, 512, 512, 512, 512]  # of 256, 128, .. 4 pixels
    pairs = [(widths[i], widths[i + 1]) for i in range(6)]
    blocks = sum(9 * a * a + a + 10 * a * b + b for a, b in pairs)
    trunk = 4 * 128 + blocks + 9 * 512 * 512 + 512 + 16 * 512 * 300 + 300
    head = 321 * 512 + 3 * 513 * 512 + 513 * 128
    assert sum(p.numel() for p in encoder.trunk.parameters()) == trunk
    assert sum(p.numel() for p in encoder.head.parameters()) == head


def test_trunk_by_its_parts() -> None:
    encoder, x = small(), normal(4, 3, 16, 16)
    trunk = trunk_of(encoder)
    nn.init.normal_(trunk.condense.dense.bias)
    y = trunk.pyramid(x)
    assert y.shape == (4, 6, 4, 4)
    convolution, dense = trunk.condense.convolution, trunk.condense.dense
    y = lrelu(F.conv2d(y, convolution.weight / 54**0.5, convolution.bias, padding=1))
    weight = dense.weight.view(9, 6, 4, 4) / 96**0.5
    wanted = lrelu(torch.einsum("ocij,ncij->no", weight, y) + dense.bias)
    torch.testing.assert_close(trunk(x), wanted, rtol=1e-4, atol=1e-5)


def test_trunk_sees_each_sample_by_itself() -> None:
    trunk, x = small().trunk, normal(5, 3, 16, 16)
    alone = torch.cat([trunk(x[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(trunk(x), alone, rtol=1e-4, atol=1e-5)
    state = torch.get_rng_state()
    assert torch.equal(trunk(x), trunk(x))  # nothing in it is drawn
    assert torch.equal(state, torch.get_rng_state())


def test_perceptron_by_its_definition() -> None:
    torch.manual_seed(0)
    network, x = Perceptron(4, 3, 7, 3).double(), normal(6, 4).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    first, one, two, last = [m for m in network.modules() if isinstance(m, nn.Linear)]
    h = x @ first.weight.T + first.bias
    for layer in (one, two):
        h = h + (h / (1 + (-h).exp())) @ layer.weight.T + layer.bias
    wanted = (h / (1 + (-h).exp())) @ last.weight.T + last.bias
    torch.testing.assert_close(network(x), wanted)
    assert len(Perceptron(4, 3, 7, 1).hidden) == 0


@pytest.mark.parametrize("layers", [1, 4, 12])
def test_perceptron_starts_with_bounded_outputs(layers: int) -> None:
    """Weights of variance 1 / fan in; outputs near zero; inputs still seen at any depth."""
    torch.manual_seed(0)
    network = Perceptron(300, 200, 256, layers)
    assert network.first.weight.std().item() == pytest.approx(300**-0.5, rel=0.03)
    for layer in network.hidden:
        assert isinstance(layer, nn.Linear)
        assert layer.weight.std().item() == pytest.approx(256**-0.5, rel=0.03)
    assert network.last.weight.std().item() == pytest.approx(0.1 * 256**-0.5, rel=0.03)
    y = network(normal(500, 300))
    assert 0.03 < y.square().mean().sqrt() < 0.1 * 1.4**layers
    # Much of that is spread between samples: the outputs depend on the inputs.
    assert y.var(0).mean() > 0.3 * y.square().mean()


def test_head_is_a_perceptron_of_features_and_noise() -> None:
    head, features, noise = small().head, normal(6, 9), normal(6, 4, seed=2)
    out = head.body(torch.cat((features, noise), 1))
    mean, log_variance = head(features, noise)
    torch.testing.assert_close(mean, out[:, :5])
    torch.testing.assert_close(log_variance, 20 * torch.tanh(out[:, 5:] / 20))


def test_head_of_embeddings() -> None:
    """The factor-space tier: the trunk hands 12 numbers on."""
    torch.manual_seed(0)
    encoder = Encoder(nn.Identity(), Head(12, 6, 8, 16, 2))
    x, noise = normal(5, 12), normal(5, 6, seed=2)
    assert encoder.trunk(x) is x
    mean, log_variance = encoder(x, noise)
    assert mean.shape == log_variance.shape == (5, 8)


def test_codes_begin_near_the_prior() -> None:
    torch.manual_seed(0)
    for features in (12, 512):
        head = Head(features, 64, 64, 512, 4)
        mean, log_variance = head(normal(1000, features), normal(1000, 64, seed=2))
        assert mean.square().mean().sqrt() < 0.4
        assert mean.abs().max() < 2
        assert log_variance.mean().item() == pytest.approx(-1, abs=0.1)
        assert log_variance.max() < 1


def test_mean_depends_on_features_and_on_noise() -> None:
    head, features, noise = small().head, normal(6, 9), normal(6, 4, seed=2)
    mean, log_variance = head(features, noise)
    for changed in (head(features + 1, noise), head(features, noise + 1)):
        assert (changed[0] - mean).abs().max() > 1e-3
        assert (changed[1] - log_variance).abs().max() > 1e-3


@given(st.floats(-1e30, 1e30))
def test_log_variance_is_bounded_and_smooth(raw: float) -> None:
    head = Head(1, 1, 1, 1, 1)
    nn.init.zeros_(head.body.last.weight)
    nn.init.constant_(head.body.last.bias, raw)
    _, log_variance = head(torch.zeros(1, 1), torch.zeros(1, 1))
    value = log_variance.item()
    assert abs(value) <= LARGEST_LOG_VARIANCE
    assert value == pytest.approx(20 * math.tanh(raw / 20), rel=1e-5, abs=1e-30)
    if abs(raw) <= 3:
        assert value == pytest.approx(raw, rel=0.01, abs=1e-30)
    # Codes and divergences are finite, in bf16's and in float16's range of the deviation too.
    assert log_variance.exp().isfinite().all()
    assert (log_variance / 2).exp().half().isfinite().all()


@pytest.mark.parametrize("deviation", [0.0, 0.05, 2.0])
def test_deviation_is_added_to_the_variance(deviation: float) -> None:
    head, features, noise = small().head.double(), normal(6, 9).double(), normal(6, 4).double()
    nn.init.normal_(head.body.last.weight, std=3)  # variances of all sizes
    mean, log_variance = head(features, noise)
    head.deviation.fill_(deviation)
    assert "deviation" in head.state_dict()
    wider = head(features, noise)
    assert torch.equal(wider[0], mean)
    torch.testing.assert_close(wider[1].exp(), log_variance.exp() + deviation**2)
    assert (wider[1] / 2).exp().min() >= deviation

    def function(features: Tensor) -> Tensor:
        log_variance: Tensor = head(features, noise)[1]
        return log_variance

    # Also at 0, whose logarithm is infinite.
    assert torch.autograd.gradgradcheck(function, (features.requires_grad_(),), fast_mode=True)


def test_bound_keeps_the_sign_of_the_gradient() -> None:
    raw = torch.linspace(-40, 40, 81, requires_grad=True)
    value = LARGEST_LOG_VARIANCE * torch.tanh(raw / LARGEST_LOG_VARIANCE)
    (slope,) = torch.autograd.grad(value.sum(), raw)
    assert (slope > 0.05).all()


@pytest.mark.parametrize("part", ["head", "encoder"])
def test_second_derivatives(part: str) -> None:
    encoder = small(size=8, channel_base=16, channel_max=2, feature_dim=3, head_width=4).double()
    noise = normal(2, 4, seed=2).double().requires_grad_()
    x = normal(2, 3, 8, 8).double() if part == "encoder" else normal(2, 3).double()
    network: nn.Module = encoder if part == "encoder" else encoder.head
    names = [name for name, _ in network.named_parameters()]

    def function(x: Tensor, noise: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        own = dict(zip(names, parameters, strict=True))
        mean, log_variance = torch.func.functional_call(network, own, (x, noise))
        return mean, log_variance

    own = [parameter.detach().clone().requires_grad_() for parameter in network.parameters()]
    inputs = (x.requires_grad_(), noise, *own)
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_every_parameter_learns() -> None:
    encoder = small()
    mean, log_variance = encoder(normal(4, 3, 16, 16), normal(4, 4, seed=2))
    (mean.square().sum() + log_variance.exp().sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_frozen_trunk_leaves_the_head_to_learn() -> None:
    encoder = small()
    encoder.trunk.requires_grad_(False)
    mean, _ = encoder(normal(4, 3, 16, 16), normal(4, 4, seed=2))
    mean.square().sum().backward()
    assert all(p.grad is None for p in encoder.trunk.parameters())
    assert encoder.head.body.first.weight.grad is not None


def test_channels_last_changes_only_the_rounding() -> None:
    encoder, x = small(), normal(4, 3, 16, 16)
    wanted = encoder.trunk(x)
    encoder = encoder.to(memory_format=torch.channels_last)
    last = x.to(memory_format=torch.channels_last)
    assert trunk_of(encoder).pyramid(last).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(encoder.trunk(last), wanted, rtol=1e-4, atol=1e-5)


def test_autocast_keeps_features_and_codes_fine() -> None:
    encoder, x, noise = small(channel_base=512, channel_max=32), normal(8, 3, 16, 16), normal(8, 4)
    wanted = encoder.trunk(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert trunk_of(encoder).pyramid(x).dtype == torch.bfloat16
        features = encoder.trunk(x)
        mean, log_variance = encoder.head(features, noise)
        # Features that come in a shorter format are as good as their rounded values.
        short = encoder.head(features.bfloat16(), noise)
    assert features.dtype == mean.dtype == log_variance.dtype == short[0].dtype == torch.float32
    assert (features - wanted).std() < 0.05 * wanted.std()
    exact = encoder.head(features, noise)
    assert torch.equal(mean, exact[0]) and torch.equal(log_variance, exact[1])
    assert torch.equal(short[0], encoder.head(features.bfloat16().float(), noise)[0])


def test_one_graph() -> None:
    encoder, x, noise = small(), normal(4, 3, 16, 16), normal(4, 4)
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, noise), encoder(x, noise))


def test_config_survives_json() -> None:
    assert validated(EncoderConfig, json.loads(json.dumps(SMALL.to_json())), complete=True) == SMALL


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 48}, "size .*power of two, not 48"),
        ({"feature_dim": 0}, "feature_dim must be"),
        ({"noise_dim": 0}, "noise_dim must be"),
        ({"latent_dim": "5"}, "latent_dim must be"),
        ({"head_width": True}, "head_width must be"),
        ({"head_layers": 65}, "head_layers must be"),
        ({"depth": 3}, "depth: .*no such key"),
    ],
)
def test_bad_config(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        validated(EncoderConfig, {**SMALL.to_json(), **changes}, complete=True)


@pytest.mark.parametrize(
    ("features", "noise", "message"),
    [
        ((2, 8), (2, 4), r"features must be \(2, 9\), not \(2, 8\)"),
        ((2, 9), (3, 4), r"noise must be \(2, 4\), not \(3, 4\)"),
        ((2, 9), (2, 5), r"noise must be \(2, 4\), not \(2, 5\)"),
        ((2, 9, 1), (2, 4), r"features must be \(2, 9\), not \(2, 9, 1\)"),
    ],
)
def test_bad_features_and_noise(
    features: tuple[int, ...], noise: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        small().head(torch.zeros(features), torch.zeros(noise))


@pytest.mark.parametrize("shape", [(2, 6, 16, 16), (2, 3, 32, 32), (3, 16, 16)])
def test_bad_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"images .*\(n, 3, 16, 16\)"):
        small().trunk(torch.zeros(shape))
