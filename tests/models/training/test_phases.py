"""The update steps against transcriptions of the paper's equations, gradient by gradient."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from shapeshd.models.config import RunConfig
from shapeshd.models.training.aae import AAEPhase, differences
from shapeshd.models.training.distributed import Draws, Group
from shapeshd.models.training.domains.factors import FactorDomain
from shapeshd.models.training.gan import GANPhase
from shapeshd.models.training.phase import Phase
from shapeshd.models.training.run import open_domain
from shapeshd.models.training.trainer import epochs
from shapeshd.models.training.vae import VAEPhase
from tests.support.tiny_models import SPEC, tiny

CPU = torch.device("cpu")


class Recorded(Phase):
    """A phase's draws by name, and what its networks were before a step."""

    def __init__(self, phase: Phase) -> None:
        self.drawn: dict[str, Tensor] = {}
        self.before = {name: copy.deepcopy(net) for name, net in phase.networks.items()}
        self.averages = {name: copy.deepcopy(net) for name, net in phase.averages.items()}
        self.states = {
            name: {p: dict(state) for p, state in optimizer.state.items()}
            for name, optimizer in phase.optimizers.items()
        }
        normal = phase.draws.normal

        def record(step: int, what: str, batch: int, *shape: int) -> Tensor:
            self.drawn[what] = normal(step, what, batch, *shape)
            return self.drawn[what]

        phase.draws.normal = record  # type: ignore[method-assign]


def domain_of(config: RunConfig) -> Any:
    return open_domain(config, SPEC if config.domain == "images" else None, CPU, 0)


def new_phase(name: str, domain: str = "factors", seed: int = 0, **changes: Any) -> Any:
    """Return a phase with networks that have learnt nothing, but differ from each other."""
    config = tiny(domain, **changes)
    data = domain_of(config)
    torch.manual_seed(seed)
    shared = (config, data, Group(), CPU)
    if name == "vae":
        return VAEPhase(*shared)
    pair = (data.encoder(), data.generator())
    stir(*pair)
    if name == "aae":
        features = data.features(pair[0].trunk, None, "")[: data.count]
        return AAEPhase(*shared, *pair, features)
    alone = not (config.gan.paired or config.gan.from_autoencoder)
    return GANPhase(*shared, None if alone else pair)


def stir(*networks: nn.Module) -> None:
    """Networks' outputs begin near zero; here they shall have something to say."""
    with torch.no_grad():
        for network in networks:
            for value in network.parameters():
                value += 0.3 * torch.randn_like(value)


def batch_of(phase: Phase, step: int = 0) -> tuple[Tensor, Tensor]:
    rows = torch.arange(phase.schedule.batch) + 8 * step
    return next(iter(phase.domain.batches([rows]))), rows


def take(phase: Phase, step: int) -> tuple[Recorded, dict[str, Tensor], Tensor, Tensor]:
    x, rows = batch_of(phase, step)
    recorded = Recorded(phase)
    return recorded, phase.update(step, x, rows), x, rows


