"""What a run would take: work against PyTorch's count and by hand, steps by brute force."""

from __future__ import annotations

import functools
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import process_time
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.models.config_file import load_config
from shapeshd.models.losses import r1_penalty
from shapeshd.models.methods import METHODS
from shapeshd.models.training import dry_run
from shapeshd.models.training.dry_run import (
    MemoryCounter,
    WorkCounter,
    _kept,
    _state,
    plan_of,
)
from shapeshd.models.training.gan import GANPhase
from shapeshd.models.training.report import describe_plan
from shapeshd.models.training.run import TrainingRun
from tests.support.step_memory import EACH_STEP, allocated, batches_of, computed_phase
from tests.support.tiny_models import tiny_run
from tests.support.training_runs import TRAINED


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


def plan_with(tmp_path: Path, phase: str, **changes: Any) -> dict[str, Any]:
    run = tiny_run("images", tmp_path, **changes)
    return plan_of(run, (phase,))[phase]


def test_a_plan_of_images_has_all_phases_and_leaves_no_trace(tmp_path: Path) -> None:
    run = tiny_run("images", tmp_path / "run")
    plan = plan_of(run, ("vae", "aae", "gan"))
    text = describe_plan(plan)
    for name, values in plan.items():
        assert f"{name}: 12 steps of 8 samples, 96 in all" in text
        assert min(values["flops"], values["activation_bytes"], values["state_bytes"]) > 0
        assert values["peak_bytes"] > values["state_bytes"] + values["activation_bytes"] / 2
    phase = run.domain.generator()
    assert plan["gan"]["parameters"]["generator"] == sum(p.numel() for p in phase.parameters())
    assert plan["aae"]["features_bytes"] == 4 * 96 * 6
    assert not (tmp_path / "run").exists()


@functools.cache
def work_of_a_gan(penalty_every: int, path_every: int) -> int:
    """Return the mean work of a step with penalties so often; 0 stands for never."""
    penalties = {"penalty": float(penalty_every > 0), "penalty_every": penalty_every or 1,
                 "path": float(path_every > 0), "path_every": path_every or 1}  # fmt: skip
    flops: int = plan_with(Path("nowhere"), "gan", gan=penalties)["flops"]
    return flops


def test_rare_penalties_cost_their_share() -> None:
    never = work_of_a_gan(0, 0)
    always, seldom = work_of_a_gan(1, 0) - never, work_of_a_gan(6, 0) - never
    assert always > 0
    assert 6 * seldom == pytest.approx(always, rel=1e-6)


def test_the_work_of_two_rare_penalties_is_the_mean_of_all_steps() -> None:
    """Of six: one with both, one with R1, two with path lengths, two with neither."""
    steps = work_of_a_gan(1, 1), work_of_a_gan(1, 0), work_of_a_gan(0, 1), work_of_a_gan(0, 0)
    assert min(steps) > 0 and len(set(steps)) == 4
    wanted = steps[0] + steps[1] + 2 * steps[2] + 2 * steps[3]
    assert 6 * work_of_a_gan(3, 2) == pytest.approx(wanted, abs=3)  # it is rounded


def test_the_work_of_a_rare_penalty_on_codes_is_the_mean_of_all_steps() -> None:
    """Of three steps of an AAE, one has it."""
    never, always, rare = (
        plan_with(Path("nowhere"), "aae", aae={"penalty": weight, "penalty_every": every})["flops"]
        for weight, every in ((0.0, 1), (1.0, 1), (1.0, 3))
    )
    assert always > never
    assert 3 * rare == pytest.approx(always + 2 * never, abs=2)  # it is rounded


