"""`verify` against each kind of damage to the files of a real dataset (see conftest)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from shapeshd.dataset.manifest import write_manifest
from shapeshd.dataset.shards import shard_name
from shapeshd.errors import UsageError
from shapeshd.factors import NAMES, uniform_factors
from shapeshd.verify import verify_dataset
from tests.support.damage import (
    COUNT,
    SIZE,
    Run,
    check,
    failed,
    flip_bit,
    pixel_offset,
    problems,
    rewrite,
    shard,
)


def test_a_sound_set_passes_every_check(rendered: Path) -> None:
    result = verify_dataset(rendered, rerender=COUNT + 1)
    assert result.passed and not result.notes
    assert (result.images, result.shards) == (COUNT, 3)
    assert {found.name for found in result.checks if found.passed} == {
        "digests", "provenance", "file names", "shard sizes", "gaps and doubles", "manifest",
        "dataset.h5", "label ranges", "labels", "uniformity", "pixels",
    }  # fmt: skip
    assert check(result, "pixels").values["indices"] == list(range(COUNT))
    assert check(result, "pixels").values["installed_differs"] == []


def test_processes_do_not_change_the_result(data: Path) -> None:
    flip_bit(shard(data, 1), pixel_offset(shard(data, 1), 3))
    assert verify_dataset(data, jobs=2) == verify_dataset(data, jobs=1)


def test_flipped_bits_are_found_in_every_shard_that_has_one(data: Path) -> None:
    flip_bit(shard(data, 0), pixel_offset(shard(data, 0), 7))
    flip_bit(shard(data, 2), 0)  # no HDF5 file any more
    result = verify_dataset(data)
    assert failed(result) == {"digests"}
    assert len(check(result, "digests").problems) == 2
    assert str(shard(data, 0)) in problems(result, "digests")
    assert str(shard(data, 2)) in problems(result, "digests")
    assert result.images == 20


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_truncation_is_found(data: Path, keep: float) -> None:
    content = shard(data, 1).read_bytes()
    shard(data, 1).write_bytes(content[: int(keep * len(content))])
    result = verify_dataset(data)
    assert {"digests", "manifest"} <= failed(result)
    assert str(shard(data, 1)) in problems(result, "digests")
    assert "gaps and doubles" not in failed(result)  # the damaged shard keeps its place


def test_a_shard_without_its_attributes_is_damage_and_no_crash(data: Path) -> None:
    with h5py.File(shard(data, 1), "a") as file:
        del file.attrs["images_sha256"]
    assert str(shard(data, 1)) in problems(verify_dataset(data), "digests")


@pytest.mark.parametrize(("number", "missing"), [(0, "0 to 19"), (1, "20 to 39"), (2, "40 to 49")])
def test_a_missing_shard_is_a_gap(data: Path, number: int, missing: str) -> None:
    shard(data, number).unlink()
    result = verify_dataset(data)
    assert {"gaps and doubles", "manifest"} <= failed(result)
    assert problems(result, "gaps and doubles").endswith(f"no shard holds the images {missing}")
    assert str(shard(data, number)) in problems(result, "manifest")


def test_an_incomplete_set_fails_for_its_gap_alone(data: Path) -> None:
    shard(data, 1).unlink()
    (data / "dataset.h5").unlink()
    write_manifest(data, COUNT)
    result = verify_dataset(data)
    assert failed(result) == {"gaps and doubles"}
    assert check(result, "dataset.h5").passed is None


def test_a_doubled_shard_is_found(data: Path) -> None:
    shutil.copy(shard(data, 1), shard(data, 3))
    result = verify_dataset(data)
    assert failed(result) == {"file names", "gaps and doubles", "manifest"}
    assert problems(result, "gaps and doubles") == (
        f"{shard(data, 3)}: the images 20 to 39 are also in {shard_name(1)}"
    )


def test_swapped_shards_are_found(data: Path) -> None:
    shard(data, 0).rename(data / "aside")
    shard(data, 1).rename(shard(data, 0))
    (data / "aside").rename(shard(data, 1))
    result = verify_dataset(data)
    assert failed(result) == {"file names", "manifest", "dataset.h5"}
    assert len(check(result, "file names").problems) == 2


def test_a_shard_that_is_not_full_is_found(data: Path) -> None:
    rewrite(shard(data, 1), change_labels=lambda labels: labels[:12])
    write_manifest(data, COUNT)
    result = verify_dataset(data)
    assert failed(result) == {"shard sizes", "gaps and doubles"}
    assert "holds 12 images from 20 on, not 20" in problems(result, "shard sizes")
    assert "no shard holds the images 32 to 39" in problems(result, "gaps and doubles")


def test_a_shard_of_another_dataset_is_found(data: Path) -> None:
    rewrite(shard(data, 1), seed=1)
    result = verify_dataset(data)
    assert "provenance" in failed(result)
    assert problems(result, "provenance").startswith(f"{shard(data, 1)}: belongs to another")
    assert "seed is 1, not 0" in problems(result, "provenance")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": 60}, "images 50 to 59"),
        ({"available": 49}, "available = 50"),
        ({"complete": False}, "complete = True"),
        ({"shards": []}, "is not in manifest.json"),
        ({"format": "other"}, "format"),
        ({"format_version": 2}, "format_version"),
        ({"shards": 3}, "shards"),
        ({"count": "many"}, "count"),
    ],
)
def test_a_wrong_manifest_is_found(data: Path, change: dict[str, Any], said: str) -> None:
    path = data / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    result = verify_dataset(data)
    assert failed(result) & {"manifest", "gaps and doubles"}
    assert said in problems(result, "manifest") + problems(result, "gaps and doubles")


@pytest.mark.parametrize("field", ["bytes", "first_index", "count", "images_sha256"])
def test_a_wrong_entry_of_the_manifest_is_found(data: Path, field: str) -> None:
    path = data / "manifest.json"
    value = json.loads(path.read_text())
    value["shards"][1][field] = "0" * 64 if field == "images_sha256" else 7
    path.write_text(json.dumps(value))
    result = verify_dataset(data)
    assert f"{shard(data, 1)}: {field} is" in problems(result, "manifest")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("provenance", "seed"), "zero"),
        (("provenance", "size"), -4),
        (("provenance", "shard_size"), 0),
        (("count",), -1),
        (("shards", 1, "count"), -5),
        (("format_version",), True),
    ],
)
def test_what_is_wrong_in_a_manifest_is_named_in_one_line(
    run: Run, data: Path, place: tuple[str | int, ...], value: Any
) -> None:
    path = data / "manifest.json"
    manifest = json.loads(path.read_text())
    inner = manifest
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(manifest))
    status, _, stderr = run("export", data, data.parent / "out", "--format", "folder")
    assert status == 2
    assert str(path) in stderr and ".".join(map(str, place)) in stderr
    assert len(stderr.splitlines()) == 1


def test_a_missing_manifest_is_found(data: Path) -> None:
    (data / "manifest.json").unlink()
    result = verify_dataset(data)
    assert failed(result) == {"manifest"} and "is missing" in problems(result, "manifest")


def test_a_missing_virtual_file_is_found(data: Path) -> None:
    (data / "dataset.h5").unlink()
    assert failed(verify_dataset(data)) == {"dataset.h5"}


@pytest.mark.parametrize("damage", ["text", "shape", "zeros"])
def test_a_wrong_virtual_file_is_found(data: Path, damage: str) -> None:
    (data / "dataset.h5").unlink()
    if damage == "text":
        (data / "dataset.h5").write_text("nothing")
    else:
        count = COUNT - (damage == "shape")
        with h5py.File(data / "dataset.h5", "w") as file:
            file["images"] = np.zeros((count, SIZE, SIZE, 3), np.uint8)
            file["labels"] = uniform_factors(0, 0, count)
    assert failed(verify_dataset(data)) == {"dataset.h5"}


def test_a_leftover_work_folder_is_a_note(data: Path, run: Run) -> None:
    (data / ".work").mkdir()
    status, output, _ = run("verify", data)
    assert status == 0 and f"note: {data / '.work'}" in output


def test_wrong_arguments(rendered: Path, tmp_path: Path, run: Run) -> None:
    for wrong in (tmp_path, tmp_path / "none", rendered / "manifest.json"):
        status, output, message = run("verify", wrong)
        assert status == 2 and not output and str(wrong) in message
    (tmp_path / "table.csv").write_text(",".join(NAMES) + "\n0,0,0,1,0,0\n")
    assert run("verify", rendered, "--factors", tmp_path / "table.csv")[0] == 2
    assert run("verify", rendered, "--rerender", "-1")[0] == 2
    with pytest.raises(UsageError):
        verify_dataset(rendered, jobs=0)


def test_the_command_line_tells_people_and_programs(data: Path, run: Run) -> None:
    status, output, _ = run("verify", data)
    assert status == 0 and output.endswith("all checks passed\n")
    assert "ok      digests" in output and "FAILED" not in output

    flip_bit(shard(data, 1), pixel_offset(shard(data, 1), 0))
    status, output, _ = run("verify", data)
    assert status == 1 and "FAILED  digests" in output and output.endswith("FAILED: digests\n")
    status, output, _ = run("verify", data, "--json")
    result = json.loads(output)
    assert status == 1 and result["passed"] is False and result["images"] == 30
    found = {entry["name"]: entry for entry in result["checks"]}
    assert found["digests"]["passed"] is False and found["manifest"]["passed"] is True
    assert str(shard(data, 1)) in found["digests"]["problems"][0]
    assert found["pixels"]["passed"] is None


def test_the_shards_to_render_again_are_named_as_render_takes_them(run: Run, data: Path) -> None:
    assert verify_dataset(data).render_again == ()
    shard(data, 0).unlink()
    shard(data, 2).rename(data / "elsewhere.h5")
    assert verify_dataset(data).render_again == ("0:1", "2:3")
    with shard(data, 1).open("r+b") as file:
        file.truncate(500)
    result = verify_dataset(data)
    assert result.render_again == ("0:3",)
    assert result.to_json()["render_again"] == ("0:3",)
    status, out, _ = run("verify", data)
    assert status == 1
    assert "with --shards 0:3" in out
