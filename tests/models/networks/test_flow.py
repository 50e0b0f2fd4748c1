"""Flows: solvers against closed forms and SciPy; latents; checkpoints; what is refused."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from torch import Tensor

from shapeshd.benchmark.sources.options import SOLVERS as SOLVERS_OF_SOURCES
from shapeshd.errors import MissingPackageError, UsageError
from shapeshd.models import load_generator, read_generator, save_generator
from shapeshd.models.networks.config import FlowConfig
from shapeshd.models.networks.flow import (
    EVALUATIONS,
    SOLVERS,
    ImageFlow,
    PerceptronFlow,
    integrate,
)
from shapeshd.support.checkpoint import load_checkpoint, save_checkpoint
from shapeshd.support.schema import validated

SMALL = FlowConfig(
    channels=(4, 8), layers=1, groups=2, attention=4, head=4, size=8, solver="heun", steps=3
)
ORDERS = {"euler": 1, "heun": 2, "midpoint": 2}
A = torch.tensor([[-0.5, 2.0, 0.0], [-2.0, -0.3, 0.4], [0.2, 0.0, 0.7]], dtype=torch.float64)


def small(seed: int = 0) -> ImageFlow:
    """A flow whose velocity is far from zero."""
    torch.manual_seed(seed)
    return ImageFlow(SMALL).eval()


def linear(x: Tensor, t: Tensor) -> Tensor:
    return x @ A.T


def points(n: int = 5) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# Solvers


def test_all_lists_of_solvers_agree() -> None:
    assert set(SOLVERS) == set(ORDERS) == set(EVALUATIONS) == set(SOLVERS_OF_SOURCES)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_order_of_convergence_on_a_linear_equation(solver: Any) -> None:
    """dx/dt = A x has the solution exp(A) x; the error falls with the order's power of h."""
    x = points()
    exact = x @ torch.from_numpy(expm(A.numpy())).T
    steps = (32, 64, 128, 256)
    errors = [float((integrate(linear, x, n, solver) - exact).norm()) for n in steps]
    order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert -order == pytest.approx(ORDERS[solver], abs=0.06)
    assert errors[0] < 0.5


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_step_as_it_is_written(solver: Any) -> None:
    """One step of h multiplies by the exponential's series, up to the order of the solver."""
    step = torch.eye(3, dtype=torch.float64)
    for power in range(1, ORDERS[solver] + 1):
        step = step + torch.linalg.matrix_power(A / 3, power) / math.factorial(power)
    x = points()
    wanted = x @ torch.linalg.matrix_power(step, 3).T
    torch.testing.assert_close(integrate(linear, x, 3, solver), wanted)


