"""A small dataset of noise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.noise_dataset import COUNT, write_noise_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    write_noise_dataset(folder, COUNT)
    return folder


@pytest.fixture
def own_folder(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "set"))