def same_gradients(network: nn.Module, loss: Tensor, reference: nn.Module) -> None:
    """Compare what a step left in `network` with the gradient of `loss` by `reference`."""
    ours = {name: p for name, p in network.named_parameters() if p.grad is not None}
    theirs = dict(reference.named_parameters())
    for name in ours:
        theirs[name].requires_grad_(True)
    wanted = torch.autograd.grad(loss, [theirs[name] for name in ours], retain_graph=True)
    assert ours
    assert sum(float(gradient.norm()) for gradient in wanted) > 1e-4
    for (name, value), gradient in zip(ours.items(), wanted, strict=True):
        scale = max(float(gradient.abs().max()), 1e-6)
        torch.testing.assert_close(
            value.grad, gradient, rtol=1e-3, atol=1e-4 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def log_yes(logits: Tensor) -> Tensor:
    """ln C, of the logits of C; in double, where 1 - C does not vanish so soon."""
    return torch.log(torch.sigmoid(logits.double()))


def log_no(logits: Tensor) -> Tensor:
    """ln(1 - C)."""
    return torch.log(1 - torch.sigmoid(logits.double()))


def sample(encoder: nn.Module, features: Tensor, noise: Tensor, eps: Tensor) -> Tensor:
    mean, log_variance = encoder.head(features, noise)
    code: Tensor = mean + torch.sqrt(torch.exp(log_variance)) * eps
    return code


# The VAE


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("sigma", [0.01, 5.0])
def test_a_step_of_the_vae_goes_up_the_bound(step: int, sigma: float) -> None:
    phase = new_phase("vae", vae={"sigma": sigma, "divergence": 0.7})
    stir(*phase.networks.values())
    recorded, log, x, _ = take(phase, step)
    encoder, generator = recorded.before["encoder"], recorded.before["generator"]
    for value in (*encoder.parameters(), *generator.parameters()):
        value.requires_grad_(True)
    mean, log_variance = encoder.head(encoder.trunk(x), recorded.drawn["encode noise"])
    mean = mean - mean.mean(0)  # codes are kept centred
    z = mean + torch.exp(log_variance / 2) * recorded.drawn["encode sample"]
    off = x - generator(z)
    used = max(sigma, math.sqrt((off**2).mean().item()))
    error = (off**2).sum(1).mean() / (2 * used**2)
    divergence = 0.5 * (mean**2 + torch.exp(log_variance) - 1 - log_variance).sum(1).mean()
    loss = error + 0.7 * divergence
    assert float(log["loss"]) == pytest.approx(loss.item(), rel=1e-5)
    assert float(log["reconstruction"]) == pytest.approx(error.item(), rel=1e-5)
    assert float(log["divergence"]) == pytest.approx(divergence.item(), rel=1e-5)
    assert float(log["sigma"]) == pytest.approx(used, rel=1e-5)
    assert (used == sigma) == (sigma == 5.0)
    same_gradients(phase.networks["encoder"], loss, encoder)
    same_gradients(phase.networks["generator"], loss, generator)


def test_the_centre_is_left_in_the_head() -> None:
    """What the loss took from the codes of a batch, the encoder itself takes in the end."""
    phase = new_phase("vae", vae={"learning_rate": 1e-9})
    stir(*phase.networks.values())
    encoder = phase.networks["encoder"]
    x, rows = batch_of(phase)
    noise = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    first = encoder.head(x, noise)[0].mean(0)
    for step in range(150):
        phase.update(step, x, rows)
    last = encoder.head(x, noise)[0].mean(0)
    assert float(first.detach().norm()) > 0.3
    assert float(last.detach().norm()) < 0.4 * float(first.detach().norm())


# Optimizers, rates, averages


@pytest.mark.parametrize("name", ["vae", "aae", "gan"])
def test_adam_as_it_is_printed(name: str) -> None:
    """Kingma & Ba 2015, algorithm 1, from the gradients, with each network's own rate."""
    rates = {"encoder_rate": 0.3, "generator_rate": 0.5, "second_rate": 2.0}
    changes = {"vae": {"head_rate": 0.25}, "aae": rates, "gan": {"generator_rate": 0.4}}
    phase = new_phase(name, **{name: changes[name]})
    shares = {
        "vae": {"encoder": 0.25, "generator": 1.0},
        "aae": {"encoder": 0.3, "generator": 0.5, "c1": 1.0, "c2": 2.0},
        "gan": {"generator": 0.4, "discriminator": 1.0},
    }[name]
    betas = {"vae": (0.9, 0.99), "aae": (0.5, 0.99), "gan": (0.0, 0.99)}[name]
    moments: dict[Tensor, tuple[Tensor, Tensor]] = {}
    for step in range(3):
        recorded, _, _, _ = take(phase, step)
        settings = phase.schedule
        assert phase.rate_at(step) == pytest.approx(
            settings.learning_rate * (step + 1) / 4 * (1 + math.cos(math.pi * step / 12)) / 2
        )
        for key, network in phase.networks.items():
            before = dict(recorded.before[key].named_parameters())
            for parameter, value in network.named_parameters():
                assert value.grad is not None
                m, v = moments.get(value, (torch.zeros_like(value), torch.zeros_like(value)))
                m = betas[0] * m + (1 - betas[0]) * value.grad
                v = betas[1] * v + (1 - betas[1]) * value.grad**2
                moments[value] = m, v
                first, second = m / (1 - betas[0] ** (step + 1)), v / (1 - betas[1] ** (step + 1))
                move = phase.rate_at(step) * shares[key] * first / (second.sqrt() + 1e-8)
                torch.testing.assert_close(
                    value.detach(), before[parameter].detach() - move.detach(), rtol=0, atol=2e-6
                )
    assert {key for key in phase.networks if key != "encoder"} <= set(shares)


def test_the_rate_rises_and_falls() -> None:
    phase = new_phase("vae", vae={"steps": 100, "warm_up": 9, "learning_rate": 0.1,
                                  "final_rate": 0.2})  # fmt: skip
    assert phase.rate_at(0) == pytest.approx(0.01)
    assert phase.rate_at(9) == pytest.approx(0.1 * (0.6 + 0.4 * math.cos(0.09 * math.pi)))
    assert phase.rate_at(50) == pytest.approx(0.1 * 0.6)
    assert phase.rate_at(100) == phase.rate_at(200) == pytest.approx(0.1 * 0.2)
    assert new_phase("vae", vae={"warm_up": 0}).rate_at(0) == pytest.approx(1e-2)


@pytest.mark.parametrize("half_life", [0.0, 0.5, 4.0, 1e6])
def test_the_average_in_closed_form(half_life: float) -> None:
    """After each step: the sum of all values so far times what is kept of them."""
    phase = new_phase("vae", vae={"half_life": half_life})
    weight = phase.networks["generator"].body.first.weight
    buffer = phase.networks["encoder"].head.centre
    average = phase.averages["generator"].body.first.weight
    values = [torch.randn_like(weight) for _ in range(30)]
    limit = 0.5 ** (1 / half_life) if half_life else 0.0
    kept = [min(limit, (1 + step) / (10 + step)) for step in range(30)]
    start = weight.detach().double().clone()
    for step, value in enumerate(values):
        with torch.no_grad():
            weight.copy_(value)
            buffer.fill_(step)
        phase.follow(step)
        wanted, of_buffer = start * math.prod(kept[: step + 1]), 0.0
        for i in range(step + 1):
            share = (1 - kept[i]) * math.prod(kept[i + 1 : step + 1])
            wanted += values[i] * share
            of_buffer += i * share
        torch.testing.assert_close(average.double(), wanted, rtol=1e-5, atol=1e-5)
        found = phase.averages["encoder"].head.centre
        torch.testing.assert_close(found, torch.full((4,), of_buffer), rtol=1e-5, atol=1e-5)
    if half_life == 4.0:  # the ramp is over: four steps of nothing leave one half
        before = average.clone()
        for step in range(1000, 1004):
            with torch.no_grad():
                weight.zero_()
            phase.follow(step)
        torch.testing.assert_close(average, before / 2)


# The AAE


def test_differences_are_those_of_neighbours_in_rings() -> None:
    z = torch.randn(32, 3)
    made = differences(z)
    for i in range(32):
        ring, place = divmod(i, 16)
        assert torch.equal(made[i], z[i] - z[16 * ring + (place - 1) % 16])
        nearest = z[[16 * ring + (place - back) % 16 for back in (1, 2, 3)]]
        torch.testing.assert_close(differences(z, 3)[i], z[i] - nearest.mean(0))
        others = z[[16 * ring + other for other in range(16) if other != place]]
        torch.testing.assert_close(differences(z, 15)[i], z[i] - others.mean(0))
    assert float(differences(torch.ones(16, 3), 15).abs().max()) < 1e-6


@pytest.mark.parametrize("others", [1, 2, 15])
def test_what_differences_keep_of_the_codes(others: int) -> None:
    """Of the prior the variance; of exponential codes the cumulants that the docstring says."""
    wide = 1 + 1 / others
    normal = differences(torch.randn(160_000, 2), others)
    torch.testing.assert_close(normal.T.cov(), wide * torch.eye(2), rtol=0, atol=0.04)
    skewed = torch.empty(1_600_000, 1).exponential_(generator=torch.Generator().manual_seed(0))
    made = differences(skewed, others).flatten().double().numpy()
    kept = (1 - 1 / others**2) / wide**1.5, (1 + 1 / others**3) / wide**2
    assert stats.skew(made) == pytest.approx(2 * kept[0], abs=0.04)
    assert stats.kurtosis(made) == pytest.approx(6 * kept[1], abs=0.4)


METHODS = {
    "ours": {"discriminator": "difference", "second": "affine"},
    "contrast": {"discriminator": "difference", "second": "affine", "others": 15},
    "aae": {"discriminator": "plain", "second": "none"},
    "no-c2": {"discriminator": "difference", "second": "none"},
    "no-difference": {"discriminator": "plain", "second": "affine"},
}


@pytest.mark.parametrize("step", [0, 1, 4])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_the_aae_is_equations_2_to_6(method: str, step: int) -> None:
    settings = {"penalty": 0.6, "lambda_1": 2.0, "lambda_2": 3.0, "control": 0.0, **METHODS[method]}
    noise = {"deviation": 0.1, "final_deviation": 0.1}  # the encoder before a step is that of it
    phase = new_phase("aae", aae={**settings, **noise})
    stir(*phase.networks.values())
    recorded, log, x, rows = take(phase, step)
    drawn, before = recorded.drawn, recorded.before
    encoder, generator = before["encoder"], before["generator"]
    chosen = phase.draws.rows(step, "features", 32, 100)
    z = sample(encoder, phase.features[chosen], drawn["codes noise"], drawn["codes sample"])
    seen, wide = z, 1.0
    if method == "contrast":  # a code less the mean of 15 is 16 / 15 of it less the mean of all
        seen = torch.cat([ring - ring.mean(0) for ring in z.split(16)]) * 16 / 15
        wide = math.sqrt(16 / 15)
    elif METHODS[method]["discriminator"] == "difference":
        seen, wide = torch.stack([z[i] - z[i - 1 if i % 16 else i + 15] for i in range(32)]), 2**0.5
    terms = []
    for name, codes, scale in (("c1", seen, wide), ("c2", z, 1.0)):
        if name not in phase.networks:
            assert METHODS[method]["second"] == "none"
            continue
        judge = before[name].requires_grad_(True)
        codes_alone = codes.detach().requires_grad_(True)
        on_prior, on_codes = judge(scale * drawn[name]), judge(codes_alone)
        loss = -log_yes(on_prior).mean() - log_no(on_codes).mean()
        assert float(log[f"loss_{name}"]) == pytest.approx(loss.item(), rel=1e-5)
        advantage = 1 - loss.item() / math.log(4)
        assert float(log[f"advantage_{name}"]) == pytest.approx(advantage, abs=1e-5)
        if step % 4 == 0 and name == "c1":
            (slope,) = torch.autograd.grad(on_codes.sum(), codes_alone, create_graph=True)
            loss = loss + 0.6 / 2 * 4 * (slope**2).sum(1).mean()
        same_gradients(phase.networks[name], loss, judge)
        # The encoder meets the discriminator as it is after this step.
        terms.append(-log_yes(phase.networks[name](codes)).mean())
    small = sample(encoder, phase.features[rows], drawn["small noise"], drawn["small sample"])
    norm = ((generator(small) - x) ** 2).sum(1).sqrt().mean()
    mean, log_variance = encoder.head(phase.features[chosen], drawn["codes noise"])
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
    loss = norm + sum(weight * term for weight, term in zip((2, 3), terms, strict=False))
    loss = loss + 0.1 * divergence
    assert float(log["loss"]) == pytest.approx(loss.item(), rel=1e-5)
    assert float(log["norm"]) == pytest.approx(norm.item(), rel=1e-5)
    assert float(log["code_mean"]) == pytest.approx(z.mean(0).norm().item(), rel=1e-5)
    same_gradients(phase.networks["encoder"], loss, encoder)
    same_gradients(phase.networks["generator"], loss, generator)


def test_no_component_is_drawn_with_less_than_the_deviation() -> None:
    phase = new_phase("aae", aae={"deviation": 0.7})
    for encoder in (phase.networks["encoder"], phase.averages["encoder"]):
        with torch.no_grad():
            encoder.head.body.last.bias.fill_(-9)
        _, log_variance = encoder.head(phase.features[:5], torch.zeros(5, 3))
        assert bool((log_variance.exp() >= 0.49).all())
        assert float(log_variance.exp().min().detach()) == pytest.approx(0.49, abs=0.02)


def test_the_noise_falls_along_a_cosine() -> None:
    phase = new_phase("aae", aae={"deviation": 0.5, "final_deviation": 0.1, "steps": 12})
    for step in (0, 3, 11):
        take(phase, step)
        wanted = 0.3 + 0.2 * math.cos(math.pi * step / 12)
        assert float(phase.networks["encoder"].head.deviation) == pytest.approx(wanted)


def test_weights_follow_the_advantage() -> None:
    """lambda times exp(control (advantage - target)), step by step, inside its limits."""
    limits = {"lambda_1": 1.0, "lambda_2": 2.0, "lambda_min": 0.5, "lambda_max": 2.02}
    phase = new_phase("aae", aae={**limits, "control": 3.0, "target": 0.01})
    stir(*phase.networks.values())
    expected = {"lambda_1": 1.0, "lambda_2": 2.0}
    bounded = False
    for step in range(10):
        _, log, _, _ = take(phase, step)
        for number, name in (("lambda_1", "c1"), ("lambda_2", "c2")):
            excess = 1 - float(log[f"loss_{name}"]) / math.log(4) - 0.01
            free = expected[number] * math.exp(3 * excess)
            expected[number] = min(max(free, 0.5), 2.02)
            bounded |= free != expected[number]
            assert phase.numbers[number] == pytest.approx(expected[number], rel=1e-5)
            assert float(log[number]) == pytest.approx(expected[number], rel=1e-5)
    assert bounded
    still = new_phase("aae", aae={**limits, "control": 0.0})
    take(still, 0)
    assert still.numbers == {"lambda_1": 1.0, "lambda_2": 2.0}


# The GAN


class Watched(nn.Module):
    """A discriminator that keeps what it is shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        logits: Tensor = self.network(x)
        return logits


def watched(phase: Any) -> Watched:
    phase.networks["discriminator"] = Watched(phase.networks["discriminator"])
    return phase.networks["discriminator"]  # type: ignore[no-any-return]


def test_what_the_discriminators_see() -> None:
    """A plain one 12 numbers, a coupled one 24: (x, G(E(x))) against (G'(z), G(z))."""
    plain = new_phase("gan", gan={"paired": False, "from_autoencoder": False})
    assert plain.fixed == {}
    judge = watched(plain)
    recorded, _, x, _ = take(plain, 1)
    generator = recorded.before["generator"]
    assert [tuple(shown.shape) for shown in judge.shown] == 3 * [(8, 12)]
    assert torch.equal(judge.shown[0], x)
    torch.testing.assert_close(judge.shown[1], generator(recorded.drawn["d"]))
    torch.testing.assert_close(judge.shown[2], generator(recorded.drawn["g"]))

    coupled = new_phase("gan")
    stir(coupled.networks["generator"])
    judge = watched(coupled)
    recorded, _, x, _ = take(coupled, 1)
    generator, drawn = recorded.before["generator"], recorded.drawn
    encoder, decoder = coupled.fixed["encoder"], coupled.fixed["generator"]
    code = sample(encoder, encoder.trunk(x), drawn["pairs noise"], drawn["pairs sample"])
    assert [tuple(shown.shape) for shown in judge.shown] == 3 * [(8, 24)]
    torch.testing.assert_close(judge.shown[0], torch.cat((x, decoder(code)), 1))
    for shown, name in ((judge.shown[1], "d"), (judge.shown[2], "g")):
        pair = torch.cat((generator(drawn[name]), decoder(drawn[name])), 1)
        torch.testing.assert_close(shown, pair)
    assert not torch.equal(drawn["d"], drawn["g"])
    assert not judge.shown[0].requires_grad
    assert not judge.shown[1].requires_grad
    assert judge.shown[2].requires_grad


@pytest.mark.parametrize("step", [0, 1, 2, 4, 6])
@pytest.mark.parametrize("paired", [True, False])
def test_a_step_of_the_gan_is_equations_7_and_8(paired: bool, step: int) -> None:
    """R1 every 4 steps, the path-length penalty every 3, each with the weight of all of them."""
    phase = new_phase("gan", gan={"paired": paired, "penalty": 0.3, "path": 0.5, "path_every": 3,
                                  "path_decay": 0.2})  # fmt: skip
    stir(*phase.networks.values())
    phase.numbers["path_mean"] = 1.5
    recorded, log, x, _ = take(phase, step)
    drawn, generator = recorded.drawn, recorded.before["generator"].requires_grad_(True)
    judge = recorded.before["discriminator"].requires_grad_(True)

    def beside(images: Tensor, other: Tensor) -> Tensor:
        return torch.cat((images, other), 1) if paired else images

    real, decoded = x, {"d": x, "g": x}
    if paired:
        encoder, decoder = phase.fixed["encoder"], phase.fixed["generator"]
        code = sample(encoder, x, drawn["pairs noise"], drawn["pairs sample"])
        real = beside(x, decoder(code)).detach()
        decoded = {name: decoder(drawn[name]).detach() for name in ("d", "g")}
    real = real.clone().requires_grad_(True)
    on_real, on_fake = judge(real), judge(beside(generator(drawn["d"]).detach(), decoded["d"]))
    loss = -log_yes(on_real).mean() - log_no(on_fake).mean()
    assert float(log["loss_d"]) == pytest.approx(loss.item(), rel=1e-5)
    assert ("r1" in log) == (step % 4 == 0)
    if step % 4 == 0:
        (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
        penalty = (slope**2).sum(1).mean()
        assert float(log["r1"]) == pytest.approx(penalty.item(), rel=1e-4)
        loss = loss + 0.3 / 2 * 4 * penalty
    same_gradients(phase.networks["discriminator"], loss, judge)

    later = phase.networks["discriminator"]
    loss = -log_yes(later(beside(generator(drawn["g"]), decoded["g"]))).mean()
    assert float(log["loss_g"]) == pytest.approx(loss.item(), rel=1e-5)
    assert ("path" in log) == (step % 3 == 0)
    if step % 3 == 0:
        w = drawn["path"].clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(
            (generator(w) * drawn["path images"]).sum(), w, create_graph=True
        )
        lengths = (slope**2).sum(1).sqrt()
        mean = 1.5 + 0.2 * (lengths.mean().item() - 1.5)
        assert phase.numbers["path_mean"] == pytest.approx(mean, rel=1e-5)
        penalty = ((lengths - mean) ** 2).mean()
        assert float(log["path"]) == pytest.approx(penalty.item(), rel=1e-4)
        loss = loss + 0.5 * 3 * penalty
    else:
        assert phase.numbers["path_mean"] == 1.5
    same_gradients(phase.networks["generator"], loss, generator)


def test_the_discriminator_s_head_start() -> None:
    phase = new_phase("gan", gan={"head_start": 2, "half_life": 0.0})
    for step in range(3):
        recorded, log, _, _ = take(phase, step)
        assert ("loss_g" in log) == (step == 2)
        for name, network in (*phase.networks.items(), ("average", phase.generator)):
            before = (recorded.before | {"average": recorded.averages["generator"]})[name]
            changed = not torch.equal(network.body.first.weight, before.body.first.weight)
            assert changed == (name == "discriminator" or step == 2)


@pytest.mark.parametrize("penalty", ["penalty", "path"])
def test_a_penalty_of_no_weight_is_not_computed(penalty: str) -> None:
    phase = new_phase("gan", gan={penalty: 0.0})
    _, log, _, _ = take(phase, 0)
    assert ("r1" in log, "path" in log) == (penalty != "penalty", penalty != "path")


@pytest.mark.parametrize("domain", ["factors", "images"])
def test_where_the_generator_starts(domain: str) -> None:
    for paired in (True, False):
        phase = new_phase("gan", domain, gan={"paired": paired})
        assert bool(phase.fixed) == paired
        assert (phase.encoder is None) == (not paired)
    phase = new_phase("gan", domain)
    for network in (phase.networks["generator"], phase.averages["generator"]):
        for key, value in phase.fixed["generator"].state_dict().items():
            assert torch.equal(network.state_dict()[key], value)
            assert network.state_dict()[key].data_ptr() != value.data_ptr()
    phase = new_phase("gan", domain, gan={"from_autoencoder": False})
    ours, theirs = phase.networks["generator"].state_dict(), phase.fixed["generator"].state_dict()
    assert any(not torch.equal(value, theirs[key]) for key, value in ours.items())


def test_both_images_of_a_pair_are_transformed_alike() -> None:
    phase = new_phase("gan", "images", gan={"augment": "paper"})
    phase.probability.p = 1.0
    x, _ = batch_of(phase)
    both = phase._augmented(torch.cat((x, x), 1), 3, "d real")
    torch.testing.assert_close(both[:, :3], both[:, 3:])
    assert not torch.allclose(both[:, :3], x, atol=0.1)
    assert torch.equal(phase._augmented(torch.cat((x, x), 1), 3, "d real"), both)
    assert not torch.equal(phase._augmented(torch.cat((x, x), 1), 4, "d real"), both)
    phase.probability.p = 0.0
    torch.testing.assert_close(phase._augmented(x, 3, "g"), x, rtol=0, atol=1e-5)


def test_the_augmentation_follows_the_signs_of_real_images() -> None:
    """Every four steps by 4 x 8 images of 50 thousand, up while more are told than the target."""
    phase = new_phase("gan", "images", gan={"target": 0.0, "augment_kimg": 0.5})
    for sign, steps, wanted in ((5.0, 3, 0.0), (5.0, 1, 0.064), (-5.0, 4, 0.0), (5.0, 8, 0.128)):
        for _ in range(steps):
            with torch.no_grad():
                phase.networks["discriminator"].logit.bias.fill_(sign * 1000)
            log = phase._discriminate(1, batch_of(phase)[0])
        assert phase.probability.p == pytest.approx(wanted)
        assert float(log["augment"]) == pytest.approx(wanted)


def test_the_running_average_of_w() -> None:
    """It moves once a step, by half a per cent of the way to this step's mean."""
    phase = new_phase("gan", "images")
    before = phase.networks["generator"].mapping.average.clone()
    recorded, _, _, _ = take(phase, 1)
    mapping = recorded.before["generator"].mapping
    wanted = 0.995 * before + 0.005 * mapping(recorded.drawn["g"]).mean(0)
    torch.testing.assert_close(phase.networks["generator"].mapping.average, wanted.detach())


# What changes and what stays


@pytest.mark.parametrize("domain", ["factors", "images"])
@pytest.mark.parametrize("name", ["vae", "aae", "gan"])
def test_what_is_trained_changes_and_what_is_fixed_stays(name: str, domain: str) -> None:
    phase = new_phase(name, domain)
    before = {key: value.clone() for key, value in phase.tensors().items()}
    for step in range(2):
        take(phase, step)
    after = phase.tensors()
    frozen = ["fixed."] if name == "gan" else []
    if name == "aae":
        frozen = ["network.encoder.trunk.", "average.encoder.trunk."]
    # Without a noise G's first style and the like may not matter yet; most tensors must move.
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    for key in before:
        if key.startswith(tuple(frozen)):
            assert key not in moved
    for kind in ("network", "average"):
        for network in getattr(phase, {"network": "networks", "average": "averages"}[kind]):
            prefix = f"{kind}.{network}."
            keys = [k for k in before if k.startswith(prefix) and not k.startswith(tuple(frozen))]
            weights = [k for k in keys if "deviation" not in k and "centre" not in k]
            assert weights
            assert len(set(weights) & moved) > 0.9 * len(weights), set(weights) - moved
    assert all(not value.requires_grad for net in phase.averages.values()
               for value in net.parameters())  # fmt: skip
    assert all(not value.requires_grad for net in phase.fixed.values()
               for value in net.parameters())  # fmt: skip


@pytest.mark.parametrize("name", ["vae", "aae", "gan"])
def test_what_is_saved_is_all_there_is(name: str) -> None:
    """A phase with other weights takes over the state, and goes on as the first one does."""
    domain = "images" if name == "gan" else "factors"
    phase, other = new_phase(name, domain), new_phase(name, domain, seed=1)
    for step in range(5):
        take(phase, step)
    tensors = {key: value.clone() for key, value in phase.tensors().items()}
    other.restore(tensors, dict(phase.numbers), Path("state"))
    other.restore_extra(phase.extra())
    for step in (5, 6, 7, 8):
        first, second = take(phase, step)[1], take(other, step)[1]
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert torch.equal(value, second[key]), key
    for key, value in phase.tensors().items():
        assert torch.equal(value, other.tensors()[key]), key
    assert phase.numbers == other.numbers
    assert phase.extra() == other.extra()


# The order of the data


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    draws = Draws(3, CPU, Group())
    steps = list(epochs(draws, 23, 5, 0, 9))
    assert all(rows.shape == (5,) for rows in steps)
    for first in (0, 4):
        seen = torch.cat(steps[first : first + 4]).tolist()
        assert len(set(seen)) == 20
        assert set(seen) <= set(range(23))
    assert [rows.tolist() for rows in steps[:4]] != [rows.tolist() for rows in steps[4:8]]
    assert [rows.tolist() for rows in epochs(draws, 23, 5, 6, 9)] == [
        rows.tolist() for rows in steps[6:]
    ]
    assert list(epochs(draws, 23, 5, 9, 9)) == []
    other = list(epochs(Draws(4, CPU, Group()), 23, 5, 0, 9))
    assert [rows.tolist() for rows in other] != [rows.tolist() for rows in steps]


def test_factors_of_the_held_out_rows_are_not_trained_on() -> None:
    config = tiny("factors")
    domain = FactorDomain(config, CPU)
    assert (domain.count, domain.held_out) == (100, 24)
    rows = torch.cat(list(epochs(Draws(0, CPU, Group()), domain.count, 8, 0, 100)))
    assert int(rows.max()) == 99
    phase = new_phase("aae")
    assert len(phase.features) == 100
