"""Our checkpoints as sources."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.benchmark.sources.networks import checkpoint
from shapeshd.benchmark.sources.open import check_source, find_kind
from shapeshd.errors import UsageError
from shapeshd.models import Generator, GeneratorConfig, load_generator, save_generator
from shapeshd.models.data.images import to_uint8
from shapeshd.models.networks.config import FlowConfig
from shapeshd.models.networks.flow import ImageFlow
from shapeshd.support.checkpoint import save_checkpoint
from tests.support.tanh_generator import (
    DIM,
    Tanh,
    check_cuts,
    expected_images,
    opened,
)


def test_checkpoint_of_a_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Tanh().eval()
    path = tmp_path / "g.safetensors"
    save_checkpoint(path, "generator", network.state_dict(), {})
    monkeypatch.setattr(checkpoint, "load_generator", lambda path, device: (network, DIM))

    with opened(path, "G") as source:
        check_cuts(source, expected_images(30), close=True)
        assert source.describe()["range_from"] == "stated"
    with pytest.raises(UsageError, match="leave range"):
        opened(path, "G", range="unit")
    with pytest.raises(UsageError, match="takes latents of 5"):
        opened(path, "G", latent_dim=4)
    save_checkpoint(tmp_path / "r.safetensors", "recognizer", network.state_dict(), {})
    with pytest.raises(UsageError, match="recognizer, not a generator"):
        opened(tmp_path / "r.safetensors", "R")
    save_file(network.state_dict(), path)
    with pytest.raises(UsageError, match=r"G: .*no card"):
        opened(path, "G")


def run_folder(folder: Path, *phases: str) -> Path:
    """Write what a run leaves: its configuration, sheets, and generators of these phases."""
    (folder / "vae" / "sheets").mkdir(parents=True)
    (folder / "vae" / "sheets" / "samples-0000010.png").write_bytes(b"PNG")
    (folder / "config.toml").write_text("")
    for number, phase in enumerate(phases):
        torch.manual_seed(number)
        network = Tanh()
        (folder / phase).mkdir(exist_ok=True)
        save_checkpoint(
            folder / phase / "generator.safetensors", "generator", network.state_dict(), {}
        )
    return folder


@pytest.mark.parametrize("phases", [("vae",), ("vae", "aae"), ("vae", "aae", "gan"), ("flow",)])
def test_a_run_is_the_generator_of_its_last_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phases: tuple[str, ...]
) -> None:
    loaded: list[Path] = []

    def load(path: Path, device: object) -> tuple[Tanh, int]:
        loaded.append(path)
        return Tanh().eval(), DIM

    monkeypatch.setattr(checkpoint, "load_generator", load)
    folder = run_folder(tmp_path / "run", *phases)
    file = folder / phases[-1] / "generator.safetensors"
    for path in (folder, folder / phases[-1]):
        with open_source(str(path)) as source:
            assert (source.name, source.kind) == (str(file), "checkpoint")
    assert loaded == [file, file]


def test_a_run_without_a_generator_or_with_two_is_refused(tmp_path: Path) -> None:
    begun = run_folder(tmp_path / "begun")
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "config.toml").write_text("[codes")  # the disk was full
    (cut / ".config.toml.tmp").touch()
    for path in (begun, begun / "vae", cut):
        with pytest.raises(UsageError, match="none of whose phases is finished"):
            check_source(str(path))
    both = run_folder(tmp_path / "both", "vae", "flow")
    with pytest.raises(UsageError, match=f"give {both / 'vae'} or {both / 'flow'}"):
        check_source(str(both))


def test_a_folder_of_images_is_none_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    assert find_kind(str(tmp_path)).name == "folder"
    Image.new("RGB", (8, 8)).save(tmp_path / "vae" / "a.png")
    assert find_kind(str(tmp_path / "vae")).name == "folder"


SMALL = FlowConfig(
    channels=(4, 8), layers=1, groups=2, attention=0, head=4, size=16, solver="heun", steps=3
)


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_generator(tmp_path / "flow.safetensors", ImageFlow(SMALL), {})
    return tmp_path / "flow.safetensors"


@pytest.mark.parametrize(
    ("options", "solver", "steps"),
    [
        ({}, "heun", 3),
        ({"steps": 5}, "heun", 5),
        ({"solver": "euler"}, "euler", 3),
        ({"solver": "midpoint", "steps": 1}, "midpoint", 1),
    ],
)
def test_a_flow_takes_the_solver_and_steps_of_the_options(
    flow: Path, options: dict[str, object], solver: str, steps: int
) -> None:
    chosen = SourceOptions(batch=4, **options)  # type: ignore[arg-type]
    with open_source(str(flow), seed=9, options=chosen) as source:
        found, said = source.images(2, 7), source.describe()
    assert (said["architecture"], said["solver"], said["steps"]) == ("flow", solver, steps)
    assert said["latent_dim"] == 3 * 16 * 16
    loaded, dim = load_generator(flow)
    network = loaded.network
    assert isinstance(network, ImageFlow)
    network.solver, network.steps = solver, steps  # type: ignore[assignment]
    with torch.no_grad():
        wanted = to_uint8(loaded(normal_latents(9, 0, 8, dim)))[2:7]
    assert (found.int() - wanted.int()).abs().max() <= 1
    assert len({image.numpy().tobytes() for image in found}) == 5


@pytest.mark.parametrize(("name", "value"), [("steps", 3), ("solver", "euler")])
def test_a_generator_that_takes_no_steps_says_so(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "g.safetensors"
    config = GeneratorConfig(
        size=8, latent_dim=3, style_dim=4, mapping_layers=1, channel_base=16, channel_max=4
    )
    save_generator(path, Generator(config), {})
    with pytest.raises(UsageError, match=rf"g\.safetensors: .*leave out {name}"):
        open_source(str(path), options=SourceOptions(**{name: value}))  # type: ignore[arg-type]


def test_a_solver_that_does_not_exist(flow: Path) -> None:
    with pytest.raises(UsageError, match=r"^solver must .*'rk4'"):
        open_source(str(flow), options=SourceOptions(solver="rk4"))  # type: ignore[arg-type]
