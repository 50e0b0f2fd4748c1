"""Fixtures: real datasets, rendered by POV-Ray once a session."""

from __future__ import annotations

import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from shapeshd.cli.main import main
from shapeshd.render.plan import plan_render
from shapeshd.render.run import RenderResult, run_render
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import UniformSampling

COUNT, SIZE, SHARD_SIZE, SEED = 50, 32, 20, 0

# How long an example takes says nothing on a machine that does other work beside.
hypothesis.settings.register_profile("shapeshd", deadline=None)
hypothesis.settings.load_profile("shapeshd")


def heed_ctrl_c() -> None:
    """Let a child process hear SIGINT, which a shell's background jobs inherit as ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As processes that train do: sums are cut by the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def render_small(out: Path, **changes: Any) -> RenderResult:
    """Render 50 images of 32 pixels in shards of 20, or with `changes`, in this process."""
    plan = plan_render(
        out,
        changes.pop("sampling", None) or UniformSampling(changes.pop("seed", SEED)),
        changes.pop("count", COUNT),
        changes.pop("options", None) or RenderOptions(changes.pop("size", SIZE)),
        engine=changes.pop("engine", "povray"),
        shard_size=changes.pop("shard_size", SHARD_SIZE),
        compression=changes.pop("compression", "gzip"),
        shards=changes.pop("shards", (None, None)),
    )
    return run_render(plan, backend=changes.pop("backend", "threading"), **changes)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each test has a cache of its own, which is made when something is kept there."""
    place = tmp_path_factory.getbasetemp() / "caches" / uuid.uuid4().hex
    monkeypatch.setenv("SHAPESHD_CACHE", str(place))


@pytest.fixture(autouse=True, scope="session")
def _own_hugging_face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hugging Face's datasets, which is imported in tests alone, writes nothing into the home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.getbasetemp() / "hugging-face"))
        yield


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset; tests must not change it."""
    out = tmp_path_factory.mktemp("rendered") / "data"
    render_small(out)
    return out


@pytest.fixture(scope="session")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same dataset by the PyTorch ray tracer; tests must not change it."""
    out = tmp_path_factory.mktemp("traced") / "data"
    render_small(out, engine="torch")
    return out


@pytest.fixture
def data(rendered: Path, tmp_path: Path) -> Path:
    """A copy of the real dataset, to be damaged."""
    return shutil.copytree(rendered, tmp_path / "data")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: (exit status, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call
