"""A saved pipeline, and no network."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DDPM pipeline; tests must not change it."""
    from tests.support.diffusers_pipelines import PIPELINES  # skips where diffusers is missing

    folder = tmp_path_factory.mktemp("diffusers") / "ddpm"
    PIPELINES["DDPM"]().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(saved, tmp_path / "ddpm")
