"""Datasets that are drawn from a known distribution."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from shapeshd.dataset.manifest import load_manifest, provenance_of
from shapeshd.dataset.shards import list_shards, read_header
from shapeshd.distribution import Distribution
from shapeshd.errors import UsageError
from shapeshd.factors import (
    uniform_factors,
)
from shapeshd.scene.sampling import DistributionSampling, UniformSampling, make_sampling
from shapeshd.verify import verify_dataset
from tests.conftest import render_small
from tests.support.damage import check, make_noise_set, problems
from tests.support.known_distributions import TEXT, weighted

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "distribution.toml"
    path.write_text(TEXT)
    return path


def test_samplings(file: Path) -> None:
    distribution = Distribution.read(file)
    sampling = make_sampling("uniform", seed=4, distribution=distribution)
    assert isinstance(sampling, DistributionSampling)
    assert (sampling.name, sampling.seed, sampling.distribution) == (
        "distribution",
        4,
        distribution.text,
    )
    np.testing.assert_array_equal(sampling.factors(5, 9), distribution.factors(4, 5, 9))
    assert isinstance(
        make_sampling("uniform", distribution=weighted(scale=[2, 2, 2, 2])), UniformSampling
    )
    for name in ("grid", "table"):
        with pytest.raises(UsageError, match=r"--distribution|--factors"):
            make_sampling(name, distribution=distribution)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of the distribution; tests must not change it."""
    home = tmp_path_factory.mktemp("drawn")
    (home / "distribution.toml").write_text(TEXT)
    render_small(
        home / "data",
        engine="torch",
        sampling=DistributionSampling(Distribution.read(home / "distribution.toml"), 3),
    )
    return home / "data"


def arguments(out: Path, distribution: Path | None, *more: object) -> list[object]:
    size = ("--engine", "torch", "--size", 32, "--shard-size", 20, "--seed", 3, "--jobs", 1)
    given = () if distribution is None else ("--distribution", distribution)
    return ["render", out, *size, *given, "--backend", "threading", *more]


def test_a_set_of_a_distribution_is_drawn_recorded_and_verified(
    run: Run, file: Path, drawn: Path
) -> None:
    distribution = Distribution.read(file)
    labels = []
    for path in list_shards(drawn):
        with h5py.File(path) as shard:
            labels.append(shard["labels"][()])
            assert shard.attrs["distribution"].decode() == distribution.text
            assert shard.attrs["sampling"].decode() == "distribution"
    np.testing.assert_array_equal(np.concatenate(labels), distribution.factors(3, 0, 50))
    manifest = load_manifest(drawn)
    assert manifest.provenance.distribution == distribution.text
    assert provenance_of(drawn) == provenance_of(list_shards(drawn)[0]) == manifest.provenance
    assert provenance_of(drawn / "dataset.h5") == manifest.provenance
    result = verify_dataset(drawn)
    assert result.passed
    assert check(result, "labels").passed
    status, out, _ = run("info", drawn)
    assert status == 0
    assert f"distribution {distribution}, seed 3" in out
    status, out, _ = run("info", drawn, "--json")
    assert json.loads(out)["provenance"]["distribution"] == distribution.text


def test_a_resumed_set_is_that_of_one_run(
    run: Run, file: Path, drawn: Path, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    assert run(*arguments(out, file, "--count", 30))[0] == 0
    assert run(*arguments(out, file, "--count", 50))[0] == 0
    assert [p.read_bytes() for p in list_shards(out)] == [
        p.read_bytes() for p in list_shards(drawn)
    ]


def test_another_distribution_is_refused_and_the_difference_named(
    run: Run, drawn: Path, file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(TEXT.replace("[1, 1, 2, 4]", "[1, 1, 2, 5]"))
    status, _, err = run(*arguments(drawn, other, "--count", 50))
    assert (status, err.count("\n")) == (2, 1)
    assert "distribution is scale, shape" in err
    assert "scale [0.125, 0.125, 0.25, 0.5], not [0.1111, 0.1111, 0.2222, 0.5556]" in err
    status, _, err = run(*arguments(drawn, None, "--count", 50))
    assert (status, err.count("\n")) == (2, 1)
    assert "sampling is 'distribution', not 'uniform'" in err
    for name in ("grid", "table"):
        more = ("--factors", file) if name == "table" else ()
        status, _, err = run(
            "render", tmp_path / "x", "--distribution", file, "--sampling", name, *more
        )
        assert (status, err.count("\n")) == (2, 1)
        assert f"meaning with --sampling {name}" in err


def test_a_uniform_distribution_is_no_distribution(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "flat.toml"
    path.write_text("scale.weights = [2, 2, 2, 2]")
    assert run(*arguments(tmp_path / "a", path, "--count", 3))[0] == 0
    assert run(*arguments(tmp_path / "b", None, "--count", 3))[0] == 0
    a, b = (list_shards(tmp_path / name)[0] for name in "ab")
    assert a.read_bytes() == b.read_bytes()
    with h5py.File(a) as shard:
        assert (
            "distribution" not in shard.attrs
        )  # sets made before there were distributions, byte for byte
    assert (
        "distribution"
        not in json.loads((tmp_path / "a" / "manifest.json").read_text())["provenance"]
    )
    assert read_header(a).provenance.distribution == ""


def test_verify_finds_labels_of_another_distribution(tmp_path: Path) -> None:
    distribution = weighted(shape=[1, 1, 0, 1])
    wrong = weighted(shape=[3, 1, 0, 1]).factors(0, 0, 4_000)
    data = make_noise_set(
        tmp_path / "data", wrong, sampling="distribution", distribution=distribution.text
    )
    result = verify_dataset(data)
    assert "labels are not those of the sampling" in problems(result, "labels")
    assert "shape: p = " in problems(result, "uniformity")
    assert "not of the distribution" in problems(result, "uniformity")


def test_verify_finds_labels_where_the_distribution_has_none(tmp_path: Path) -> None:
    distribution = weighted(shape=[1, 1, 0, 1])
    data = make_noise_set(
        tmp_path / "data",
        uniform_factors(0, 0, 100),
        sampling="distribution",
        distribution=distribution.text,
    )
    assert "shape: 2" in problems(verify_dataset(data), "uniformity")
    assert "images lie where the distribution has none" in problems(
        verify_dataset(data), "uniformity"
    )


def test_verify_tests_coupled_pairs(file: Path, tmp_path: Path) -> None:
    distribution = Distribution.read(file)
    good = make_noise_set(
        tmp_path / "good",
        distribution.factors(0, 0, 4_000),
        sampling="distribution",
        distribution=distribution.text,
    )
    found = check(verify_dataset(good), "uniformity")
    assert found.passed
    assert "wall_hue x object_hue" in found.values["p_values"]
    rng = np.random.default_rng(0)
    labels = distribution.factors(0, 0, 4_000)
    labels[:, 1] = rng.permutation(labels[:, 1])  # margins kept
    bad = make_noise_set(
        tmp_path / "bad", labels, sampling="distribution", distribution=distribution.text
    )
    assert "wall_hue x object_hue: p = " in problems(verify_dataset(bad), "uniformity")


def test_a_damaged_distribution_is_said(tmp_path: Path) -> None:
    data = make_noise_set(
        tmp_path / "data",
        uniform_factors(0, 0, 100),
        sampling="distribution",
        distribution='{"scale":[1]}',
    )
    result = verify_dataset(data)
    assert check(result, "labels").passed is False
    assert "scale must be a table" in check(result, "labels").detail
    assert check(result, "uniformity").passed is None
