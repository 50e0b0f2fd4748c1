"""ShapesHD on every kind of HDF5 file, and on incomplete and damaged datasets."""

from __future__ import annotations

import os
import shutil

import h5py
import numpy as np
import psutil
import pytest
from torch.utils.data import DataLoader

from shapeshd import ShapesHD
from shapeshd.dataset.manifest import MANIFEST_NAME, VIRTUAL_NAME, write_manifest
from shapeshd.dataset.shards import shard_name
from shapeshd.errors import DamagedShardError, UsageError
from shapeshd.factors import uniform_factors
from tests.support.noise_dataset import (
    COUNT,
    assert_serves,
    noise_images,
    plain_loop,
    shard,
    write_3dshapes_file,
    write_noise_dataset,
)


def test_the_virtual_file_stands_for_its_folder(own_folder):
    assert_serves(ShapesHD(own_folder / VIRTUAL_NAME), *plain_loop(own_folder))
    shard(own_folder, 2).unlink()  # HDF5 itself would read black images
    with pytest.raises(DamagedShardError, match=shard_name(2)):
        ShapesHD(own_folder / VIRTUAL_NAME)


def test_a_virtual_file_without_its_sources_is_refused(own_folder, tmp_path):
    moved = (own_folder / VIRTUAL_NAME).rename(tmp_path / "moved.h5")
    with pytest.raises(DamagedShardError, match="is not beside it"):
        ShapesHD(moved)


def test_one_shard_is_a_dataset(folder):
    images, labels = plain_loop(folder)
    dataset = ShapesHD(str(shard(folder, 2)))
    assert_serves(dataset, images[10:15], labels[10:15])
    np.testing.assert_array_equal(dataset.indices, np.arange(10, 15))


@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"compression": "gzip"},
        {"chunks": (1, 16, 16, 3), "compression": "gzip"},
        {"chunks": (1, 16, 16, 3), "compression": "gzip", "shuffle": True},
        {"chunks": (7, 5, 16, 2), "compression": "lzf"},
        {"chunks": (1, 16, 16, 3)},
    ],
    ids=["contiguous", "auto", "gzip", "shuffle", "odd", "plain"],
)
def test_a_file_like_3dshapes_is_read(tmp_path, storage):
    path = tmp_path / "3dshapes.h5"
    write_3dshapes_file(path, **storage)
    assert_serves(ShapesHD(path), noise_images(30, 16, 1), uniform_factors(1, 0, 30))


def test_chunks_without_their_filter_are_read(tmp_path):
    # HDF5 lets a writer skip the filters of a chunk.
    path = tmp_path / "3dshapes.h5"
    write_3dshapes_file(path, count=2, chunks=(1, 16, 16, 3), compression="gzip")
    with h5py.File(path, "r+") as file:
        raw = noise_images(1, 16, 9)
        file["images"].id.write_direct_chunk((0, 0, 0, 0), raw.tobytes(), filter_mask=1)
    np.testing.assert_array_equal(ShapesHD(path).pixels(0), raw[0])


def test_a_large_file_stays_on_disk(tmp_path):
    path = tmp_path / "3dshapes.h5"
    with h5py.File(path, "w") as file:  # 1.2 GB that take no space until they are written
        file.create_dataset("images", (100_000, 64, 64, 3), "u1")[0] = 1
        file.create_dataset("labels", (100_000, 6), "f8")[0] = 1
    dataset, process = ShapesHD(path), psutil.Process()
    before = process.memory_info().rss
    for index in range(0, len(dataset), 997):
        dataset[index]
    assert process.memory_info().rss - before < 100e6


def file_with(tmp_path, images, labels):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        if images is not None:
            file["images"] = images
        if labels is not None:
            file["labels"] = labels
    return path


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (None, None, "holds no images"),
        (np.zeros((2, 8, 8, 3), "u1"), None, "holds no images"),
        (np.zeros((2, 8, 8, 3), "f4"), np.zeros((2, 6)), "images are float32"),
        (np.zeros((2, 8, 8, 4), "u1"), np.zeros((2, 6)), "8, 8, 4"),
        (np.zeros((2, 8, 8), "u1"), np.zeros((2, 6)), "images are uint8"),
        (np.zeros((2, 8, 8, 3), "u1"), np.zeros((3, 6)), r"labels float64 \(3, 6\)"),
        (np.zeros((2, 8, 8, 3), "u1"), np.zeros((2, 5)), r"labels float64 \(2, 5\)"),
        (np.zeros((2, 8, 8, 3), "u1"), np.zeros((2, 6), "S3"), r"labels \|S3"),
    ],
)
def test_other_hdf5_files_are_refused(tmp_path, images, labels, message):
    with pytest.raises(UsageError, match=message):
        ShapesHD(file_with(tmp_path, images, labels))


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such"):
        ShapesHD(tmp_path / "nothing")
    with pytest.raises(UsageError, match="holds no shards"):
        ShapesHD(tmp_path)
    text = tmp_path / "text.h5"
    text.write_text("not HDF5")
    with pytest.raises(UsageError, match="whole HDF5 file"):
        ShapesHD(text)


