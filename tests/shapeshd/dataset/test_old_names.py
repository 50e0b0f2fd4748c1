"""Datasets that were rendered before the distribution and the ray tracer had their names."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from shapeshd.dataset.manifest import load_manifest
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.dataset.shards import list_shards, read_header
from shapeshd.distribution import Distribution
from shapeshd.scene.sampling import DistributionSampling
from shapeshd.verify import verify_dataset
from tests.conftest import render_small
from tests.support.damage import Run, failed

OLD_NAMES = {
    "sampling": ("distribution", "law"),
    "renderer": ("shapeshd ray tracer 1", "shapeshd twin 1"),
}


@pytest.fixture
def sampling() -> DistributionSampling:
    return DistributionSampling(Distribution.from_json({"shape": {"weights": [1, 1, 0, 1]}}), 3)


@pytest.fixture
def old(tmp_path: Path, sampling: DistributionSampling) -> Path:
    """A set as ``shapeshd render --engine torch --law FILE`` of commit 8dc664a wrote it."""
    out = tmp_path / "old"
    render_small(out, engine="torch", sampling=sampling, count=30)
    for path in list_shards(out):
        with h5py.File(path, "r+") as file:
            attributes = file.attrs
            for name, (new, before) in OLD_NAMES.items():
                assert attributes[name] == new.encode()
                attributes[name] = np.bytes_(before)
            attributes["law"] = attributes["distribution"]
            del attributes["distribution"]
    manifest = json.loads((out / "manifest.json").read_text())
    provenance = manifest["provenance"]
    for name, (new, before) in OLD_NAMES.items():
        assert provenance[name] == new
        provenance[name] = before
    provenance["law"] = provenance.pop("distribution")
    for entry in manifest["shards"]:
        entry["bytes"] = (out / entry["file"]).stat().st_size
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def test_a_set_with_the_old_names_is_read_and_verified(
    old: Path, sampling: DistributionSampling, run: Run
) -> None:
    assert len(ShapesHD(old)) == 30
    np.testing.assert_array_equal(ShapesHD(old).labels, sampling.factors(0, 30))
    result = verify_dataset(old, rerender=3)
    assert not failed(result)
    assert result.passed
    status, stdout, _ = run("info", old, "--json")
    provenance = json.loads(stdout)["provenance"]
    assert status == 0 and "law" not in provenance
    assert Distribution.from_text(provenance["distribution"]).text == sampling.distribution


def test_a_set_with_the_old_names_is_extended_with_the_new_ones(
    old: Path, sampling: DistributionSampling, tmp_path: Path
) -> None:
    kept = render_small(old, engine="torch", sampling=sampling, count=50).kept
    assert kept == 30
    render_small(tmp_path / "new", engine="torch", sampling=sampling, count=50)
    assert load_manifest(old).provenance == load_manifest(tmp_path / "new").provenance
    assert len({read_header(path).provenance for path in list_shards(old)}) == 1
    text = (old / "manifest.json").read_text()
    assert '"law"' not in text and "twin" not in text
    assert verify_dataset(old).passed
