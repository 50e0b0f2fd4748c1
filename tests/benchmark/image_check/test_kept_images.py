from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shapeshd.benchmark.image_check.kept_images import (
    FEWEST,
    MOST,
    KeptImages,
    chosen_numbers,
    hashes,
    images_to_keep,
)

SAMPLES, LENGTH = 3_000, 128


def piece(first: int) -> tuple[int, torch.Tensor, np.ndarray]:
    """A piece whose images say their own numbers."""
    numbers = np.arange(first, first + LENGTH)
    images = torch.from_numpy((numbers % 251).astype(np.uint8)).reshape(-1, 1, 1, 1)
    return first, images.expand(-1, 3, 8, 8), np.repeat(numbers[:, None] * 1.0, 6, axis=1)


def collect(kept: KeptImages, firsts: range | list[int]) -> None:
    for first in firsts:
        kept.collect(*piece(first))


def check(kept: KeptImages, samples: int) -> None:
    found = kept.load()
    np.testing.assert_array_equal(found.numbers, chosen_numbers(samples, MOST))
    np.testing.assert_array_equal(found.images[:, 0, 0, 0].numpy(), found.numbers % 251)
    np.testing.assert_array_equal(found.factors[:, 3], found.numbers)


def test_the_lowest_hashes_are_chosen() -> None:
    order = np.argsort(hashes(np.arange(SAMPLES)))
    np.testing.assert_array_equal(chosen_numbers(SAMPLES, 50), np.sort(order[:50]))
    assert len(chosen_numbers(30, 50)) == 30


def test_the_choice_is_spread_evenly() -> None:
    chosen = chosen_numbers(1_000_000, 20_000)
    counts = np.histogram(chosen, 10, (0, 1_000_000))[0]
    assert ((counts - 2_000) ** 2 / 2_000).sum() < 28  # of 9 degrees of freedom: p = 0.001
    assert abs((chosen % 2).mean() - 0.5) < 0.02


def test_in_memory() -> None:
    kept = KeptImages(SAMPLES, 64, 8)
    collect(kept, range(0, SAMPLES, LENGTH))
    check(kept, SAMPLES)


def test_stopped_shared_out_and_extended_is_the_same(tmp_path: Path) -> None:
    firsts = list(range(0, SAMPLES, LENGTH))
    collect(KeptImages(SAMPLES, 64, 8, tmp_path), firsts[::2])
    (tmp_path / "image-check" / ".half").write_bytes(b"half a file")
    other = KeptImages(SAMPLES, 64, 8, tmp_path)
    assert not list((tmp_path / "image-check").glob(".*"))
    collect(other, [*firsts[1::2], *firsts[:4]])  # some are seen twice
    check(other, SAMPLES)
    more = KeptImages(2 * SAMPLES, 64, 8, tmp_path)
    collect(more, range(firsts[-1], 2 * SAMPLES, LENGTH))
    check(more, 2 * SAMPLES)


def test_what_a_killed_run_was_writing_does_not_stop_the_next(tmp_path: Path) -> None:
    kept = KeptImages(SAMPLES, 64, 8, tmp_path)
    # In the form in which a piece is written aside, in a folder of its own.
    half = tmp_path / "image-check" / f".0.npz-aside-{'0' * 8}-{'a' * 12}"
    half.mkdir()
    (half / "0.npz").write_bytes(b"half a file")
    kept = KeptImages(SAMPLES, 64, 8, tmp_path)
    collect(kept, range(0, SAMPLES, LENGTH))
    check(kept, SAMPLES)


def test_a_damaged_piece_is_left_out(tmp_path: Path) -> None:
    kept = KeptImages(SAMPLES, 64, 8, tmp_path)
    collect(kept, range(0, SAMPLES, LENGTH))
    path = next((tmp_path / "image-check").glob("*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    assert 0 < len(kept.load().numbers) < MOST
    assert not path.exists()


@pytest.mark.parametrize(("side", "count"), [(64, MOST), (256, 128), (1024, FEWEST)])
def test_fewer_are_kept_of_large_images(side: int, count: int) -> None:
    assert images_to_keep(side) == count
