"""A generator whose latent space is searched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.projections import (
    save_small,
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_small(tmp_path / "generator.safetensors")
