"""Each form of images to train on."""

from __future__ import annotations

from pathlib import Path

import pytest

from shapeshd.dataset.render_spec import RenderSpec
from tests.support.noise_dataset import write_noise_dataset
from tests.support.training_images import (
    SIZE,
    WRITERS,
    Source,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Where images of each kind are; tests must not change them."""
    made: dict[str, Path | RenderSpec] = {"render": RenderSpec(3, 64, 32, start=10)}

    def find(kind: str) -> Path | RenderSpec:
        if kind not in made:
            tmp = tmp_path_factory.mktemp(kind)
            if kind == "dataset":
                write_noise_dataset(tmp / "noise", 23, SIZE)
                made[kind] = tmp / "noise"
            else:
                made[kind] = WRITERS[kind](tmp)
        return made[kind]

    return find
