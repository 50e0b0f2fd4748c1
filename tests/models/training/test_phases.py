"""The update steps against transcriptions of the paper's equations, gradient by gradient."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shapeshd.models.config import Schedule
from shapeshd.models.training.distributed import Draws, Group
from shapeshd.models.training.domains.factors import FactorDomain
from shapeshd.models.training.schedule import learning_rate_at
from shapeshd.models.training.trainer import epochs
from tests.support.phases import (
    CPU,
    batch_of,
    new_phase,
    same_gradients,
    stir,
    take,
)
from tests.support.tiny_models import tiny
from tests.support.training_runs import TRAINED

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


@pytest.mark.parametrize("name", TRAINED)
def test_adam_as_it_is_printed(name: str) -> None:
    """Kingma & Ba 2015, algorithm 1, from the gradients, with each network's own rate."""
    rates = {"encoder_rate": 0.3, "generator_rate": 0.5, "second_rate": 2.0}
    changes = {"vae": {"head_rate": 0.25}, "aae": rates, "gan": {"generator_rate": 0.4},
               "flow": {"solver": "heun"}}  # fmt: skip
    phase = new_phase(name, **{name: changes[name]})
    shares = {
        "vae": {"encoder": 0.25, "generator": 1.0},
        "aae": {"encoder": 0.3, "generator": 0.5, "c1": 1.0, "c2": 2.0},
        "gan": {"generator": 0.4, "discriminator": 1.0},
        "flow": {"generator": 1.0},
    }[name]
    betas = {"aae": (0.5, 0.99), "gan": (0.0, 0.99)}.get(name, (0.9, 0.99))
    moments: dict[Tensor, tuple[Tensor, Tensor]] = {}
    for step in range(3):
        recorded, _, _, _ = take(phase, step)
        settings = phase.schedule
        rate = learning_rate_at(step, settings)
        assert rate == pytest.approx(
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
                move = rate * shares[key] * first / (second.sqrt() + 1e-8)
                torch.testing.assert_close(
                    value.detach(), before[parameter].detach() - move.detach(), rtol=0, atol=2e-6
                )
    assert {key for key in phase.networks if key != "encoder"} <= set(shares)


def test_the_rate_rises_and_falls() -> None:
    schedule = Schedule(steps=100, warm_up=9, learning_rate=0.1, final_rate=0.2)
    rates = [learning_rate_at(step, schedule) for step in (0, 9, 50, 100, 200)]
    cosine = 0.6 + 0.4 * math.cos(0.09 * math.pi)
    assert rates == pytest.approx([0.01, 0.1 * cosine, 0.1 * 0.6, 0.1 * 0.2, 0.1 * 0.2])
    assert rates[3] == rates[4]
    assert learning_rate_at(0, Schedule(warm_up=0, learning_rate=0.01)) == pytest.approx(1e-2)


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


# What changes and what stays


@pytest.mark.parametrize("domain", ["factors", "images"])
@pytest.mark.parametrize("name", TRAINED)
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


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_saved_is_all_there_is(name: str) -> None:
    """A phase with other weights takes over the state, and goes on as the first one does."""
    domain = "images" if name in ("gan", "flow") else "factors"
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
