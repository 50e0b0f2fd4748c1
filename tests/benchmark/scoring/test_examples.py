"""Examples: the right cells, the right samples, and true images of what is missing."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from shapeshd.benchmark.fidelity.measurement_files import Measurements
from shapeshd.benchmark.scoring.examples import (
    CELLS,
    IMAGES,
    THUMBNAIL,
    choose_examples,
    choose_fidelity_examples,
)
from shapeshd.benchmark.sources.networks.generator import GeneratorSource
from shapeshd.benchmark.statistics.decomposition import decompose
from shapeshd.factors import BIN_SHAPE, NUM_BINS, bin_indices
from tests.support.fake_scores import written_images
from tests.support.simulated_results import FakeRecognizer, Sampled, examples, histogram


def test_fullest_and_emptiest_cells_of_the_significant_factor() -> None:
    found = examples("tilted")
    assert str(found["part"]) == "scale"
    table = histogram("tilted").reshape(BIN_SHAPE).sum(axis=(0, 1, 2, 4, 5))
    scale = {kind: found["bins"][found["kind"] == kind][:, 3] for kind in set(found["kind"])}
    assert scale["part-full"].tolist() == [0, 1]  # half of four bins
    assert scale["part-empty"].tolist() == [3, 2]
    assert found["count"][found["kind"] == "part-full"].tolist() == table[:2].tolist()
    assert (np.delete(found["bins"][found["kind"] == "part-full"], 3, axis=1) == -1).all()
    assert np.allclose(found["expected"][found["kind"] == "part-full"], 5_000)


def test_joint_cells_are_the_extremes() -> None:
    found = examples("full")
    counts = histogram("full")
    for kind, order in (("joint-full", -1), ("joint-empty", 1)):
        cells = found["kind"] == kind
        bins = np.ravel_multi_index(tuple(found["bins"][cells].T), BIN_SHAPE)
        assert len(set(bins)) == CELLS
        assert (counts[bins] == found["count"][cells]).all()
        assert sorted(counts[bins]) == sorted(order * np.sort(order * counts)[:CELLS])


def test_samples_lie_in_their_cell_and_are_the_first() -> None:
    found = examples("dropped")
    source = Sampled(histogram("dropped"))
    rows = np.stack(np.unravel_index(source.bins, BIN_SHAPE), axis=1)
    for number, bins in enumerate(found["bins"]):
        indices = found["image_index"][found["image_cell"] == number]
        inside = np.flatnonzero(((rows == bins) | (bins < 0)).all(axis=1))
        assert indices.tolist() == inside[:IMAGES].tolist()
    first = int(found["image_index"][0])
    expected = source.images(first, first + 1)[0].permute(1, 2, 0).numpy()
    assert (found["images"][0] == expected).all()


def test_empty_cells_are_traced_and_hold_what_is_missing() -> None:
    found = examples("dropped")
    assert str(found["part"]) == "object_hue x shape"
    missing = found["bins"][(found["kind"] == "part-empty") & (found["count"] == 0)]
    assert sorted(map(tuple, missing[:, [2, 4]].tolist())) == [(8, 3), (9, 3)]
    assert set(found["traced_cell"]) == set(np.flatnonzero(found["count"] == 0))
    assert not set(found["traced_cell"]) & set(found["image_cell"])
    assert found["traced"].shape[1:] == (64, 64, 3)
    assert found["traced"].dtype == np.uint8


def test_traced_factors_are_the_middles_of_the_bins() -> None:
    from shapeshd.benchmark.scoring.examples import _missing

    bins = (-1, 3, -1, 2, 1, -1)
    found = bin_indices(_missing(bins))
    assert (found[:, [1, 3, 4]] == [3, 2, 1]).all()
    assert len(np.unique(found[:, 0])) > 1


def test_a_faultless_source_has_joint_cells_alone_and_neighbours_are_not_all_chosen() -> None:
    found = examples("unbiased")
    assert str(found["part"]) == ""
    assert {str(kind)[:5] for kind in found["kind"]} == {"joint"}
    empty = found["bins"][found["kind"] == "joint-empty"]
    assert len(np.unique(empty[:, 0])) == CELLS  # different floors


def test_large_images_are_reduced_and_nothing_needs_pickle() -> None:
    found = examples("constant", size=200)
    assert found["images"].shape[1:] == (THUMBNAIL, THUMBNAIL, 3)
    buffer = io.BytesIO()
    np.savez(buffer, **found)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as file:
        assert all((file[key] == value).all() for key, value in found.items())


def test_choice_is_repeatable() -> None:
    first, second = examples("everything"), examples("everything")
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_images_that_are_not_square_keep_their_sides() -> None:
    class Flat(Sampled):
        def images(self, start: int, stop: int) -> torch.Tensor:
            return torch.zeros((stop - start, 3, 100, 400), dtype=torch.uint8)

    counts = histogram("constant")
    source = Flat(counts)
    found = choose_examples(
        counts, source.first_seen, decompose(counts), source, FakeRecognizer()  # type: ignore[arg-type]
    )  # fmt: skip
    assert found["images"].shape[1:] == (32, THUMBNAIL, 3)


@pytest.mark.parametrize("kind", ["constant", "coupled"])
def test_every_sample_asked_for_exists(kind: str) -> None:
    counts = histogram(kind)
    source = Sampled(counts)
    choose_examples(counts, source.first_seen, decompose(counts), source, FakeRecognizer())  # type: ignore[arg-type]
    assert source.asked
    assert all(0 <= start < stop <= counts.sum() for start, stop in source.asked)
    assert len(counts) == NUM_BINS


class CountedBatches:
    """Batches of images that say their bins; keeps the numbers of those that were made."""

    batch = 16

    def __init__(self, bins: np.ndarray) -> None:
        self.bins = bins
        self.made: list[int] = []

    def make(self, numbers: range) -> Iterator[torch.Tensor]:
        for number in numbers:
            self.made.append(number)
            bins = self.bins[number * self.batch : (number + 1) * self.batch]
            yield written_images(bins, 32).contiguous()

    def alone(self, start: int, stop: int) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"batch": self.batch}

    def close(self) -> None:
        pass


class Asked(GeneratorSource):
    """A generator that counts how often it is asked."""

    asked = 0

    def images(self, start: int, stop: int) -> torch.Tensor:
        self.asked += 1
        return super().images(start, stop)


def shuffled(kind: str) -> np.ndarray:
    """Return the bins of samples in the order of a generator: none."""
    bins = np.repeat(np.arange(NUM_BINS), histogram(kind))
    return np.random.default_rng(0).permutation(bins)


@pytest.mark.parametrize("kind", ["tilted", "full"])
def test_a_generator_makes_each_batch_of_examples_once(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bins, counts = shuffled(kind), histogram(kind)
    order = np.argsort(bins, kind="stable")
    start = np.cumsum(counts) - counts
    places = np.minimum(start[:, None] + np.arange(4), len(bins) - 1)
    seen = np.where(np.arange(4) < counts[:, None], order[places], -1)
    batches = CountedBatches(bins)
    source = Asked("counted", "test", batches)
    found = choose_examples(
        counts, seen, decompose(counts), source, FakeRecognizer(), progress=True  # type: ignore[arg-type]
    )  # fmt: skip
    shown = found["image_index"]
    assert len(shown) > len(batches.made)
    assert batches.made == sorted(set(shown // batches.batch))
    assert source.asked == len(batches.made)
    pictures = written_images(bins[shown], 32).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(found["images"], pictures)
    assert "examples" in capsys.readouterr().err


def test_a_generator_makes_each_batch_beside_re_renders_once() -> None:
    bins = shuffled("tilted")[:320]
    errors = np.random.default_rng(1).random((320, 4))
    factors = np.zeros((320, 6))
    measured = Measurements(np.zeros((320, 1), np.float32), factors, errors)
    batches = CountedBatches(bins)
    found = choose_fidelity_examples(
        measured,
        GeneratorSource("counted", "test", batches),
        lambda some: torch.zeros((len(some), 3, 32, 32), dtype=torch.uint8),
    )
    shown = found["image_index"]
    assert batches.made == sorted(set(shown // batches.batch))
    np.testing.assert_array_equal(
        found["images"], written_images(bins[shown], 32).permute(0, 2, 3, 1)
    )
