"""Which earlier phases a run takes over, and which it refuses or trains anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import UsageError
from shapeshd.models.config_file import load_config
from shapeshd.models.training.files import ENCODER
from shapeshd.models.training.run import TrainingRun
from shapeshd.support.checkpoint import load_checkpoint, read_card, save_checkpoint
from tests import ROOT
from tests.support.tiny_models import SPEC, tiny_run
from tests.support.training_runs import PHASES, begun, contents

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTS = ROOT / "models" / "weights"
FEW: dict[str, Any] = {"checks": {"samples": 0, "final_samples": 0}}


def rewritten(path: Path, **changes: Any) -> None:
    """Change a checkpoint's card."""
    found = load_checkpoint(path)
    save_checkpoint(path, found.kind, found.tensors, {**found.card, **changes})


def test_a_phase_that_is_trained_anew_is_followed_by_those_after_it(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, out = whole / "factors", tmp_path / "run"
    changes = {**FEW, "vae": {"sigma": 0.5}, "start": start}
    results = tiny_run("factors", out, **changes).train_all(PHASES)
    assert list(results) == list(PHASES)
    assert "vae: " in capsys.readouterr().err
    for phase, before in (("aae", "vae"), ("gan", "aae")):
        assert results[phase]["origin"]["encoder"] == read_card(out / before / ENCODER)["sha256"]
    # The same command goes on with what is in its folder, whatever `start` has.
    again = tiny_run("factors", out, **changes).train_all(PHASES)
    assert again == results
    with pytest.raises(UsageError, match=r"vae\.sigma = 0\.5, not"):
        tiny_run("factors", out, **FEW, start=start).train_all(PHASES)


def test_phases_with_the_same_tables_are_taken(whole: Path, tmp_path: Path) -> None:
    changes = {**FEW, "gan": {"steps": 2}, "start": whole / "factors"}
    assert list(tiny_run("factors", tmp_path, **changes).train_all(PHASES)) == ["gan"]


def test_a_phase_2_of_another_phase_1_is_trained_anew(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = begun(tmp_path / "start", whole, "factors", "gan")
    assert tiny_run("factors", tmp_path / "run", start=start).has("aae")
    rewritten(start / "aae" / ENCODER, origin={"encoder": "0" * 64})
    run = tiny_run("factors", tmp_path / "run", start=start)
    assert run.has("vae") and not run.has("aae")
    assert "another phase vae" in capsys.readouterr().err
    shutil.rmtree(start / "vae")  # nothing to compare with
    assert run.has("aae")


@pytest.mark.parametrize("place", ["same", "other"])
@pytest.mark.parametrize(
    ("domain", "phase", "changes", "words"),
    [
        ("images", "aae", {"images": {"mapping_rate": 1.0}}, "images.mapping_rate = 0.1, not 1.0"),
        ("images", "gan", {"images": {"style_dim": 7}}, "images.style_dim = 6, not 7"),
        ("factors", "aae", {"codes": {"head_layers": 3}}, "codes.head_layers = 2, not 3"),
        ("factors", "gan", {"factors": {"width": 9}}, "factors.width = 8, not 9"),
    ],
)  # fmt: skip
def test_networks_of_other_settings_are_refused(
    place: str,
    domain: str,
    phase: str,
    changes: dict[str, Any],
    words: str,
    whole: Path,
    tmp_path: Path,
) -> None:
    """A mapping of another learning rate has tensors of the same shapes, and is another map."""
    out = begun(tmp_path / "run", whole, domain, phase)
    if place == "other":
        out, changes = tmp_path / "other", {**changes, "start": out}
    with pytest.raises(UsageError) as caught:
        tiny_run(domain, out, **changes).train(phase)
    before = PHASES[PHASES.index(phase) - 1]
    assert str(caught.value).startswith(f"{tmp_path / 'run' / before}: ")
    assert words in str(caught.value)
    assert not (out / phase).exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": RenderSpec(6, 96, 16)}, "data.seed = 5, not 6"),
        ({"source": RenderSpec(5, 90, 16)}, "data.images = 96, not 90"),
        ({"checks": {"held_out": 30}}, "held_out = 24, not 30"),
    ],
)  # fmt: skip
def test_other_data_are_refused_in_a_run_and_noted_of_another(
    changes: dict[str, Any],
    words: str,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = begun(tmp_path / "run", whole, "images", "aae")
    with pytest.raises(UsageError) as caught:
        tiny_run("images", out, **changes).train("aae")
    assert words in str(caught.value)
    assert not (out / "aae").exists()
    capsys.readouterr()
    changes = {**changes, "start": out, "aae": {"steps": 1}}
    assert tiny_run("images", tmp_path / "other", **changes).train("aae")["steps"] == 1
    assert "other data" in capsys.readouterr().err


def test_what_networks_and_data_do_not_depend_on_may_change(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = begun(tmp_path / "run", whole, "images", "gan")
    for file in (out / "vae" / ENCODER, out / "aae" / ENCODER):
        data = read_card(file)["data"]
        rewritten(file, data={**data, "name": "elsewhere", "renderer": "shapeshd twin 1"})
    changes = {"images": {"group": 2, "precision": "bf16"}, "codes": {"width": 5}}
    run = tiny_run("images", out, aae={"steps": 1}, gan={"steps": 1}, **changes)
    assert run.train("gan")["steps"] == 1
    shutil.rmtree(out / "aae")
    assert run.train("aae")["steps"] == 1
    assert "other data" not in capsys.readouterr().err


def test_shipped_phases_are_begun_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As docs/models.md does, but on few images."""
    images = RenderSpec(seed=4, count=80, size=32)
    few = ["aae.steps=1", "gan.steps=1", "gan.head_start=0", "checks.held_out=24"]
    few += ["checks.samples=0", "checks.final_samples=0", "checks.codes=24"]
    for phase, change, start in (
        ("aae", "aae.others=1", WEIGHTS / "mini"),
        ("gan", "aae.others=15", WEIGHTS / "mini" / "contrast"),
    ):
        config = load_config("mini", [*few, change])
        run = TrainingRun(config, images, tmp_path / phase, start=start, workers=0)
        assert run.train(phase)["steps"] == 1
        assert "other data" in capsys.readouterr().err
        with pytest.raises(UsageError, match=r"images\.mapping_rate = 1\.0, not 0\.5"):
            config = load_config("mini", [*few, change, "images.mapping_rate=0.5"])
            TrainingRun(config, images, tmp_path / "no", start=start, workers=0).train(phase)
    run = TrainingRun(load_config("mini", few[3:]), SPEC, tmp_path / "no", start=WEIGHTS / "mini")
    assert run.has("vae")


@pytest.mark.parametrize("phase", ["vae", "aae"])
def test_what_later_phases_began_with_is_not_trained_on(
    phase: str, whole: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(whole / "factors", tmp_path / "run")
    before = contents(out)
    longer = {**FEW, phase: {"steps": 20}}
    with pytest.raises(UsageError) as caught:
        tiny_run("factors", out, **longer).train_all(PHASES)
    assert f"{out / phase}: has 12 steps, and " in str(caught.value)
    assert f"leave {phase}.steps at 12" in str(caught.value)
    assert contents(out) == before
    for later in PHASES[PHASES.index(phase) + 1 :]:
        shutil.rmtree(out / later)
    assert tiny_run("factors", out, **longer).train(phase)["steps"] == 20


def test_a_start_holds_a_finished_phase(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: holds no finished phase to start from"):
        tiny_run("factors", tmp_path / "run", start=tmp_path / "empty")
    phase = whole / "factors" / "vae"
    with pytest.raises(UsageError, match=f"of a phase: give that of its run, {phase.parent}"):
        tiny_run("factors", tmp_path / "run", start=phase)


@pytest.mark.parametrize("name", ["vae", "flow"])
def test_a_start_that_is_not_used_is_noted(
    name: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = whole / "factors"
    tiny_run("factors", tmp_path / "run", **FEW, start=start).train_all([name])
    said = f"{name}: begins with no other phase: {start} is not used\n"
    assert capsys.readouterr().err == said
    tiny_run("factors", tmp_path / "other", **FEW, start=start).train_all(["aae"])
    assert "is not used" not in capsys.readouterr().err
