"""`verify` against labels and pixels that are wrong although all digests fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from shapeshd.dataset.manifest import write_manifest
from shapeshd.factors import FACTORS, NAMES, uniform_factors
from shapeshd.scene.sampling import GridSampling
from shapeshd.verify import verify_dataset
from tests.support.damage import (
    COUNT,
    SIZE,
    Run,
    check,
    failed,
    make_noise_set,
    problems,
    rewrite,
    shard,
)


@pytest.mark.parametrize("column", range(len(FACTORS)))
def test_a_label_changed_in_its_last_bit_is_found(data: Path, column: int) -> None:
    def change(labels: Any) -> Any:
        labels[4, column] = np.nextafter(labels[4, column], 0.5)
        return labels

    rewrite(shard(data, 1), change_labels=change)
    write_manifest(data, COUNT)
    result = verify_dataset(data)
    assert "labels" in failed(result) and "digests" not in failed(result)
    assert f"1 of 20 labels are not those of the sampling; image 24: {NAMES[column]}" in problems(
        result, "labels"
    )


@pytest.mark.parametrize("value", [2.5, np.nan, -np.inf])
def test_a_label_out_of_range_is_found(tmp_path: Path, value: float) -> None:
    labels = uniform_factors(0, 0, 100)
    labels[7, NAMES.index("scale")] = value
    result = verify_dataset(make_noise_set(tmp_path / "data", labels))
    assert "label ranges" in failed(result)
    assert "row 7: scale is" in problems(result, "label ranges")


def test_p_values_are_those_of_the_chi_square_distribution(rendered: Path, tmp_path: Path) -> None:
    labels = uniform_factors(5, 0, 700)
    result = verify_dataset(make_noise_set(tmp_path / "data", labels, seed=5))
    found = check(result, "uniformity")
    assert found.passed and set(found.values["p_values"]) == set(NAMES)
    for column, factor in enumerate(FACTORS):
        high = factor.bins if factor.topology == "discrete" else factor.high
        counts = np.histogram(labels[:, column], factor.bins, (factor.low, high))[0]
        expected = len(labels) / factor.bins
        statistic = ((counts - expected) ** 2 / expected).sum()
        p = chi2.sf(statistic, factor.bins - 1)
        assert found.values["p_values"][factor.name] == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize("column", range(len(FACTORS)))
def test_biased_labels_are_found(tmp_path: Path, column: int) -> None:
    factor = FACTORS[column]
    labels = uniform_factors(0, 0, 800)
    # A third of the upper half is moved to the bottom.
    upper = np.flatnonzero(labels[:, column] > (factor.low + factor.high) / 2)[::3]
    labels[upper, column] = factor.low
    result = verify_dataset(make_noise_set(tmp_path / "data", labels))
    assert failed(result) == {"labels", "uniformity"}
    assert problems(result, "uniformity").startswith(f"{factor.name}: p = ")


def test_joint_bins_find_what_the_marginals_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shapeshd.verify.labels.MIN_EXPECTED", 0.001)  # no million images here
    labels = uniform_factors(0, 0, 2000)
    labels[:, 1] = labels[:, 0]  # each hue is uniform, the pair is not
    labels[:, 2] = labels[:, 0]
    result = verify_dataset(make_noise_set(tmp_path / "data", labels))
    assert [text.split(":")[0] for text in check(result, "uniformity").problems] == ["joint"]


def test_too_few_images_are_not_tested(tmp_path: Path) -> None:
    labels = uniform_factors(0, 0, 19)
    labels[:, 0] = 0.5
    result = verify_dataset(make_noise_set(tmp_path / "data", labels))
    found = check(result, "uniformity")
    assert (found.passed, found.detail) == (None, "not tested: 19 images are too few")


def change_one_value(images: Any) -> Any:
    images[4, 10, 11, 2] ^= 8
    return images


def test_one_changed_pixel_is_found_by_rendering_again(data: Path) -> None:
    rewrite(shard(data, 1), change_images=change_one_value)
    write_manifest(data, COUNT)
    assert failed(verify_dataset(data)) == set()
    result = verify_dataset(data, rerender=COUNT)
    assert failed(result) == {"pixels"}
    assert problems(result, "pixels") == (
        f"{shard(data, 1)}: image 24 differs from its re-render: "
        f"1 of {SIZE * SIZE * 3} values, by at most 8"
    )


def test_images_to_render_again_are_drawn_by_the_seed(rendered: Path) -> None:
    first, again, other = (
        check(verify_dataset(rendered, rerender=5, seed=seed), "pixels").values["indices"]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert len(set(first)) == 5 and set(first) <= set(range(COUNT))


def test_another_renderer_is_said(data: Path) -> None:
    for number in range(3):
        rewrite(shard(data, number), renderer="POV-Ray 3.6", scene_sha256="0" * 64)
    write_manifest(data, COUNT)
    result = verify_dataset(data, rerender=2)
    assert result.passed
    assert "but the dataset with POV-Ray 3.6" in check(result, "pixels").detail
    assert "templates are not those" in check(result, "pixels").detail


def test_another_engine_fails_only_when_its_images_shall_be_rendered_again(data: Path) -> None:
    for number in range(3):
        rewrite(shard(data, number), engine="other")
    write_manifest(data, COUNT)
    assert verify_dataset(data).passed
    result = verify_dataset(data, rerender=1)
    assert failed(result) == {"pixels"} and "engine 'other'" in problems(result, "pixels")


def test_without_povray_the_other_checks_are_made(
    rendered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAPESHD_POVRAY", "/nonexistent/povray")
    result = verify_dataset(rendered, rerender=1)
    assert failed(result) == {"pixels"} and "POV-Ray was not found" in problems(result, "pixels")


def test_labels_of_a_grid_are_recomputed(tmp_path: Path) -> None:
    labels = GridSampling().factors(0, 40)
    result = verify_dataset(make_noise_set(tmp_path / "right", labels, sampling="grid"))
    assert result.passed and check(result, "labels").passed
    assert check(result, "uniformity").passed is None
    result = verify_dataset(make_noise_set(tmp_path / "wrong", labels[::-1], sampling="grid"))
    assert failed(result) == {"labels"}


def test_labels_beyond_the_grid_are_found(tmp_path: Path) -> None:
    dataset = make_noise_set(tmp_path / "data", GridSampling().factors(0, 40), sampling="grid")
    rewrite(shard(dataset, 0), first_index=479_990)
    assert "grid has no images 479990 to 480029" in problems(verify_dataset(dataset), "labels")


def test_labels_of_a_table_need_the_table(tmp_path: Path, run: Run) -> None:
    labels = uniform_factors(3, 0, 10)
    dataset = make_noise_set(tmp_path / "data", labels, sampling="table")
    result = verify_dataset(dataset)
    assert result.passed and check(result, "labels").passed is None
    assert "--factors" in check(result, "labels").detail
    for name, rows in {"right.csv": labels, "wrong.csv": labels[::-1]}.items():
        lines = [",".join(NAMES), *(",".join(map(repr, row)) for row in rows.tolist())]
        (tmp_path / name).write_text("\n".join(lines))
    assert run("verify", dataset, "--factors", tmp_path / "right.csv")[0] == 0
    status, output, _ = run("verify", dataset, "--factors", tmp_path / "wrong.csv")
    assert status == 1 and "FAILED: labels" in output


def test_an_unknown_sampling_fails(tmp_path: Path) -> None:
    dataset = make_noise_set(tmp_path / "data", uniform_factors(0, 0, 10), sampling="other")
    assert failed(verify_dataset(dataset)) == {"labels"}
