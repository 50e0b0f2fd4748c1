"""How a phase is evaluated: distances of codes from N(0, I) in closed form, and of whose codes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from shapeshd.models.training.domains.factors import KIND, FactorGenerator
from shapeshd.models.training.evaluator import Evaluator
from shapeshd.models.training.files import ENCODER, ENCODER_KIND, GENERATOR
from shapeshd.models.training.posterior import posterior_distance, sliced_wasserstein
from shapeshd.models.training.trainer import Trainer
from shapeshd.support.checkpoint import load_checkpoint
from tests.support.phases import (
    batch_of,
    new_phase,
    sample,
    stir,
)


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def directions_of(d: int, m: int) -> Tensor:
    directions = normal(d, m, seed=9)
    return directions / directions.norm(dim=0)


# Distances


def test_codes_of_a_known_normal_distribution() -> None:
    """Along a unit u, N(mu, S) is N(u mu, u S u), whose distance to N(0, 1) has a closed form."""
    mu = torch.tensor([0.5, -0.2, 0.0], dtype=torch.float64)
    root = torch.tensor([[1.5, 0, 0], [0.4, 0.8, 0], [0, -0.3, 1.0]], dtype=torch.float64)
    covariance = root @ root.T
    found = posterior_distance(mu + normal(15_000, 3) @ root.T)
    assert found.codes == 15_000
    assert found.mean == pytest.approx(float(mu.norm()), abs=0.035)
    assert found.covariance == pytest.approx(float((covariance - torch.eye(3)).norm()), abs=0.08)
    # Over all directions; 256 random ones are off by a few per cent.
    u = directions_of(3, 20_000)
    wide = ((u * (covariance @ u)).sum(0)).sqrt()
    squares = (u.T @ mu) ** 2 + (wide - 1) ** 2
    assert found.sliced == pytest.approx(float(squares.mean().sqrt()), rel=0.05)
    exact = sliced_wasserstein(mu + normal(100_000, 3) @ root.T, u[:, :20])
    assert exact == pytest.approx(float(squares[:20].mean().sqrt()), rel=0.02)


@given(st.floats(-3, 3), st.floats(0.1, 3), st.integers(2, 500))
def test_quantiles_that_are_shifted_and_stretched(shift: float, scale: float, n: int) -> None:
    """In one dimension, without chance: sqrt(shift^2 + (scale - 1)^2 of the quantiles' square)."""
    quantiles = norm.ppf((torch.arange(n).double().numpy() + 0.5) / n)
    codes = torch.from_numpy(shift + scale * quantiles)[:, None]
    for direction in (1.0, -1.0):
        found = sliced_wasserstein(codes, torch.full((1, 1), direction, dtype=torch.float64))
        second = float((quantiles**2).mean())
        expected = math.sqrt(shift**2 + (scale - 1) ** 2 * second)
        assert found == pytest.approx(expected, abs=1e-9)


def test_no_distance_is_at_the_floor() -> None:
    """Floors of mean and covariance are root mean squares over many draws of N(0, I)."""
    found = [posterior_distance(normal(300, 6, seed=seed)) for seed in range(1, 120)]
    for name in ("mean", "covariance", "sliced"):
        squares = [getattr(each, name) ** 2 for each in found]
        rms = math.sqrt(sum(squares) / len(squares))
        assert rms == pytest.approx(getattr(found[0], f"{name}_floor"), rel=0.07)
    assert found[0].mean_floor == pytest.approx(math.sqrt(6 / 300))
    assert found[0].covariance_floor == pytest.approx(math.sqrt(42 / 300))


def test_distances_see_what_only_the_tails_or_the_shape_tell() -> None:
    codes = normal(5_000, 2)
    uniform = math.sqrt(12) * (norm.cdf(codes) - 0.5)
    found = posterior_distance(torch.from_numpy(uniform))
    assert found.mean < 3 * found.mean_floor
    assert found.covariance < 3 * found.covariance_floor
    assert found.sliced > 4 * found.sliced_floor


def test_the_measurement_is_a_function_of_the_codes() -> None:
    codes = normal(300, 4, seed=3)
    torch.manual_seed(1)
    first = posterior_distance(codes).to_json()
    torch.manual_seed(2)
    assert posterior_distance(codes.float()).to_json() == pytest.approx(first, rel=1e-5)
    assert posterior_distance(codes[torch.randperm(300)]).to_json() == pytest.approx(first)
    assert json.loads(json.dumps(first)) == first
    assert posterior_distance(codes, seed=1).sliced != first["sliced"]


# The evaluator


def test_codes_are_those_of_held_out_data_by_the_average(tmp_path: Path) -> None:
    phase = new_phase("vae", checks={"codes": 17, "held_out": 24})
    stir(*phase.networks.values(), *phase.averages.values())
    asked: list[int] = []
    batches = phase.domain.batches

    def watched(rows: Any) -> Any:
        rows = list(rows)
        asked.extend(int(row) for some in rows for row in some)
        return batches(rows)

    phase.domain.batches = watched
    codes = Evaluator(phase, tmp_path).codes(5)
    assert codes is not None
    assert asked == list(range(100, 117))
    x = torch.cat(list(batches([torch.arange(100, 117)])))
    generator = phase.draws.generator(5, "held-out codes")
    drawn = torch.randn(17, 7, generator=generator)
    expected = sample(phase.averages["encoder"], x, drawn[:, :3], drawn[:, 3:])
    torch.testing.assert_close(codes, expected.detach())
    torch.testing.assert_close(Evaluator(phase, tmp_path).codes(5), codes)
    plain = new_phase("gan", gan={"paired": False, "from_autoencoder": False})
    assert Evaluator(plain, tmp_path).codes(0) is None
    assert "posterior" not in Evaluator(plain, tmp_path).check(1, last=True)


def test_codes_of_a_fixed_encoder_are_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, asked = Evaluator.codes, []

    def counted(self: Evaluator, step: int) -> Tensor | None:
        asked.append(step)
        return codes(self, step)

    monkeypatch.setattr(Evaluator, "codes", counted)
    for name, expected in (("gan", 1), ("vae", 3)):
        asked.clear()
        phase = new_phase(name, checks={"samples": 0, "final_samples": 0})
        evaluator = Evaluator(phase, tmp_path)
        found = [evaluator.check(step, last=step == 4)["posterior"] for step in (2, 3, 4)]
        found.append(evaluator.finish(4)["posterior"])
        assert len(asked) == expected
        assert (found[0] == found[1] == found[2]) == (name == "gan")
        assert found[2] == found[3]
    # A run that goes on finds the same.
    phase = new_phase("gan", checks={"final_samples": 0})
    assert (
        Evaluator(phase, tmp_path).finish(9)["posterior"]
        == (Evaluator(phase, tmp_path).finish(5)["posterior"])
    )


def test_what_is_saved_is_the_average(tmp_path: Path) -> None:
    phase = new_phase("aae", checks={"final_samples": 0})
    x, rows = batch_of(phase)
    phase.update(0, x, rows)
    trainer = Trainer(phase, tmp_path, {})
    trainer.step, trainer.seconds = 1, 2.34
    result = trainer.save_networks()
    assert (result["steps"], result["seconds"], result["device"]) == (1, 2.3, "cpu")
    assert "score" not in Evaluator(phase, tmp_path).finish(1)
    encoder = load_checkpoint(tmp_path / ENCODER, ENCODER_KIND)
    for key, value in phase.averages["encoder"].state_dict().items():
        assert torch.equal(encoder.tensors[key], value)
    made = load_checkpoint(tmp_path / GENERATOR, KIND)
    assert made.card["architecture"] == FactorGenerator.architecture
    again = FactorGenerator(**made.card["config"])
    again.load_state_dict(made.tensors)
    z = torch.randn(5, 4)
    torch.testing.assert_close(again(z), phase.averages["generator"](z))
    assert not torch.equal(again(z), phase.networks["generator"](z))


def test_a_check_is_brief_and_the_last_one_leaves_the_score_to_the_end(tmp_path: Path) -> None:
    phase = new_phase("vae", checks={"samples": 6000})
    evaluator = Evaluator(phase, tmp_path)
    found = evaluator.check(3, last=False)
    score = phase.domain.score(phase.generator, 6000, 7_000_000 + phase.config.seed)
    assert found["score"]["samples"] == 6000
    assert found["score"]["divergence"] == score["fit"]["divergence"]["value"]
    assert found["score"]["empty_bins"] == score["fit"]["empty_bins"]["observed"]
    assert len(found["score"]["parts"]) == len(score["parts"]["parts"])
    assert json.loads(json.dumps(found)) == found
    assert set(evaluator.check(3, last=True)) == {"posterior"}
    phase.group.rank = 1
    assert evaluator.check(3, last=False) == {}
