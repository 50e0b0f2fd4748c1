"""Flow matching: its loss, its gradient, and a Gaussian target whose velocity is known."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from shapeshd.errors import MissingPackageError, UsageError
from shapeshd.models.config_file import load_config
from shapeshd.models.losses import flow_matching, flow_point
from shapeshd.models.networks.config import FlowConfig
from shapeshd.models.networks.flow import ImageFlow, PerceptronFlow
from shapeshd.models.training.distributed import Group
from shapeshd.models.training.flow import FlowPhase
from tests.support.phases import CPU, new_phase, same_gradients, stir, take
from tests.support.tiny_models import tiny, tiny_run


@pytest.mark.parametrize("domain", ["factors", "images"])
def test_a_step_goes_down_the_loss(domain: str) -> None:
    """Transcribed from Lipman et al. 2023, equations 22 and 23, sigma_min = 0."""
    phase = new_phase("flow", domain)
    stir(*phase.networks.values())
    recorded, log, x, _ = take(phase, 1)
    noise, t = recorded.drawn["flow noise"], phase.draws.times(1, "flow times", 8)
    assert noise.shape == x.shape
    assert t.shape == (8,)
    time = t.view(8, *([1] * (x.ndim - 1)))
    flow = recorded.before["generator"]
    for value in flow.parameters():
        value.requires_grad_(True)
    velocity = flow.velocity((1 - time) * noise + time * x, t)
    loss = ((velocity - (x - noise)) ** 2).mean()
    assert float(log["loss"]) == pytest.approx(loss.item(), rel=1e-5)
    same_gradients(phase.networks["generator"], loss, flow)


def test_paths_lead_from_noise_to_data() -> None:
    x, noise = torch.randn(6, 3, 4, 4), torch.randn(6, 3, 4, 4)
    torch.testing.assert_close(flow_point(x, noise, torch.zeros(6)), noise)
    torch.testing.assert_close(flow_point(x, noise, torch.ones(6)), x)
    t, h = torch.linspace(0.1, 0.8, 6), 0.01
    slope = (flow_point(x, noise, t + h) - flow_point(x, noise, t)) / h
    torch.testing.assert_close(slope, x - noise, rtol=0, atol=1e-4)
    assert float(flow_matching(slope, x, noise)) < 1e-8
    assert float(flow_matching(slope + 2, x, noise)) == pytest.approx(4, rel=1e-3)


MEAN = torch.tensor([1.0, -0.5])
DEVIATION = torch.tensor([0.5, 1.5])


class GaussianDomain:
    """Data drawn from N(MEAN, diag(DEVIATION^2))."""

    def flow(self) -> PerceptronFlow:
        return PerceptronFlow(2, 64, 2, "midpoint", 16)

    def autocast(self) -> Any:
        return nullcontext()


def gaussian_velocity(x: Tensor, t: Tensor) -> Tensor:
    """E[x1 - x0 | (1 - t) x0 + t x1 = x], by the regression of jointly normal components."""
    variance = (1 - t) ** 2 + t**2 * DEVIATION**2
    covariance = t * DEVIATION**2 - (1 - t)
    return MEAN + covariance / variance * (x - t * MEAN)


def test_a_gaussian_target_has_the_velocity_in_closed_form() -> None:
    config = tiny("factors", flow={"steps": 700, "batch": 512, "learning_rate": 5e-3,
                                   "half_life": 50.0})  # fmt: skip
    domain: Any = GaussianDomain()
    torch.manual_seed(0)
    phase = FlowPhase(config, domain, Group(), CPU)
    rng = torch.Generator().manual_seed(1)
    for step in range(config.flow.steps):
        x = MEAN + DEVIATION * torch.randn(512, 2, generator=rng)
        phase.update(step, x, torch.arange(512))
    flow: Any = phase.generator
    n = 20_000
    noise = torch.randn(n, 2, generator=rng)
    with torch.no_grad():
        for t in (0.05, 0.3, 0.5, 0.7, 0.95):
            x1 = MEAN + DEVIATION * torch.randn(n, 2, generator=rng)
            x = (1 - t) * torch.randn(n, 2, generator=rng) + t * x1
            wanted = gaussian_velocity(x, torch.tensor(t))
            error = (flow.velocity(x, torch.full((n,), t)) - wanted).square().mean().sqrt()
            assert float(error) < 0.1 * float(wanted.square().mean().sqrt()), t
        samples = flow(noise)
    torch.testing.assert_close(samples.mean(0), MEAN, rtol=0, atol=0.06)
    torch.testing.assert_close(samples.std(0), DEVIATION, rtol=0.05, atol=0)
    # The flow of such a target is affine: quantiles go to quantiles, sample by sample.
    quantiles = Normal(MEAN, DEVIATION).icdf(Normal(0.0, 1.0).cdf(noise))
    inside = (noise.abs() < 2).all(1)
    assert float((samples - quantiles)[inside].square().mean().sqrt()) < 0.1


def test_the_closed_form_is_the_one_that_the_loss_is_least_for() -> None:
    """The reference itself: by the loss, on many pairs, nothing near it is better."""
    rng = torch.Generator().manual_seed(2)
    noise = torch.randn(400_000, 2, generator=rng)
    x = MEAN + DEVIATION * torch.randn(400_000, 2, generator=rng)
    t = torch.rand(400_000, generator=rng)
    at = flow_point(x, noise, t)
    best = gaussian_velocity(at, t[:, None])
    least = float(flow_matching(best, x, noise))
    for other in (best + 0.1, best * 1.1, best + 0.1 * at, best + 0.1 * t[:, None]):
        assert float(flow_matching(other, x, noise)) > least


def test_settings_that_mean_nothing_to_a_flow_may_change(tmp_path: Path) -> None:
    """A flow has no codes: another size of them is no other training."""
    run = tiny_run("factors", tmp_path / "run", flow={"steps": 2})
    run.train("flow")
    again = tiny_run("factors", tmp_path / "run", flow={"steps": 2}, codes={"latent_dim": 9})
    assert again.train("flow")["steps"] == 2
    with pytest.raises(UsageError, match=r"flow\.solver .*midpoint, not heun"):
        tiny_run("factors", tmp_path / "run", flow={"steps": 2, "solver": "heun"}).train("flow")


def test_a_network_that_does_not_fit_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    for unet, words in (
        ({"groups": 3}, "unet.groups must divide"),
        ({"channels": [4] * 5, "head": 4}, "unet.channels must be at most 4"),
    ):
        with pytest.raises(UsageError, match=words):
            tiny_run("images", tmp_path / "run", unet=unet).train("flow")
    assert not (tmp_path / "run").exists()


def test_images_take_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingPackageError, match=r"shapeshd\[diffusers\]"):
        tiny_run("images", tmp_path / "run").train("flow")
    tiny_run("factors", tmp_path / "factors", flow={"steps": 1}).train("flow")


def test_the_tiers_have_networks_that_can_be_built() -> None:
    for tier in ("hd", "lite", "mini", "smoke"):
        config = load_config(tier)
        with torch.device("meta"):
            sizes = dataclasses.asdict(config.unet)
            flow = ImageFlow(FlowConfig(**sizes, size=config.images.size))
        assert flow.latent_dim == 3 * config.images.size**2
