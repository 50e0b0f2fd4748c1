"""The steps of phase 3 against transcriptions of equations 7 and 8."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.phases import (
    batch_of,
    log_no,
    log_yes,
    new_phase,
    same_gradients,
    sample,
    stir,
    take,
)


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
