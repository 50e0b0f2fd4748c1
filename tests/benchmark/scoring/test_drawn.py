"""A part of images that exist is drawn by the seed, extended by the same seed, and named so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from shapeshd.benchmark.fidelity import measure
from shapeshd.benchmark.fidelity.measure import FidelitySettings
from shapeshd.benchmark.report.tables import fidelity_basis
from shapeshd.benchmark.report.terminal import describe
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.scoring.score import score_in_memory, score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.scoring.tally import Tally
from shapeshd.benchmark.sources import open_source
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.factors import (
    BIN_SHAPE,
    NUM_BINS,
    FloatArray,
    IntArray,
    joint_bins,
    uniform_factors,
)
from shapeshd.images.drawn import DrawnImages
from shapeshd.images.numbered import NumberedImages
from shapeshd.support.random_numbers import seeded_order
from tests.support.fake_fidelity import Means, WritesFactors
from tests.support.fake_scores import ReadsWritten, written_images
from tests.support.image_files import COUNT, GOOD, IMAGES, WANTED

ALL, PART, MORE = 9_000, 6_000, 8_000
SIDE = 32
FIRST_OF_0 = [0, 8, 9, 3, 7, 5, 1, 11, 2, 10, 6, 4]

pytestmark = pytest.mark.usefixtures("no_page")


def shape_of(bins: IntArray) -> IntArray:
    return np.unravel_index(bins, BIN_SHAPE)[4]


TRUTH = np.sort(joint_bins(uniform_factors(5, 0, ALL)))
TRUTH = TRUTH[np.argsort(shape_of(TRUTH), kind="stable")]  # saved class by class


@pytest.fixture(scope="module")
def sorted_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sorted") / "x.npy"
    np.save(path, written_images(TRUTH, SIDE).permute(0, 2, 3, 1).numpy())
    return path


def test_an_order_is_a_permutation_that_no_version_changes() -> None:
    order = seeded_order(3, 1_000)
    assert np.array_equal(np.sort(order), np.arange(1_000))
    assert seeded_order(0, 12).tolist() == FIRST_OF_0
    assert seeded_order(1, 12).tolist() != FIRST_OF_0
    # Where 0 comes is uniform: 2,000 seeds over 10 places.
    places = np.bincount([int(np.flatnonzero(seeded_order(s, 10) == 0)[0]) for s in range(2_000)])
    assert ((places - 200) ** 2 / 200).sum() < 27.9  # chi-square of 9, p = 0.001


def opened(path: Path) -> NumberedImages:
    source = open_source(str(path))
    assert isinstance(source, NumberedImages)
    return source


def packed_hdf5(tmp: Path) -> Path:
    with h5py.File(tmp / "packed.h5", "w") as file:
        file.create_dataset("x", data=IMAGES, chunks=(7, 16, 16, 3), compression="gzip")
    return tmp / "packed.h5"


def packed_3dshapes(tmp: Path) -> Path:
    with h5py.File(tmp / "packed.h5", "w") as file:
        file.create_dataset("images", data=IMAGES, chunks=(7, 4, 16, 1), compression="gzip")
        file.create_dataset("labels", data=np.zeros((COUNT, 6)))
    return tmp / "packed.h5"


KINDS: dict[str, Callable[[Path], Path]] = {
    **GOOD,
    "packed hdf5": packed_hdf5,
    "packed 3dshapes": packed_3dshapes,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gathered", [0, 9, COUNT])
def test_every_kind_gives_the_images_in_the_seeds_order(
    kind: str, gathered: int, tmp_path: Path
) -> None:
    with opened(KINDS[kind](tmp_path)) as source, DrawnImages(source, 4) as drawn:
        if gathered:
            drawn.gather(gathered)
        order = seeded_order(4, COUNT)
        assert torch.equal(drawn.images(0, COUNT), WANTED[order])
        assert torch.equal(drawn.images(5, 9), WANTED[order[5:9]])
        assert drawn.number(5) == order[5]
        assert drawn.describe() == source.describe()
        assert drawn.kind == source.kind
        assert source.costly == (kind in ("npz compressed", "packed hdf5", "packed 3dshapes"))


def test_what_was_done_is_told_of_the_images_that_were_drawn(tmp_path: Path) -> None:
    from tests.support.image_files import encoded, write_zip

    members = {f"{n}.png": encoded(IMAGES[n] if n else IMAGES[n][..., 0]) for n in range(COUNT)}
    place = int(np.flatnonzero(seeded_order(4, COUNT) == 0)[0])
    with opened(write_zip(tmp_path / "x.zip", members)) as source, DrawnImages(source, 4) as drawn:
        drawn.images(0, COUNT)
        assert drawn.conversions([place]).total() == 1
        assert drawn.conversions([n for n in range(COUNT) if n != place]).total() == 0


def counts_of(order: IntArray) -> IntArray:
    return np.bincount(TRUTH[order], minlength=NUM_BINS)


def test_a_part_is_drawn_extended_and_repeated(sorted_images: Path, tmp_path: Path) -> None:
    order = seeded_order(2, ALL)
    with opened(sorted_images) as source:
        for samples in (PART, MORE, ALL):
            settings = ScoreSettings(samples=samples, seed=2)
            found = score_source(source, ReadsWritten(), tmp_path / "a", settings)
            assert found is not None
            histogram = np.load(tmp_path / "a" / "histogram.npy")
            np.testing.assert_array_equal(histogram, counts_of(order[:samples]))
            assert found.images.drawn_from == ALL
            again, counts = (
                score_in_memory(source, ReadsWritten(), settings, progress=False)
                if (samples < ALL)
                else (found, histogram)
            )
            np.testing.assert_array_equal(counts, histogram)
            assert again.images.drawn_from == ALL
            # Saved class by class: the first 6,000 would lack a shape.
            assert (np.bincount(shape_of(TRUTH[order[:samples]])) > samples / 5).all()
    text = " ".join(describe(found).split())
    assert "9,000 of 9,000, drawn by the seed" in text
    assert json.loads((tmp_path / "a" / "result.json").read_text())["images"]["drawn_from"] == ALL
    with np.load(tmp_path / "a" / "examples.npz") as examples, opened(sorted_images) as source:
        index, image = examples["image_index"][0], examples["images"][0]
        shown = source.images(int(index), int(index) + 1)[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(image, shown)


def test_all_images_keep_their_order_and_take_no_seed(sorted_images: Path, tmp_path: Path) -> None:
    with opened(sorted_images) as source:
        found = score_source(source, ReadsWritten(), tmp_path / "a")
        assert found is not None
        assert found.images.drawn_from is None
        np.testing.assert_array_equal(
            np.load(tmp_path / "a" / "histogram.npy"), counts_of(np.arange(ALL))
        )
        with pytest.raises(UsageError, match="leave out seed"):
            score_source(source, ReadsWritten(), tmp_path / "b", ScoreSettings(seed=1))


def test_rendered_images_are_in_no_order() -> None:
    with open_source("render:0:9000,size=64") as source:
        assert isinstance(source, NumberedImages)
        assert not source.ordered


def test_a_run_begun_in_the_old_order_is_not_mixed_with_a_drawn_one(
    sorted_images: Path, tmp_path: Path
) -> None:
    with opened(sorted_images) as source:
        score_source(source, ReadsWritten(), tmp_path, ScoreSettings(samples=PART))
        (path,) = (tmp_path / ".work").glob("tally-*.npz")
        tally, card = Tally.load(path)
        assert card["settings"].pop("order") == "drawn by the seed"
        tally.save(path, card)
        for samples in (PART, MORE):
            with pytest.raises(UsageError, match="order null"):
                score_source(source, ReadsWritten(), tmp_path, ScoreSettings(samples=samples))


def test_a_part_is_not_taken_of_a_score_of_all_that_was_stopped(
    sorted_images: Path, tmp_path: Path
) -> None:
    class Stopped(ReadsWritten):
        def __call__(self, images: torch.Tensor) -> Any:
            if self.seen > 3_000:
                raise ShapesHDError("stopped")
            self.seen += len(images)
            return super().__call__(images)

        seen = 0

    with opened(sorted_images) as source:
        with pytest.raises(ShapesHDError, match="stopped"):
            score_source(source, Stopped(), tmp_path)
        with pytest.raises(UsageError, match="all 9,000 images"):
            score_source(source, ReadsWritten(), tmp_path, ScoreSettings(samples=PART))
        score_source(source, ReadsWritten(), tmp_path)
        with pytest.raises(UsageError, match="holds 9,000 samples already"):
            score_source(source, ReadsWritten(), tmp_path, ScoreSettings(samples=PART))


# Of images that are scored in their order, those whose fidelity is measured are drawn.

FEW, MORE_OF_THEM = 600, 1_100  # of 9,000 in 6 classes, 1,500 each


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "Renderer", WritesFactors)


def class_of(bins: IntArray) -> IntArray:
    """Return which of six classes joint bins are of: two hues of the floor each."""
    return np.unravel_index(bins, BIN_SHAPE)[0] // 2


BY_CLASS = TRUTH[np.argsort(class_of(TRUTH), kind="stable")]


@pytest.fixture(scope="module", params=["npy", "npz"])
def classes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An array that is saved class by class; as npz, one whose images are read in order alone."""
    path = tmp_path_factory.mktemp("classes") / f"x.{request.param}"
    images = written_images(BY_CLASS, SIDE).permute(0, 2, 3, 1).numpy()
    if request.param == "npy":
        np.save(path, images)
    else:
        np.savez_compressed(path, images)
    return path


