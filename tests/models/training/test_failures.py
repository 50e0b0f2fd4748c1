"""Runs that diverge, run out of memory, or cannot begin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.models.training.aae import AAEPhase
from shapeshd.models.training.files import (
    ENCODER,
)
from shapeshd.models.training.gan import GANPhase
from shapeshd.models.training.vae import VAEPhase
from shapeshd.support.checkpoint import load_checkpoint, read_card
from shapeshd.support.training.loop import STATE_KIND
from tests.support.tiny_models import tiny_run
from tests.support.training_runs import (
    PHASES,
    STATE,
    begun,
    same_phase,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def poisoned(at: int) -> Callable[..., dict[str, Tensor]]:
    """Return an update after whose step `at` a weight of G is no number."""
    update = VAEPhase.update

    def poison(self: Any, step: int, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
        values = update(self, step, x, rows)
        if step == at:
            with torch.no_grad():
                self.networks["generator"].body.first.weight[0, 0] = float("nan")
        return values

    return poison


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (7, ["loss is nan", "step 9", "vae.learning_rate", "after step 6 stays in {folder}"]),
        (2, ["loss is nan", "step 4", "vae.learning_rate", "nothing had been saved"]),
        # The loss of the last step is still a number.
        (11, ["generator.body.first.weight", "step 12", "vae.learning_rate", "step 6 stays"]),
    ],
)  # fmt: skip
def test_what_is_no_number_ends_a_run_and_is_not_saved(
    at: int, words: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(VAEPhase, "update", poisoned(at))
        with pytest.raises(ShapesHDError) as caught:
            tiny_run("factors", out).train("vae")
    assert all(word.format(folder=out / "vae") in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
    assert (out / "vae" / STATE).exists() == (at != 2)
    if at != 2:
        state = load_checkpoint(out / "vae" / STATE, STATE_KIND)
        assert state.card["step"] == 6
        assert all(bool(torch.isfinite(value).all()) for value in state.tensors.values())
    tiny_run("factors", out).train("vae")
    same_phase(out, whole / "factors", "vae")


OOM = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 1 GiB"


@pytest.mark.parametrize(
    ("phase", "error", "words"),
    [
        ("vae", torch.OutOfMemoryError(OOM), "lower vae.batch (8) with --set"),
        ("aae", torch.OutOfMemoryError(OOM), "lower aae.batch (8) or aae.codes (32) with --set"),
        ("gan", RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate "
                             "9 bytes. Error code 12"), "lower gan.batch (8) with --set"),
    ],
)  # fmt: skip
def test_out_of_memory(
    phase: str,
    error: Exception,
    words: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise error

    kind = {"vae": VAEPhase, "aae": AAEPhase, "gan": GANPhase}[phase]
    monkeypatch.setattr(kind, "update", full)
    with pytest.raises(ShapesHDError) as caught:
        tiny_run("factors", begun(tmp_path / "run", whole, "factors", phase)).train(phase)
    assert str(caught.value).startswith("out of memory at step 0 (")
    assert str(caught.value).endswith(words)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_another_error_is_not_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("unsupported memory format option Preserve")

    monkeypatch.setattr(VAEPhase, "update", broken)
    with pytest.raises(RuntimeError, match="unsupported memory format"):
        tiny_run("factors", tmp_path / "run").train("vae")


def test_an_earlier_phase_is_missing(whole: Path, tmp_path: Path) -> None:
    run = tiny_run("factors", tmp_path / "run")
    for phase, before in (("aae", "vae"), ("gan", "aae")):
        folder = tmp_path / "run" / before
        with pytest.raises(UsageError) as caught:
            run.train(phase)
        said = str(caught.value)
        assert said.startswith(f"{folder}: ")
        assert f"shapeshd train {before}" in said and "--from" in said
    start = begun(tmp_path / "start", whole, "factors", "aae")
    run = tiny_run("factors", tmp_path / "run", start=start)
    assert run.has("vae")
    assert not run.has("aae")
    with pytest.raises(UsageError, match=f"{start / 'aae'}: .*no finished phase"):
        run.train("gan")
    run.train("aae")
    # The GAN begins with the AAE that has just been trained beside it, not with `start`'s.
    assert run.train("gan")["origin"]["encoder"] == read_card(run.out / "aae" / ENCODER)["sha256"]


@pytest.mark.parametrize(
    ("domain", "changes", "words"),
    [
        ("images", {"vae": {"batch": 80}}, "vae takes 80"),
        ("factors", {"factors": {"images": 7}}, "vae takes 8"),
        ("images", {"checks": {"held_out": 96}}, "checks.held_out"),
    ],
)  # fmt: skip
def test_too_few_images(tmp_path: Path, domain: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        tiny_run(domain, tmp_path / "run", **changes).train("vae")
    assert words in str(caught.value) and "too few" in str(caught.value)


def test_codes_stand_in_rings(whole: Path, tmp_path: Path) -> None:
    def run(**aae: Any) -> Any:
        return tiny_run("factors", tmp_path / "run", start=whole / "factors", aae=aae)

    with pytest.raises(UsageError, match=r"aae\.codes .*16, not 24"):
        run(codes=24).train("aae")
    run(codes=24, discriminator="plain", steps=1).train("aae")


@pytest.mark.parametrize(
    ("domain", "changes", "words"),
    [
        ("factors", {"aae": {"codes": 1000}}, "aae.codes must be a multiple of 16"),
        ("factors", {"gan": {"augment": "safe"}}, "gan.augment = 'safe'"),
        ("images", {"gan": {"augment": "all"}}, "gan.augment = 'all': "),
        ("images", {"gan": {"batch": 6}}, "gan.batch must be a multiple of 4"),
        ("images", {"gan": {"batch": 76}}, "a batch of gan takes 76"),
    ],
)  # fmt: skip
def test_what_a_later_phase_cannot_do_is_said_before_the_first(
    tmp_path: Path, domain: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        tiny_run(domain, tmp_path / "run", **changes).train_all(PHASES)
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_batch_of_factors_needs_no_groups(tmp_path: Path) -> None:
    tiny_run("factors", tmp_path, gan={"batch": 6}).check("gan")
