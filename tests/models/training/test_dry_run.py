"""What a run would take: work against PyTorch's count and by hand, steps by brute force."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shapeshd.models.config import GAN, RunConfig
from shapeshd.models.losses import r1_penalty
from shapeshd.models.training.dry_run import WorkCounter, _step_kinds, describe_plan, plan_of
from tests.support.tiny_models import tiny_run

every = st.integers(1, 12)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(),
        nn.Conv2d(8, 8, 3, stride=2, groups=4), nn.LeakyReLU(),
        nn.ConvTranspose2d(8, 4, 3, stride=2), nn.Flatten(), nn.Linear(4 * 225, 1),
    )  # fmt: skip


def test_work_is_what_pytorchs_own_counter_finds() -> None:
    network, x = small_network(), torch.randn(5, 3, 16, 16)
    with FlopCounterMode(display=False) as reference:
        network(x).sum().backward()
    with WorkCounter() as counter:
        network(x).sum().backward()
    assert counter.flops == reference.get_total_flops() > 0


def test_work_of_a_product_by_hand_forward_and_backward() -> None:
    layer, x = nn.Linear(7, 11), torch.randn(5, 7)
    with WorkCounter() as counter:
        layer(x).sum().backward()  # forward, and the gradient by the weights
    assert counter.flops == 2 * (2 * 5 * 7 * 11)


def test_the_work_of_r1_is_counted() -> None:
    layer, x = nn.Linear(7, 1), torch.randn(5, 7, requires_grad=True)
    body = nn.Sequential(layer, nn.Softplus())
    with WorkCounter() as plain:
        body(x)[:, 0].sum().backward()
    with WorkCounter() as counter:
        r1_penalty(body(x)[:, 0], x).backward()
    # Plain has the product x W and the gradients by W and x. The penalty has the first and the
    # last of these, and its own gradient: two products for the last, two for the first.
    one = 2 * 5 * 7
    assert plain.flops == 3 * one
    assert counter.flops == 6 * one


@given(penalty_every=every, path_every=every, penalty=st.sampled_from([0, 1]), path=st.booleans())
def test_kinds_of_steps_stand_for_all_steps(
    penalty_every: int, path_every: int, penalty: float, path: bool
) -> None:
    gan = GAN(penalty=penalty, penalty_every=penalty_every, path=float(path), path_every=path_every)

    def cost(step: int) -> int:
        has_r1 = bool(penalty) and step % penalty_every == 0
        return 1 + 10 * has_r1 + 100 * (path and step % path_every == 0)

    kinds = _step_kinds(replace(RunConfig(), gan=gan), "gan")
    period = penalty_every * path_every
    mean = Fraction(sum(cost(step) for step in range(period)), period)
    assert sum(share for _, share in kinds) == 1
    assert all(share > 0 for _, share in kinds)
    assert sum(share * cost(step) for step, share in kinds) == mean


def plan_with(tmp_path: Path, phase: str, **changes: Any) -> dict[str, Any]:
    run = tiny_run("images", tmp_path, **changes)
    return plan_of(run, (phase,))[phase]


def test_a_plan_of_images_has_all_phases_and_leaves_no_trace(tmp_path: Path) -> None:
    run = tiny_run("images", tmp_path / "run")
    plan = plan_of(run, ("vae", "aae", "gan"))
    text = describe_plan(plan)
    for name, values in plan.items():
        assert f"{name}: 12 steps of 8 samples" in text
        assert min(values["flops"], values["activation_bytes"], values["state_bytes"]) > 0
    phase = run.domain.generator()
    assert plan["gan"]["parameters"]["generator"] == sum(p.numel() for p in phase.parameters())
    assert plan["aae"]["features_bytes"] == 4 * 96 * 6
    assert not (tmp_path / "run").exists()


def test_rare_penalties_cost_their_share(tmp_path: Path) -> None:
    def flops(**gan: float) -> int:
        return plan_with(tmp_path, "gan", gan=gan)["flops"]

    never = flops(penalty=0.0, path=0.0)
    always = flops(penalty_every=1, path=0.0) - never
    seldom = flops(penalty_every=6, path=0.0) - never
    assert always > 0
    assert 6 * seldom == pytest.approx(always, rel=1e-6)


def test_twice_the_batch_is_twice_the_work_and_memory(tmp_path: Path) -> None:
    one, two = (plan_with(tmp_path, "vae", vae={"batch": batch}) for batch in (8, 16))
    assert two["flops"] == 2 * one["flops"]
    assert two["activation_bytes"] == 2 * one["activation_bytes"]
    assert two["parameters"] == one["parameters"]