def test_twice_the_batch_is_twice_the_work_and_memory_but_for_the_weights(tmp_path: Path) -> None:
    one, two, three = (plan_with(tmp_path, "vae", vae={"batch": n}) for n in (8, 16, 24))
    assert two["flops"] == 2 * one["flops"]
    growth = two["activation_bytes"] - one["activation_bytes"]
    assert three["activation_bytes"] - two["activation_bytes"] == growth
    assert 0 < one["activation_bytes"] - growth < one["activation_bytes"]  # weights, once
    assert two["parameters"] == one["parameters"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", TRAINED)
def test_shapes_take_what_a_real_step_takes(name: str, precision: str, tmp_path: Path) -> None:
    """The step of the configuration `smoke`, once on shapes and once computed."""
    changes = [*EACH_STEP, *batches_of(8), f"images.precision={precision}", "aae.codes=64"]
    config = load_config("smoke", changes, method="ours")
    source = RenderSpec(seed=5, count=1100, size=32)
    run = TrainingRun(config, source, tmp_path / "run", workers=0)
    plan = plan_of(run, (name,))[name]
    phase, x, rows = computed_phase(run, name)
    with _kept() as peak, WorkCounter() as counter:
        phase.update(0, x, rows)
    assert plan["flops"] == counter.flops
    assert plan["state_bytes"] == sum(tensor.nbytes for tensor in _state(phase))
    assert plan["activation_bytes"] == pytest.approx(peak[0], rel=0.01)
    # The peak as PyTorch's allocator saw it, with what kernels take inside.
    assert plan["peak_bytes"] == pytest.approx(allocated(phase, x, rows), rel=0.1)


def test_memory_is_followed_until_nothing_holds_it() -> None:
    first = torch.ones(100)
    with MemoryCounter([first]) as counter:
        second = first * 2
        part = second[:10]
        del second  # its memory is still held
        third = torch.cat((part, part))
        del third
        assert counter.now == 4 * 200
        del part
    assert (counter.now, counter.peak) == (4 * 100, 4 * 220)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What shapes of images and of flows need is imported before memory is measured."""
    out = tmp_path_factory.mktemp("imported")
    plan_of(tiny_run("images", out / "run", gan={"path": 1.0}), TRAINED)


@pytest.mark.parametrize(
    ("tier", "method"),
    [
        *(("hd", method) for method in ("ours", "flow")),  # the largest
        *(("factors", name) for name in METHODS),
    ],
)
@pytest.mark.usefixtures("imported")
def test_a_plan_takes_seconds_and_next_to_no_memory(tier: str, method: str, tmp_path: Path) -> None:
    config, phases = load_config(tier, method=method), METHODS[method].phases
    source = None if tier == "factors" else RenderSpec(0, 500_000, config.images.size)
    run = TrainingRun(config, source, tmp_path / "run", compiled=False)
    seconds, memory = process_time(), getrusage(RUSAGE_SELF).ru_maxrss
    plan = plan_of(run, phases)
    assert process_time() - seconds < 60  # of a slow, busy core
    assert getrusage(RUSAGE_SELF).ru_maxrss - memory < 300_000  # KiB; networks have gigabytes
    assert list(plan) == list(phases)
    if (tier, method) == ("hd", "ours"):  # As counted when a step was computed.
        work = sum(values["flops"] * values["steps"] for values in plan.values())
        assert work == pytest.approx(14_870e15, rel=1e-4)


class Clock:
    """A time that passes in steps alone: a second each, five with R1, and so on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, every: int, scale: float = 1.0) -> None:
        self.now, self.steps = 0.0, list[int]()
        monkeypatch.setattr(dry_run, "perf_counter", lambda: self.now)
        update = GANPhase.update

        def slow(phase: GANPhase, step: int, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
            self.now += scale * (1 if step % every else 5)
            self.steps.append(step)
            return update(phase, step, x, rows)

        monkeypatch.setattr(GANPhase, "update", slow)


def timed_gan(tmp_path: Path, every: int) -> dict[str, Any]:
    run = tiny_run("images", tmp_path / "run", gan={"penalty_every": every, "path_every": 2})
    plan: dict[str, Any] = plan_of(run, ("gan",), timed=True)["gan"]
    assert not (tmp_path / "run").exists()
    return plan


def test_the_time_of_a_step_is_the_mean_over_rounds_of_its_penalties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, 3)
    plan = timed_gan(tmp_path, 3)  # with path lengths at every second one a round has six steps
    clock.steps = clock.steps[-6:]
    assert clock.steps == list(range(6))
    assert plan["seconds_a_step"] == pytest.approx((5 + 1 + 1) / 3)
    text = describe_plan({"gan": plan, "vae": {**plan, "seconds_a_step": 1.0}})
    assert "time, about     28 s: 2.33 s a step, 3 samples/s" in text
    assert "all of these steps: about 40 s; reading images, augmentation" in text
    assert "compiled" not in text


def test_quick_rounds_are_repeated_and_long_ones_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Clock(monkeypatch, 2, 0.1)
    assert timed_gan(tmp_path, 2)["seconds_a_step"] == pytest.approx(0.3)
    assert [step for step in quick.steps if step % 2 == 0][-2:] == [0, 2]  # two rounds: 1.2 s
    long = Clock(monkeypatch, 8, 4.0)
    assert timed_gan(tmp_path, 8)["seconds_a_step"] == pytest.approx(20 / 1)
    assert long.steps[-1] == 0


def test_penalties_of_no_weight_make_no_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, 10**9, 2.0)
    never = {"penalty": 0.0, "penalty_every": 10**6, "path": 0.0, "path_every": 7}
    run = tiny_run("images", tmp_path / "run", gan=never)
    assert plan_of(run, ("gan",), timed=True)["gan"]["seconds_a_step"] == 10.0
    assert clock.steps[-3:] == [1, 1, 0]


@pytest.mark.parametrize(
    ("largest", "why"),
    [((0.0, 1e12), "too much work"), ((1e15, 1e3), "needs more memory than the 1 kB")],
)
def test_what_is_too_large_is_not_timed(
    largest: tuple[float, float], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "_LARGEST_TIMED", largest)
    plan = timed_gan(tmp_path, 2)
    assert plan["seconds_a_step"] is None
    assert why in plan["why_not_timed"]
    text = describe_plan({"gan": plan})
    assert f"not measured: {plan['why_not_timed']}" in text
    assert "all of these" not in text


def test_all_phases_can_be_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "_SHORTEST_TIMED", 1e-6)
    for domain in ("images", "factors"):
        run = tiny_run(domain, tmp_path / "run")
        plan = plan_of(run, ("vae", "aae", "gan", "flow"), timed=True)
        assert all(values["seconds_a_step"] > 0 for values in plan.values())
