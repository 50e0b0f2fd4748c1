"""Published weights: downloaded once, checked by the digest in their names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from shapeshd.benchmark.fidelity.pretrained import networks
from shapeshd.benchmark.fidelity.pretrained.networks import fetch_checked, published_weights
from shapeshd.errors import ShapesHDError, UsageError

CONTENT = b"weights" * 1000
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files that were downloaded lie."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "home" / "hub" / "checkpoints"


def served(folder: Path, digits: str = DIGITS) -> str:
    """Return the address of a file of that name, which urllib can fetch without a network."""
    path = folder / f"net-{digits}.pth"
    path.write_bytes(CONTENT)
    return path.as_uri()


def test_a_file_is_downloaded_once(
    tmp_path: Path, hub: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = served(tmp_path)
    path = fetch_checked(url, "vgg:PATH")
    assert path == hub / f"net-{DIGITS}.pth"
    assert path.read_bytes() == CONTENT
    assert capfd.readouterr().err.startswith(f"downloading {url} to {hub}")
    (tmp_path / path.name).unlink()
    assert fetch_checked(url, "vgg:PATH") == path
    assert not capfd.readouterr().err


def test_another_content_is_not_kept(tmp_path: Path, hub: Path) -> None:
    url = served(tmp_path, "0" * 8)
    with pytest.raises(ShapesHDError, match="not the file that was published") as caught:
        fetch_checked(url, "vgg:PATH")
    assert "\n" not in str(caught.value)
    assert not list(hub.iterdir())


def test_a_digest_that_is_not_in_the_name(tmp_path: Path, hub: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    found = fetch_checked(path.as_uri(), "dinov2:PATH", digest, "kept.pth")
    assert found == hub / "kept.pth" and found.read_bytes() == CONTENT
    with pytest.raises(ShapesHDError, match=r"kept\.pth: is damaged"):
        fetch_checked(path.as_uri(), "dinov2:PATH", "0" * 64, "kept.pth")
    with pytest.raises(ShapesHDError, match="not the file that was published"):
        fetch_checked(path.as_uri(), "dinov2:PATH", "0" * 64)
    assert [file.name for file in hub.iterdir()] == ["kept.pth"]


def test_what_is_damaged_on_disk_is_refused(tmp_path: Path, hub: Path) -> None:
    path = fetch_checked(served(tmp_path), "vgg:PATH")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ShapesHDError, match="is damaged: delete it"):
        fetch_checked(served(tmp_path), "vgg:PATH")


def test_no_network(tmp_path: Path, hub: Path) -> None:
    url = (tmp_path / f"none-{DIGITS}.pth").as_uri()
    with pytest.raises(UsageError, match=r"cannot be downloaded.*vgg:PATH"):
        fetch_checked(url, "vgg:PATH")
    assert not list(hub.iterdir())


@pytest.mark.parametrize(
    ("kind", "name"),
    [("vgg", "vgg16-397923af.pth"), ("inception", "weights-inception-2015-12-05-6726825d.pth")],
)
def test_the_published_files(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "inception":
        pytest.importorskip("torch_fidelity")
    asked: list[str] = []

    def fetch(url: str, otherwise: str) -> Path:
        asked.append(otherwise)
        return Path(url)

    monkeypatch.setattr(networks, "fetch_checked", fetch)
    assert published_weights(kind).name == name
    assert asked == [f"{kind}:PATH"]
