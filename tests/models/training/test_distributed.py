"""Many processes compute what one does: shares of batches, draws, means, and whole trainings.

As a program, ``torchrun --nproc-per-node 2 -m tests.models.training.test_distributed OUT`` is
tested.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.models.training import distributed
from shapeshd.models.training.distributed import Draws, Group, joined_group
from shapeshd.models.training.files import ENCODER, FEATURES, GENERATOR, RESULT
from shapeshd.models.training.trainer import Trainer
from shapeshd.support.training.loop import LOG
from tests.support.tiny_models import tiny_run
from tests.support.torchrun import torchrun
from tests.support.training_runs import TRAINED

CPU = torch.device("cpu")
SPEAKS, ENDS = "speaks.json", "ends.json"


# Shares and draws


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**63 - 1), st.integers(0, 2**40))
def test_the_parts_of_a_draw_are_the_whole(count: int, share: int, seed: int, step: int) -> None:
    batch = count * share
    whole = Draws(seed, CPU, Group())
    parts = [Draws(seed, CPU, Group(rank, count)) for rank in range(count)]
    drawn = torch.cat([part.normal(step, "x", batch, 3, 2) for part in parts])
    assert torch.equal(drawn, whole.normal(step, "x", batch, 3, 2))
    assert drawn.shape == (batch, 3, 2)
    times = torch.cat([part.times(step, "x", batch) for part in parts])
    assert torch.equal(times, whole.times(step, "x", batch))
    # A time in each of `batch` equal parts of [0, 1].
    places = (times.sort().values - times.min()) * batch
    torch.testing.assert_close(places, torch.arange(batch).float(), rtol=0, atol=1e-4)
    assert 0 <= float(times.min()) <= float(times.max()) <= 1
    rows = torch.cat([part.rows(step, "x", batch, 7) for part in parts])
    assert torch.equal(rows, whole.rows(step, "x", batch, 7))
    shares = [range(batch)[Group(rank, count).part(batch)] for rank in range(count)]
    assert [place for part in shares for place in part] == list(range(batch))


def test_draws_differ_by_seed_step_and_purpose() -> None:
    drawn = [
        Draws(seed, CPU, Group()).normal(step, what, 50_000)
        for seed in (0, 1) for step in (0, 1) for what in ("a", "b")
    ]  # fmt: skip
    correlations = torch.corrcoef(torch.stack(drawn)) - torch.eye(8)
    assert float(correlations.abs().max()) < 0.025
    for values in drawn:
        assert abs(float(values.mean())) < 0.025
        assert float(values.std()) == pytest.approx(1, abs=0.02)
    rows = Draws(0, CPU, Group()).rows(0, "a", 50_000, 5)
    assert torch.bincount(rows, minlength=5).tolist() == pytest.approx(5 * [10_000], rel=0.04)


def test_batches_that_cannot_be_shared() -> None:
    Group().check("vae.batch", 7)
    Group(0, 3).check("gan.batch", 24, 4)
    for group, batch, unit, words in (
        (Group(0, 3), 8, 1, "multiple of 3, not 8"),
        (Group(0, 3), 9, 4, "multiple of 12, not 9"),
        (Group(), 24, 16, "multiple of 16, not 24"),
    ):
        with pytest.raises(UsageError) as caught:
            group.check("gan.batch", batch, unit)
        assert str(caught.value).startswith(f"gan.batch must be a {words}")


def test_one_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with joined_group(CPU) as group:
        assert (group.rank, group.count, group.first) == (0, 1, True)
        value = torch.ones(3, requires_grad=True)
        assert group.mean(value) is value
        assert group.mean_with_gradient(value) is value
        group.wait()
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with joined_group(CPU) as group:  # torchrun with one process: there is nobody to talk to
        assert group.count == 1


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("Timed out waiting 86400000ms for recv operation to complete", "is too long in coming"),
        ("Application timeout caused pair closure", "is too long in coming"),
        ("Connection closed by peer [127.0.0.1]:4711", "has ended; it has said why"),
    ],
)
def test_one_that_is_late_is_not_said_to_have_ended(
    monkeypatch: pytest.MonkeyPatch, words: str, what: str
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError(f"[gloo/transport/tcp/pair.cc:534] {words}")  # as gloo words it

    monkeypatch.setattr("torch.distributed.all_reduce", fail)
    with pytest.raises(ShapesHDError) as caught:
        Group(0, 2).mean(torch.ones(1))
    assert "process 0 of 2" in str(caught.value)
    assert what in str(caught.value)


def test_the_others_wait_for_hours_while_the_first_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    @contextmanager
    def joined(_: str, timeout: timedelta) -> Iterator[tuple[int, int]]:
        asked.append(timeout)
        yield 0, 1

    monkeypatch.setattr(distributed, "process_group", joined)
    with joined_group(CPU):
        pass
    assert min(asked) >= timedelta(hours=12)


# Two processes


def main(out: Path) -> None:
    torch.set_num_threads(1)
    Trainer.log_steps = 1
    with joined_group(CPU) as group:
        said = speak(group)
        (out / f"{group.rank}-{SPEAKS}").write_text(json.dumps(said))
        for domain in ("factors", "images"):
            run = tiny_run(domain, out / domain, group=group)
            for phase in TRAINED:
                result = run.train(phase)
                assert bool(result) == group.first
        if not group.first:
            os._exit(0)  # the way of all processes that are killed
        try:
            group.mean(torch.ones(1))
        except ShapesHDError as error:
            (out / ENDS).write_text(json.dumps(str(error)))
        os._exit(0)


def speak(group: Group) -> dict[str, Any]:
    """What means and gradients come to, of values that differ between the processes."""
    mine = torch.tensor([1.0, 2.0]) * (group.rank + 1)
    network = nn.Linear(2, 1, bias=False)
    unused = nn.Linear(2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[3.0, 5.0]]))
    network(mine).sum().backward()
    group.average_gradients([*network.parameters(), *unused.parameters()])
    # Each process's loss is rank + 1 times the square of the common mean.
    values = mine.clone().requires_grad_(True)
    common = group.mean_with_gradient(values)
    ((group.rank + 1) * common.square().sum()).backward()
    group.wait()
    assert network.weight.grad is not None
    assert values.grad is not None
    return {
        "mean": group.mean(mine).tolist(),
        "untouched": mine.tolist(),
        "gradient": network.weight.grad.tolist(),
        "unused": unused.weight.grad,
        "common": common.tolist(),
        "through": values.grad.tolist(),
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two")
    torchrun("tests.models.training.test_distributed", out)
    return out


def test_means_and_gradients_of_two_processes(two: Path) -> None:
    for rank in (0, 1):
        said = json.loads((two / f"{rank}-{SPEAKS}").read_text())
        assert said["mean"] == said["common"] == [1.5, 3.0]
        assert said["untouched"] == [rank + 1.0, 2.0 * (rank + 1)]
        assert said["gradient"] == [[1.5, 3.0]]
        assert said["unused"] is None
        # (1 + 2) times 2 m, half of which each process has in m.
        assert said["through"] == [3 * 1.5, 3 * 3.0]


@pytest.mark.parametrize("phase", TRAINED)
@pytest.mark.parametrize("domain", ["factors", "images"])
def test_two_processes_train_as_one(whole: Path, two: Path, domain: str, phase: str) -> None:
    ours, theirs = (
        [json.loads(line) for line in (top / domain / phase / LOG).read_text().splitlines()]
        for top in (two, whole)
    )
    # Each step, two checks and the final score. A flow has no codes to check, and these images no
    # score.
    scored = domain == "factors"
    assert len(ours) == len(theirs) == 12 + {"flow": int(scored)}.get(phase, 2) + scored
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"seconds", "posterior", "score"}:
            assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-5), (a["step"], key)
    results = [json.loads((top / domain / phase / RESULT).read_text()) for top in (two, whole)]
    for key in results[1].keys() - {"seconds", "origin", "posterior", "score"}:
        assert results[0][key] == results[1][key]
    if "score" in results[1]:
        fits = [result["score"]["fit"] for result in results]
        assert fits[0]["samples"] == fits[1]["samples"]
    assert all(("posterior" in result) == (phase != "flow") for result in results)
    if phase != "flow":
        sliced = [result["posterior"]["sliced"] for result in results]
        assert sliced[0] == pytest.approx(sliced[1], rel=1e-3)


def test_the_first_process_alone_writes(whole: Path, two: Path) -> None:
    def files(top: Path) -> list[str]:
        return sorted(str(path.relative_to(top)) for path in top.rglob("*"))

    for domain in ("factors", "images"):
        assert files(two / domain) == files(whole / domain)
    assert (two / "images" / "aae" / FEATURES).exists()
    assert (two / "factors" / "aae" / ENCODER).exists()
    assert (two / "factors" / "gan" / GENERATOR).exists()


def test_a_fellow_that_has_ended_is_said_in_one_line(two: Path) -> None:
    words = json.loads((two / ENDS).read_text())
    assert words == "process 0 of 2: another one has ended; it has said why"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