def test_times_are_those_of_the_rules() -> None:
    """With v = t^2 a solver is a quadrature: left ends, trapezia, midpoints."""
    x, h = torch.zeros(2, 1, dtype=torch.float64), 1 / 4
    rules = {
        "euler": sum((k * h) ** 2 for k in range(4)) * h,
        "heun": sum(((k * h) ** 2 + (k * h + h) ** 2) / 2 for k in range(4)) * h,
        "midpoint": sum((k * h + h / 2) ** 2 for k in range(4)) * h,
    }
    for solver in SOLVERS:
        found = integrate(lambda x, t: (t**2)[:, None].expand_as(x), x, 4, solver)
        assert found.flatten().tolist() == pytest.approx([rules[solver]] * 2, abs=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_straight_paths_take_one_step(solver: Any) -> None:
    x = points()
    there = torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64)
    calls: list[Tensor] = []

    def constant(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return there.expand_as(x)

    torch.testing.assert_close(integrate(constant, x, 1, solver), x + there)
    assert len(calls) == EVALUATIONS[solver]


# Flows


@pytest.fixture(scope="module")
def solved() -> tuple[Tensor, Any, Any]:
    """DOP853 on diffusers' network itself, whose times are 0 to 1000: latents, start and end."""
    flow = small()
    z = torch.randn(2, flow.latent_dim, generator=torch.Generator().manual_seed(3))

    @torch.no_grad()
    def slope(t: float, x: Any) -> Any:
        images = torch.from_numpy(x).float().view(2, 3, 8, 8)
        return flow.unet(images, torch.full((2,), 1000 * t)).sample.flatten().double().numpy()

    start = z.flatten().double().numpy()
    end = solve_ivp(slope, (0, 1), start, method="DOP853", rtol=1e-6, atol=1e-6).y[:, -1]
    return z, start, end


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_flow_of_images_against_scipys_solver(
    solver: Any, solved: tuple[Tensor, Any, Any]
) -> None:
    flow, (z, start, end) = small(), solved
    flow.solver, flow.steps = solver, 32  # fewer are too coarse for so fast a function of time
    with torch.no_grad():
        coarse, fine = flow(z), None
        flow.steps = 256
        fine = flow(z)
    moved = float(np.linalg.norm(end - start))
    far = [float(np.linalg.norm(x.flatten().double().numpy() - end)) for x in (coarse, fine)]
    assert far[1] < 0.002 * moved
    # Eight times the steps: an eighth of the error, or less.
    assert far[1] < far[0] / 4


@pytest.mark.parametrize("count", [1, 256, 300])
def test_parts_of_a_batch_are_made_one_after_the_other(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, sizes = small(), []
    flow.solver, flow.steps = "euler", 2
    z = torch.randn(count, flow.latent_dim)
    with torch.no_grad():
        whole = integrate(flow.velocity, z.view(-1, *flow.shape), 2, "euler")
        velocity = flow.velocity
        monkeypatch.setattr(flow, "velocity", lambda x, t: sizes.append(len(x)) or velocity(x, t))
        torch.testing.assert_close(flow(z), whole, rtol=1e-4, atol=1e-5)
    # 2^14 pixels are 256 images of 8 x 8.
    assert sizes[::2] == {1: [1], 256: [256], 300: [256, 44]}[count]
    assert flow.largest_part(torch.device("meta")) is None


def test_the_perceptron_sees_the_time() -> None:
    torch.manual_seed(0)
    flow = PerceptronFlow(3, 16, 2, "euler", 2)
    x = points().float()
    times = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    with torch.no_grad():
        found = [flow.velocity(x, torch.full((5,), float(t))) for t in times]
        each = flow.velocity(x, times)
    assert each.shape == (5, 3)
    for i in range(5):  # a row has its own time, and no other's
        torch.testing.assert_close(each[i], found[i][i])
    assert all(float((found[i] - found[i + 1]).abs().max()) > 1e-4 for i in range(4))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(flow.velocity(x, times), each)
        assert flow(x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(192,), (2, 191), (2, 3, 8, 8)])
def test_bad_latents(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"latents .*\(n, 192\)"):
        small()(torch.zeros(shape))


def test_gradients_flow_back_to_the_latent() -> None:
    flow = small()
    z = torch.randn(1, flow.latent_dim, requires_grad=True)
    flow(z).square().sum().backward()
    assert z.grad is not None
    assert float(z.grad.abs().min()) > 0


# Configurations and checkpoints


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"solver": "rk4"}, "solver"),
        ({"steps": 0}, "steps"),
        ({"groups": 3}, "groups"),
        ({"head": 16}, "head"),
        ({"size": 12}, "size"),
        ({"channels": [4, 8, 8, 8]}, "channels"),
        ({"channels": 4}, "channels"),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError) as caught:
        validated(FlowConfig, {**SMALL.to_json(), **changes}, "config.")
    word = "divide" if name in ("groups", "head") else "be"
    assert str(caught.value).startswith(f"config.{name} must {word} ")
    assert "\n" not in str(caught.value)


def test_saved_and_loaded_images_are_identical(tmp_path: Path) -> None:
    path, flow = tmp_path / "g.safetensors", small()
    save_generator(path, flow, {"trained": "never"})
    card = load_checkpoint(path, "generator").card
    assert card["architecture"] == "flow"
    assert card["config"] == SMALL.to_json()
    state = torch.get_rng_state()
    loaded, latent_dim = load_generator(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert latent_dim == 3 * 8 * 8
    z = torch.randn(3, latent_dim)
    with torch.no_grad():
        assert torch.equal(loaded(z), flow(z).clamp(-1, 1))
        again = read_generator(path).eval()
        assert torch.equal(again(z), flow(z))
        # What is set now, not at first, is what is saved.
        again.steps, again.solver = 5, "euler"
        save_generator(path, again, {})
        other = read_generator(path).eval()
        assert (other.steps, other.solver) == (5, "euler")
        assert torch.equal(other(z), again(z))
        assert not torch.equal(other(z), flow(z))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"solver": "rk4"}, "config.solver must be 'euler', 'heun' or 'midpoint', not 'rk4'"),
        ({"steps": "many"}, "config.steps must be a whole number"),
        ({"depth": 3}, "config.depth: there is no such key"),
        ({"channels": [4, 4]}, "has the shape"),
    ],
)
def test_a_card_that_is_wrong_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "g.safetensors"
    card = {"architecture": "flow", "config": {**SMALL.to_json(), **changes}}
    save_checkpoint(path, "generator", small().state_dict(), card)
    with pytest.raises(UsageError) as caught:
        load_generator(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_diffusers_is_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_generator(tmp_path / "g.safetensors", small(), {})
    monkeypatch.setitem(sys.modules, "diffusers", None)
    for made in (lambda: ImageFlow(SMALL), lambda: load_generator(tmp_path / "g.safetensors")):
        with pytest.raises(MissingPackageError, match=r"\[diffusers\]'$"):
            made()
