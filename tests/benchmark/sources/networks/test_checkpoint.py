"""Our checkpoints as sources."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from shapeshd.benchmark.sources.networks import checkpoint
from shapeshd.errors import UsageError
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
