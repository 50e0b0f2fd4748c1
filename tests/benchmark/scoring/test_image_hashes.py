"""Hashes of images: equal images have the same, others do not, and memory stays bounded."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from shapeshd.benchmark.scoring import image_hashes
from shapeshd.benchmark.scoring.image_hashes import SeenImages, hash_images
from shapeshd.benchmark.scoring.repeats import describe_repeats
from tests.support.fake_scores import Written


def noise(count: int, side: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("side", [3, 8])
def test_equal_images_alone_have_equal_hashes(side: int) -> None:
    images = noise(50, side)
    found = hash_images(images)
    assert found.dtype == np.uint64
    np.testing.assert_array_equal(hash_images(images[7:9]), found[7:9])
    channels_last = images.contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(hash_images(channels_last), found)
    # Every single byte of an image counts, whichever of its bits changes.
    one = images[:1]
    size = one[0].numel()
    others = one.repeat(8 * size, 1, 1, 1).flatten(1)
    for row in range(8 * size):
        others[row, row // 8] ^= 1 << row % 8
    hashes = hash_images(others.reshape(-1, *one.shape[1:]))
    assert len({*hashes.tolist(), int(found[0])}) == 8 * size + 1
    for bit in range(64):  # half of them have it: hashes are chosen by their low bits
        share = (hashes >> np.uint64(bit) & np.uint64(1)).mean()
        assert 0.3 < share < 0.7


def test_two_swapped_pixels_are_another_image() -> None:
    images = noise(200, 8)
    swapped = images.clone()
    swapped[:, :, 0, 0], swapped[:, :, 5, 3] = images[:, :, 5, 3], images[:, :, 0, 0]
    assert not np.any(hash_images(images) == hash_images(swapped))


def expected(numbers: list[int]) -> dict[int, list[int]]:
    """Return for the kind of each image the numbers of those that are of it."""
    found = defaultdict(list)
    for index, kind in enumerate(numbers):
        found[kind].append(index)
    return found


def check(seen: SeenImages, kinds: list[int], images: torch.Tensor) -> None:
    seen.settle()
    by_hash = {int(h): row for row, h in enumerate(seen.hashes)}
    assert list(by_hash) == sorted(by_hash)
    hashes, kept = hash_images(images), 0
    for kind, numbers in expected(kinds).items():
        digest = int(hashes[kind])
        if digest % (1 << seen.zeros):
            assert digest not in by_hash
            continue
        row = by_hash[digest]
        kept += 1
        second = numbers[1] if len(numbers) > 1 else -1
        found = (int(seen.first[row]), int(seen.second[row]), int(seen.counts[row]))
        assert found == (numbers[0], second, len(numbers))
    assert kept == len(by_hash)


@pytest.mark.parametrize("limit", [64, 10_000])
def test_all_copies_of_an_image_are_kept_or_none(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(image_hashes, "KEPT", limit)
    monkeypatch.setattr(image_hashes, "_PENDING", 100)
    images = noise(300)
    kinds = np.random.default_rng(0).integers(0, 300, 1_000).tolist()
    whole, parts = SeenImages(), [SeenImages() for _ in range(3)]
    for start in range(0, 1_000, 50):
        piece = images[kinds[start : start + 50]]
        whole.add(start, piece)
        parts[start // 50 % 3].add(start, piece)
    merged = SeenImages()
    for part in parts:
        file = io.BytesIO()
        np.savez(file, **part.arrays())
        file.seek(0)
        with np.load(file) as loaded:
            merged.merge(SeenImages.from_arrays(loaded))
    for seen in (whole, merged):
        check(seen, kinds, images)
        assert len(seen.hashes) <= limit
        assert (seen.zeros > 0) == (limit < 300)
    assert sorted(merged.witnesses) == list(range(8))


def test_one_image_repeated_needs_no_memory() -> None:
    seen = SeenImages()
    for start in range(0, 70_000, 10_000):
        seen.add(start, noise(1).expand(10_000, -1, -1, -1))
    seen.settle()
    assert (len(seen.hashes), int(seen.counts[0])) == (1, 70_000)


def test_a_tally_of_an_earlier_version_has_no_hashes() -> None:
    assert SeenImages.from_arrays({"counts": np.zeros(3)}).witnesses == {}


class Batched(Written):
    """A source that says how long its batches are."""

    def describe(self) -> dict[str, Any]:
        return {"batch": 64}


def repeats(kinds: list[int], **settings: Any) -> Any:
    images = noise(max(kinds) + 1)
    seen = SeenImages()
    for start in range(0, len(kinds), 512):
        seen.add(start, images[kinds[start : start + 512]])
    return describe_repeats(Batched(**settings), seen)


def test_images_that_differ_are_no_repeats() -> None:
    found = repeats(list(range(6_000)))
    assert (found.compared, found.copies, found.example) == (6_000, 0, None)
    assert describe_repeats(Written(), SeenImages()) is None


def test_batches_that_repeat_are_named() -> None:
    found = repeats([number % 64 for number in range(6_000)])
    assert (found.copies, found.share) == (5_936, 5_936 / 6_000)
    assert found.example == (0, 64)
    assert "batches repeat each other" in found.text
    assert found.set_size is None


def test_processes_that_repeat_are_named() -> None:
    found = repeats([number % 4096 for number in range(8_192)])
    assert found.copies == 4_096
    assert "processes repeat each other" in found.text


def test_a_finite_training_set_is_named_with_its_size() -> None:
    kinds = np.random.default_rng(1).integers(0, 2_000, 6_000).tolist()
    found = repeats(kinds)
    assert found.copies == 6_000 - len(set(kinds))
    assert found.set_size == pytest.approx(2_000, rel=0.03)
    assert f"{found.set_size:,} images at random" in found.text


def test_the_size_of_the_set_does_not_depend_on_how_many_hashes_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_hashes, "KEPT", 500)
    found = repeats(np.random.default_rng(1).integers(0, 2_000, 6_000).tolist())
    assert found.compared < 3_000
    assert found.set_size == pytest.approx(2_000, rel=0.15)
    assert found.share == pytest.approx(1 - 2_000 / 6_000, abs=0.03)


def test_a_folder_of_copies_and_a_single_image() -> None:
    found = repeats([0, 1, 2, 1, 4], count=5)
    assert (found.copies, found.example, found.set_size) == (1, (1, 3), None)
    assert "4 different ones" in found.text
    found = repeats([0] * 6_000, count=6_000)
    assert (found.copies, found.set_size) == (5_999, 1)
    assert "one image alone" in found.text
