"""`verify --rerender --engine`: sets of one engine against the other one, with tolerance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shapeshd.dataset.manifest import write_manifest
from shapeshd.engines.povray import render_images
from shapeshd.errors import UsageError
from shapeshd.verify import verify_dataset
from tests.conftest import SIZE, render_small
from tests.support.damage import COUNT, Run, check, failed, problems, rewrite, shard
from tests.support.render_runs import contents

VALUES = SIZE * SIZE * 3


@pytest.fixture
def copies(rendered: Path, traced: Path, tmp_path: Path) -> dict[str, Path]:
    """Both datasets, to be damaged."""
    return {
        "povray": shutil.copytree(rendered, tmp_path / "povray"),
        "torch": shutil.copytree(traced, tmp_path / "torch"),
    }


def spoil(dataset: Path, image: int, values: int, by: int) -> None:
    """Move the first `values` values of an image of shard 1 by `by` levels."""

    def change(images: Any) -> Any:
        flat = images[image].reshape(-1)
        flat[:values] = np.where(flat[:values] < 128, flat[:values] + by, flat[:values] - by)
        return images

    rewrite(shard(dataset, 1), change_images=change)
    write_manifest(dataset, COUNT)


@pytest.mark.parametrize("engine", ["povray", "torch"])
def test_each_engine_confirms_the_other(copies: dict[str, Path], engine: str) -> None:
    dataset = copies["torch" if engine == "povray" else "povray"]
    result = verify_dataset(dataset, rerender=COUNT, engine=engine)
    assert result.passed
    found = check(result, "pixels")
    assert (found.values["engine"], found.values["rendered"]) == (engine, COUNT)
    assert found.values["installed_differs"] == []
    assert found.values["within_1"] > 0.999
    assert f"against the engine {engine}" in found.detail


def test_numbers_are_those_of_the_images(tmp_path: Path) -> None:
    """Against NumPy on what is stored and on what POV-Ray renders."""
    out = tmp_path / "out"
    render_small(out, engine="torch")
    spoil(out, image=3, values=15, by=5)  # 0.5% of 3072 is 15.4
    spoil(out, image=4, values=9, by=40)
    spoil(out, image=9, values=2000, by=1)
    stored, labels = contents(out)
    distance = np.abs(stored.astype(int) - render_images(labels, SIZE))
    result = verify_dataset(out, rerender=COUNT, engine="povray")
    assert result.passed
    found = check(result, "pixels").values
    for name, levels in (("equal", 0), ("within_1", 1), ("within_8", 8)):
        assert found[name] == pytest.approx((distance <= levels).mean(), abs=1e-12)
    assert found["mean_absolute_difference"] == pytest.approx(distance.mean(), rel=1e-12)
    assert found["worst_index"] == 23
    assert found["worst_beyond_1"] == pytest.approx((distance[23] > 1).mean())


@pytest.mark.parametrize("engine", ["povray", "torch"])
@pytest.mark.parametrize(
    ("values", "by", "passes"), [(VALUES, 1, True), (12, 2, True), (16, 2, False)]
)
def test_the_tolerance(
    copies: dict[str, Path], engine: str, values: int, by: int, passes: bool
) -> None:
    """1/255 anywhere, more in 0.5% of an image's values."""
    dataset = copies["torch" if engine == "povray" else "povray"]
    spoil(dataset, image=6, values=values, by=by)
    result = verify_dataset(dataset, rerender=COUNT, engine=engine)
    assert result.passed is passes
    if not passes:
        assert failed(result) == {"pixels"}
        text = problems(result, "pixels")
        assert text.startswith(f"{shard(dataset, 1)}: image 26 differs from that of the engine")
        assert "0.52% of its values by more than 1/255, where 0.5% may" in text
        assert check(result, "pixels").values["worst_index"] == 26
    assert not verify_dataset(dataset, rerender=COUNT).passed  # the dataset's own: exactly


def test_the_own_engine_is_exact_when_named(copies: dict[str, Path]) -> None:
    spoil(copies["torch"], image=0, values=1, by=1)
    result = verify_dataset(copies["torch"], rerender=COUNT, engine="torch")
    assert failed(result) == {"pixels"}
    assert problems(result, "pixels") == (
        f"{shard(copies['torch'], 1)}: image 20 differs from its re-render: "
        f"1 of {VALUES} values, by at most 1"
    )


def test_the_ray_tracer_checks_a_povray_set_without_povray(
    rendered: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAPESHD_POVRAY", "/nonexistent/povray")
    arguments = ["verify", rendered, "--rerender", 20, "--engine", "torch", "--json"]
    status, stdout, _ = run(*arguments)
    assert status == 0
    pixels = next(found for found in json.loads(stdout)["checks"] if found["name"] == "pixels")
    assert pixels["passed"] is True and pixels["values"]["rendered"] == 20
    assert pixels["values"]["worst_index"] in pixels["values"]["indices"]


def test_another_version_of_the_ray_tracer_is_said(copies: dict[str, Path]) -> None:
    for number in range(3):
        rewrite(
            shard(copies["torch"], number), renderer="shapeshd ray tracer 0", scene_sha256="0" * 64
        )
    write_manifest(copies["torch"], COUNT)
    found = check(verify_dataset(copies["torch"], rerender=2), "pixels")
    assert found.passed
    assert "with shapeshd ray tracer 1, but the dataset with shapeshd ray tracer 0" in found.detail
    assert "templates are not those" in found.detail
    found = check(verify_dataset(copies["torch"], rerender=2, engine="povray"), "pixels")
    assert len(found.values["installed_differs"]) == 1  # another engine is meant to differ


def test_wrong_arguments(rendered: Path) -> None:
    with pytest.raises(UsageError, match="--rerender"):
        verify_dataset(rendered, engine="torch")
    with pytest.raises(UsageError, match="blender"):
        verify_dataset(rendered, rerender=1, engine="blender")
