"""TorchScript files as sources: the module's own images, and one line for what is wrong."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from shapeshd.benchmark.sources.examine import is_torchscript
from shapeshd.errors import ShapesHDError, UsageError
from tests.support.tanh_generator import (
    DIM,
    Tanh,
    check_cuts,
    expected_images,
    near,
    opened,
)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torchscript") / "g.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(Tanh()).save(path)
    return path


def torchscript(path: Path, trust: bool = True, device: str = "cpu", **options: Any) -> Any:
    return opened(str(path), path.name, trust=trust, device=device, **options)


def test_torchscript_gives_the_module_s_own_images(scripted: Path) -> None:
    with torchscript(scripted) as source:
        assert (source.kind, source.count, source.name) == ("torchscript", None, "g.pt")
        check_cuts(source, expected_images(30), close=True)
        said = source.describe()
    assert said["latent_dim"] == DIM and said["range"] == "[-1, 1]" and said["seed"] == 3
    json.dumps(said)
    with torchscript(scripted) as another:  # a run that starts elsewhere
        assert near(another.images(22, 30), expected_images(30)[22:])
        assert not torch.is_inference(another.images(22, 30))


def test_torchscript_needs_trust(scripted: Path) -> None:
    with pytest.raises(UsageError, match=r"^g\.pt: .*TorchScript .*trust"):
        torchscript(scripted, trust=False)


def test_weights_alone_are_refused_and_not_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (marker,)

    torch.save({"w": torch.zeros(2), "trap": Trap()}, tmp_path / "w.pt")
    torch.save(Trap(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "text.pt").write_text("no archive")
    for name, message in [
        ("w.pt", "pickled weights"),
        ("old.pt", "is a pickle"),
        ("text.pt", "is no TorchScript"),
        ("none.pt", "no such file"),
    ]:
        with pytest.raises(UsageError, match=f"{name}: .*{message}"):
            torchscript(tmp_path / name)
        assert not is_torchscript(tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 6}, "5 values, not of 6"),
        ({"key": "images"}, "leave out key"),
        ({"timeout": 5.0}, "leave out timeout"),
        ({"device": "cuda:99"}, "device='cuda:99' .*PyTorch finds"),
        ({"device": "gpu"}, "device='gpu' cannot be used"),
    ],
    ids=str,
)
def test_torchscript_refuses(scripted: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        torchscript(scripted, **options)


def test_torchscript_that_fails_says_so_in_one_line(tmp_path: Path, scripted: Path) -> None:
    path = tmp_path / "traced.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.trace(Tanh().eval(), torch.zeros(2, DIM)).save(path)
    with pytest.raises(UsageError, match=r"^traced\.pt: .* give latent_dim"):
        torchscript(path)  # a traced module forgets its attributes
    with torchscript(path, latent_dim=9) as source:
        with pytest.raises(ShapesHDError) as caught:
            source.images(0, 3)
        message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message
    assert message.startswith("traced.pt: failed on latents (7, 9): RuntimeError: ")
    damaged = tmp_path / "damaged.pt"
    with zipfile.ZipFile(scripted) as whole, zipfile.ZipFile(damaged, "w") as copy:
        for entry in whole.namelist():
            code = "/code/" in entry and entry.endswith(".py")
            copy.writestr(entry, b"class no(" if code else whole.read(entry))
    with pytest.raises(ShapesHDError, match=r"^damaged\.pt: cannot be loaded"):
        torchscript(damaged)
