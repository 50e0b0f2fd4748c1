"""The steps of phase 2 against transcriptions of equations 2 to 6."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from shapeshd.models.training.aae import differences
from tests.support.phases import (
    log_no,
    log_yes,
    new_phase,
    same_gradients,
    sample,
    stir,
    take,
)


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