def test_gaps_are_refused_unless_allowed(tmp_path):
    images, labels = write_noise_dataset(tmp_path, COUNT, missing=(1, 4))
    with pytest.raises(UsageError, match="15 of 23"):
        ShapesHD(tmp_path)
    kept = np.r_[0:5, 10:20]
    dataset = ShapesHD(tmp_path, allow_incomplete=True)
    assert_serves(dataset, images[kept], labels[kept])
    np.testing.assert_array_equal(dataset.indices, kept)


def test_a_folder_without_a_manifest_is_unfinished(own_folder):
    (own_folder / MANIFEST_NAME).unlink()
    with pytest.raises(UsageError, match="has not ended"):
        ShapesHD(own_folder)
    assert len(ShapesHD(own_folder, allow_incomplete=True)) == COUNT


def test_a_missing_shard_is_named(own_folder):
    dataset = ShapesHD(own_folder)
    shard(own_folder, 3).unlink()
    with pytest.raises(DamagedShardError, match=f"{shard_name(3)}.*missing.*shapeshd render"):
        dataset[17]
    with pytest.raises(DamagedShardError, match=shard_name(3)):
        ShapesHD(own_folder)


def test_a_truncated_shard_is_named(own_folder):
    dataset = ShapesHD(own_folder)
    dataset[0]  # whose places are known by now
    for number in (0, 1):
        os.truncate(shard(own_folder, number), 3000)
    for index in (4, 5):
        with pytest.raises(DamagedShardError, match=f"{shard_name(index // 5)}.*shapeshd render"):
            dataset.__getitems__([index])
    with pytest.raises(DamagedShardError, match=shard_name(0)):
        ShapesHD(own_folder)
    with pytest.raises(DamagedShardError, match=shard_name(0)):
        ShapesHD(shard(own_folder, 0))


def test_a_shard_of_another_form_is_refused(own_folder):
    dataset = ShapesHD(own_folder)
    other = own_folder.parent / "other"
    write_noise_dataset(other, 5, size=8)
    shutil.copy(shard(other, 0), shard(own_folder, 0))
    with pytest.raises(DamagedShardError, match="other arrays"):
        dataset[0]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_no_flipped_bit_reaches_a_pixel(tmp_path, compression):
    images, labels = write_noise_dataset(tmp_path, 4, 8, 4, compression)
    path = shard(tmp_path, 0)
    sound = path.read_bytes()
    found = 0
    for byte in np.random.default_rng(0).choice(len(sound), 150, replace=False):
        flipped = bytearray(sound)
        flipped[byte] ^= 1 << (byte % 8)
        path.write_bytes(flipped)
        try:
            dataset = ShapesHD(tmp_path)
            for index in range(4):
                image, label = dataset[index]
                assert (image.numpy() == images[index].transpose(2, 0, 1)).all()
                assert (label.numpy() == labels[index]).all()
        except DamagedShardError as error:
            found += 1
            assert shard_name(0) in str(error)
            assert "shapeshd render" in str(error)
            assert "\n" not in str(error)
    assert found > 10


def test_a_damaged_file_of_others_is_not_ours_to_render(tmp_path):
    path = tmp_path / "3dshapes.h5"
    write_3dshapes_file(path, chunks=(1, 16, 16, 3), compression="gzip")
    with h5py.File(path, "r") as file:
        place = file["images"].id.get_chunk_info(3)
    with path.open("r+b") as file:
        file.seek(place.byte_offset + place.size // 2)
        file.write(b"\x00\xff\x00\xff")
    with pytest.raises(DamagedShardError, match=r"image 3 .*download"):
        ShapesHD(path)[3]


def test_errors_reach_the_main_process(own_folder):
    dataset = ShapesHD(own_folder)
    shard(own_folder, 2).unlink()
    with pytest.raises(DamagedShardError, match=shard_name(2)):
        list(DataLoader(dataset, batch_size=4, num_workers=1))


def test_a_manifest_made_anew_serves_the_same(own_folder):
    (own_folder / MANIFEST_NAME).unlink()
    write_manifest(own_folder, COUNT)
    assert_serves(ShapesHD(own_folder), *plain_loop(own_folder))
