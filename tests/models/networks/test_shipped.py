"""Names of the trained generators that come with the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shapeshd.errors import UsageError
from shapeshd.models.methods import METHODS
from shapeshd.models.networks.shipped import find_shipped, shipped_models

FILE = "generator.safetensors"
TREE = ("small/vae", "small/ours/aae", "small/ours/gan", "small/plain/gan", "large/ours/aae")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for name in TREE:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / FILE).touch()
    (tmp_path / "small" / "other" / "aae").mkdir(parents=True)  # of an encoder alone
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("small/vae", "small/vae"),
        ("model:small/vae", "small/vae"),
        ("small/ours", "small/ours/gan"),
        ("model:small/ours/", "small/ours/gan"),
        ("small/ours/aae", "small/ours/aae"),
        ("small/plain", "small/plain/gan"),
        ("large/ours", "large/ours/aae"),
    ],
)
def test_a_name_is_a_phase_or_a_method_whose_last_phase_is_meant(
    weights: Path, name: str, found: str
) -> None:
    model = find_shipped(name, weights)
    assert (model.name, model.path) == (found, weights / found / FILE)
    assert model.text == f"model:{found}"


@pytest.mark.parametrize(
    "name", ["small", "", "ours", "small/other", "../small/vae", "small/ours/x"]
)
def test_a_wrong_name_is_told_all(weights: Path, name: str) -> None:
    with pytest.raises(UsageError) as told:
        find_shipped(name, weights)
    for model in TREE:
        assert f"model:{model}" in str(told.value)


def test_a_like_name_is_told(weights: Path) -> None:
    with pytest.raises(UsageError, match="mean model:small/plain"):
        find_shipped("small/plan", weights)
    with pytest.raises(UsageError, match="no trained generators"):
        find_shipped("small/vae", weights / "small" / "other")


def test_phases_are_in_their_order(weights: Path) -> None:
    names = [model.name for model in shipped_models(weights)]
    assert sorted(names) == sorted(TREE)
    assert names.index("small/ours/aae") < names.index("small/ours/gan")
    for method in METHODS.values():  # every phase of every method can be shipped
        for phase in method.phases:
            folder = weights / "all" / "method" / phase
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FILE).touch()
        assert find_shipped("all/method", weights).path.parent.name == method.phases[-1]
        for phase in method.phases:
            (weights / "all" / "method" / phase / FILE).unlink()


def test_names_are_known_before_pytorch_is_imported() -> None:
    code = (
        "import sys\n"
        "from shapeshd.benchmark.sources.open import check_source\n"
        "check_source('model:mini/vae')\n"
        "assert 'torch' not in sys.modules and 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