def measured(path: Path, out: Path, images: int | None = FEW, **settings: Any) -> Result:
    fidelity = None if images is None else FidelitySettings(images, features=Means())
    with opened(path) as source:
        found = score_source(
            source, ReadsWritten(), out, ScoreSettings(fidelity=fidelity, **settings)
        )
    assert found is not None
    return found


def factors_measured(out: Path) -> FloatArray:
    """Return the recognised factors of the images whose fidelity was measured, in order."""
    paths = sorted((out / ".work").glob("fidelity-*/sample-*.npz"))
    return np.concatenate([np.load(path)["factors"] for path in paths])


@pytest.mark.usefixtures("quick")
def test_the_fidelity_of_files_class_by_class_is_of_all_classes(
    classes: Path, tmp_path: Path
) -> None:
    found = measured(classes, tmp_path / "a")
    bins = joint_bins(factors_measured(tmp_path / "a"))
    assert (np.bincount(class_of(bins), minlength=6) > FEW / 6 / 2).all()
    np.testing.assert_array_equal(bins, BY_CLASS[seeded_order(0, ALL)[:FEW]])
    assert found.fidelity is not None
    assert found.fidelity.settings.order == "drawn by the seed"
    assert "600 images, drawn by the seed" in fidelity_basis(found.fidelity)
    # The score is the same as without: of all images, in their order.
    assert found.images.drawn_from is None
    plain = measured(classes, tmp_path / "b", None)
    np.testing.assert_array_equal(
        np.load(tmp_path / "a" / "histogram.npy"), np.load(tmp_path / "b" / "histogram.npy")
    )
    assert found.verdict == plain.verdict
    # Added to a finished score, and of more images later, it is that of one run.
    measured(classes, tmp_path / "b")
    more = measured(classes, tmp_path / "b", MORE_OF_THEM)
    assert more.fidelity == measured(classes, tmp_path / "c", MORE_OF_THEM).fidelity
    # The pictures are of the images whose numbers they have.
    with np.load(tmp_path / "a" / "fidelity.npz") as pictures, opened(classes) as source:
        for number, picture in zip(pictures["image_index"], pictures["images"], strict=True):
            image = source.images(int(number), int(number) + 1)[0]
            np.testing.assert_array_equal(picture, image.permute(1, 2, 0))


@pytest.mark.usefixtures("quick")
def test_fidelity_that_was_measured_of_the_first_files_is_measured_anew(
    sorted_images: Path, tmp_path: Path
) -> None:
    found = measured(sorted_images, tmp_path)
    assert measured(sorted_images, tmp_path) == found
    written = json.loads((tmp_path / "result.json").read_text())
    del written["fidelity"]["settings"]["order"]
    written["fidelity"]["residual"]["images"] = FEW - 1
    (tmp_path / "result.json").write_text(json.dumps(written))
    assert measured(sorted_images, tmp_path).fidelity == found.fidelity


@pytest.mark.usefixtures("quick")
def test_of_a_drawn_part_the_first_are_measured(sorted_images: Path, tmp_path: Path) -> None:
    found = measured(sorted_images, tmp_path, samples=PART, seed=2)
    np.testing.assert_array_equal(
        joint_bins(factors_measured(tmp_path)), TRUTH[seeded_order(2, ALL)[:FEW]]
    )
    assert found.fidelity is not None
    assert "order" not in found.fidelity.to_json()["settings"]
    assert "the first 600 images" in fidelity_basis(found.fidelity)
