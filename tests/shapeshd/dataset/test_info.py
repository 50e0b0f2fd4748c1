"""`info` on a real dataset, on damaged and foreign ones, and on a file like 3dshapes.h5."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from shapeshd.dataset.info import describe_dataset
from shapeshd.dataset.manifest import write_manifest
from shapeshd.engines.povray import scene_digest
from shapeshd.errors import DamagedShardError, UsageError
from shapeshd.factors import NAMES, uniform_factors
from shapeshd.scene.sampling import GridSampling
from shapeshd.scene.version import SCENE_VERSION

Run = Callable[..., tuple[int, str, str]]


def write_file(path: Path, count: int = 60, *, labels_name: str = "labels") -> Path:
    """Write an HDF5 file in the form of 3dshapes.h5, 8 rows by 6 columns of pixels."""
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((count, 8, 6, 3), np.uint8)
        file[labels_name] = GridSampling().factors(0, count)
    return path


def test_a_dataset(rendered: Path) -> None:
    found = describe_dataset(rendered)
    labels = uniform_factors(0, 0, 50)
    assert (found["available"], found["asked"], found["complete"]) == (50, 50, True)
    assert (found["shards"], found["gaps"], found["height"], found["width"]) == (3, [], 32, 32)
    assert found["bytes"] == sum(path.stat().st_size for path in (rendered / "shards").iterdir())
    assert found["provenance"]["shard_size"] == 20
    assert found["provenance"]["scene_sha256"] == scene_digest()
    assert found["templates_installed"] is True
    manifest = json.loads((rendered / "manifest.json").read_text())
    assert found["scene_version"] == manifest["scene_version"] == SCENE_VERSION
    assert [factor["name"] for factor in found["factors"]] == list(NAMES)
    for column, factor in enumerate(found["factors"]):
        values = labels[:, column]
        assert (factor["min"], factor["max"]) == (min(values), max(values))
        assert factor["mean"] == pytest.approx(sum(values) / 50)
        assert factor["distinct"] == len(set(values))
    counts = found["factors"][4]["counts"]
    assert list(counts.values()) == [list(labels[:, 4]).count(shape) for shape in range(4)]
    assert list(counts) == ["cube", "cylinder", "sphere", "capsule"]


def test_other_templates_are_told(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shapeshd.engines.povray.scene_digest", lambda: "0" * 64)
    assert describe_dataset(rendered)["templates_installed"] is False


def test_an_incomplete_dataset(rendered: Path, tmp_path: Path) -> None:
    data = shutil.copytree(rendered, tmp_path / "data")
    (data / "shards" / "shard-000001.h5").unlink()
    # With the old manifest, which still lists the shard, and with one that does not.
    for _ in range(2):
        found = describe_dataset(data)
        assert (found["available"], found["asked"], found["complete"]) == (30, 50, False)
        assert found["gaps"] == [[20, 40]] and found["shards"] == 2
        write_manifest(data, 50)
    (data / "manifest.json").unlink()
    found = describe_dataset(data)
    assert (found["available"], found["asked"], found["complete"]) == (30, None, False)


def test_a_damaged_header_is_named(rendered: Path, tmp_path: Path) -> None:
    data = shutil.copytree(rendered, tmp_path / "data")
    (data / "shards" / "shard-000001.h5").write_bytes(b"nothing")
    with pytest.raises(DamagedShardError, match=r"shard-000001\.h5"):
        describe_dataset(data)


def test_a_file_like_3dshapes(tmp_path: Path) -> None:
    path = write_file(tmp_path / "3dshapes.h5", 70)
    found = describe_dataset(path)
    assert (found["kind"], found["available"]) == ("file", 70)
    assert (found["height"], found["width"]) == (8, 6)
    assert found["bytes"] == path.stat().st_size and found["virtual"] is False
    # 70 rows of the grid: orientation fastest (15 values), then shape (4), then scale.
    assert [factor["distinct"] for factor in found["factors"]] == [1, 1, 1, 2, 4, 15]


def test_the_virtual_file_of_a_dataset(rendered: Path) -> None:
    found = describe_dataset(rendered / "dataset.h5")
    assert (found["available"], found["virtual"]) == (50, True)
    assert found["factors"] == describe_dataset(rendered)["factors"]


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("images")
        file["labels"] = np.zeros((3, 6))
    with h5py.File(tmp_path / "channels.h5", "w") as file:
        file["images"] = np.zeros((3, 3, 8, 8), np.uint8)
        file["labels"] = np.zeros((3, 6))
    with h5py.File(tmp_path / "counts.h5", "w") as file:
        file["images"] = np.zeros((3, 8, 8, 3), np.uint8)
        file["labels"] = np.zeros((4, 6))
    write_file(tmp_path / "names.h5", labels_name="other")
    (tmp_path / "empty").mkdir()
    names = ("text.h5", "group.h5", "channels.h5", "counts.h5", "names.h5", "empty", "none")
    for name in names:
        with pytest.raises(UsageError, match=name):
            describe_dataset(tmp_path / name)


def test_the_command_line(rendered: Path, tmp_path: Path, run: Run) -> None:
    status, output, _ = run("info", rendered)
    assert status == 0
    for text in ("50, complete", "32x32 pixels", "uniform, seed 0", "POV-Ray", "(as installed)"):
        assert text in output
    status, output, _ = run("info", rendered, "--json")
    assert status == 0 and json.loads(output) == describe_dataset(rendered)

    data = shutil.copytree(rendered, tmp_path / "data")
    (data / "shards" / "shard-000001.h5").unlink()
    status, output, _ = run("info", data)
    assert status == 0 and "30 of 50; missing: 20-39" in output

    status, output, _ = run("info", write_file(tmp_path / "3dshapes.h5"))
    assert status == 0 and "6x8 pixels" in output and "seed" not in output
    status, output, message = run("info", tmp_path / "none")
    assert (status, output) == (2, "") and "no such file" in message


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"size": 32', '"size": -4', "provenance.size"),
        ('"size": 32', '"size": 4000000000', "provenance.size"),
        ('"antialias": 0.3', '"antialias": -3.0', "provenance.antialias"),
        ('"antialias_depth": 3', '"antialias_depth": 99', "provenance.antialias_depth"),
        ('"count": 50', f'"count": {10**30}', "count"),
        ('"count": 50', '"count": -1', "count"),
        ('"first_index": 20', f'"first_index": {10**20}', "shards.1.first_index"),
        ('"count": 20', '"count": 21', "shards/shard-000000.h5 holds 21 images, but it holds 20"),
        ("shards/shard-000000.h5", "../shard-000000.h5", "shards.0.file"),
    ],
)
def test_a_manifest_of_impossible_values_is_refused_by_field(
    rendered: Path, tmp_path: Path, old: str, new: str, field: str
) -> None:
    data = shutil.copytree(rendered, tmp_path / "data")
    text = (data / "manifest.json").read_text(encoding="utf-8")
    assert old in text
    (data / "manifest.json").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        describe_dataset(data)
    assert field in str(refused.value)
    assert "delete it" in str(refused.value)
