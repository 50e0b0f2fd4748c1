"""ShapesHD against plain h5py: every item, every order, every kind of file and worker."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from shapeshd import ShapesHD
from shapeshd.dataset import hdf5_files as sources
from shapeshd.dataset.manifest import MANIFEST_NAME, VIRTUAL_NAME, write_manifest
from shapeshd.dataset.shards import SHARD_FOLDER, shard_name
from shapeshd.errors import DamagedShardError, UsageError
from shapeshd.factors import uniform_factors
from tests.support.noise_dataset import noise_images, write_noise_dataset, write_pretrained

COUNT = 23


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    write_noise_dataset(folder, COUNT)
    return folder


@pytest.fixture
def own_folder(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "set"))


def shard(folder, number):
    return folder / SHARD_FOLDER / shard_name(number)


def plain_loop(folder):
    """Read a dataset with nothing but h5py."""
    images, labels = [], []
    for path in sorted((folder / SHARD_FOLDER).iterdir()):
        with h5py.File(path, "r") as file:
            images.append(file["images"][()])
            labels.append(file["labels"][()])
    return np.concatenate(images), np.concatenate(labels)


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def assert_serves(dataset, images, labels):
    assert len(dataset) == len(images)
    np.testing.assert_array_equal(dataset.labels, labels)
    for index in np.random.default_rng(0).permutation(len(images)):
        image, label = dataset[index]
        np.testing.assert_array_equal(image.numpy(), images[index].transpose(2, 0, 1))
        np.testing.assert_array_equal(label.numpy(), labels[index])


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_items_are_those_of_the_shards(tmp_path, compression):
    images, labels = write_noise_dataset(tmp_path, COUNT, compression=compression)
    assert_serves(ShapesHD(tmp_path), images, labels)
    np.testing.assert_array_equal(ShapesHD(tmp_path).indices, np.arange(COUNT))


def test_an_item_is_a_tensor_of_its_own(folder):
    dataset = ShapesHD(folder)
    image, label = dataset[3]
    assert (image.dtype, image.shape) == (torch.uint8, (3, 16, 16))
    assert (label.dtype, label.shape) == (torch.float64, (6,))
    assert next(iter(DataLoader(dataset, 2)))[0].is_contiguous()
    before = image.clone()
    image.zero_()
    label.zero_()
    assert torch.equal(dataset[3][0], before)
    assert dataset[3][1].any()
    assert dataset.image_shape == (3, 16, 16)


def test_transforms_get_image_and_label(folder):
    images, labels = plain_loop(folder)
    dataset = ShapesHD(folder, lambda image: image.float() / 255, lambda label: label[4])
    image, shape = dataset[7]
    np.testing.assert_allclose(image.numpy(), images[7].transpose(2, 0, 1) / 255, rtol=1e-6)
    assert shape == labels[7, 4]


def test_random_transforms_draw_in_the_order_asked_for(folder):
    drawn = []
    dataset = ShapesHD(folder, lambda image: drawn.append(int(image.sum())))
    dataset.__getitems__([9, 2, 20, 2])
    images, _ = plain_loop(folder)
    assert drawn == [int(images[index].sum()) for index in (9, 2, 20, 2)]


@settings(max_examples=50, deadline=None)
@given(indices=st.lists(st.integers(-COUNT, COUNT - 1), max_size=40))
def test_batches_come_in_the_order_asked_for(folder, indices):
    images, labels = plain_loop(folder)
    batch = ShapesHD(folder).__getitems__(indices)
    assert len(batch) == len(indices)
    for index, (image, label) in zip(indices, batch, strict=True):
        np.testing.assert_array_equal(image.numpy(), images[index].transpose(2, 0, 1))
        np.testing.assert_array_equal(label.numpy(), labels[index])


def test_duplicates_in_a_batch_do_not_share_memory(folder):
    first, second = ShapesHD(folder).__getitems__([4, 4])
    first[0].zero_()
    assert second[0].any()


@pytest.mark.parametrize("index", [COUNT, -COUNT - 1])
def test_there_is_no_image_beyond_the_ends(folder, index):
    dataset = ShapesHD(folder)
    with pytest.raises(IndexError, match=str(COUNT)):
        dataset[index]
    with pytest.raises(IndexError):
        dataset.__getitems__([0, index])


def test_iteration_ends(folder):
    assert sum(1 for _ in ShapesHD(folder)) == COUNT


@pytest.mark.parametrize(
    ("method", "compression"), [("fork", "gzip"), ("fork", "none"), ("spawn", "zstd")]
)
def test_workers_serve_the_same(tmp_path, method, compression):
    write_noise_dataset(tmp_path, COUNT, compression=compression)
    images, labels = plain_loop(tmp_path)
    dataset = ShapesHD(tmp_path)
    dataset[0]  # the parent holds an open file when it forks; a spawned worker begins anew
    for workers in (0, 2):
        loader = DataLoader(
            dataset,
            batch_size=4,
            num_workers=workers,
            multiprocessing_context=method if workers else None,
        )
        batches = list(loader)
        np.testing.assert_array_equal(
            torch.cat([batch[0] for batch in batches]).numpy(), images.transpose(0, 3, 1, 2)
        )
        np.testing.assert_array_equal(torch.cat([batch[1] for batch in batches]).numpy(), labels)
    dataset[1]  # and still works in the parent


def test_pickling_drops_files_and_caches(folder):
    dataset = ShapesHD(folder)
    empty = len(pickle.dumps(dataset))
    assert dataset.labels.shape == dataset.indices.shape + (6,) == (COUNT, 6)
    dataset.__getitems__(range(COUNT))
    assert len(pickle.dumps(dataset)) == empty
    assert_serves(pickle.loads(pickle.dumps(dataset)), *plain_loop(folder))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts through /proc")
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_few_files_stay_open(tmp_path, compression):
    count = sources.MAX_OPEN_FILES + 40
    images, labels = write_noise_dataset(tmp_path, count, 8, 1, compression)
    dataset = ShapesHD(tmp_path)
    before = open_descriptors()
    assert_serves(dataset, images, labels)
    held = open_descriptors() - before
    assert 0 < held <= sources.MAX_OPEN_FILES
    del dataset
    assert open_descriptors() == before


def test_a_forked_process_opens_its_own_files(folder):
    dataset = ShapesHD(folder)
    dataset[0]
    files = dataset._sources[0]._files
    mine = next(iter(files._open.values())).number
    child = os.fork()
    if child == 0:
        dataset[0]
        theirs = next(iter(files._open.values()))
        os._exit(0 if files._process == os.getpid() and theirs.number >= 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.fstat(mine)  # the child closed its own copy only


def test_threads_share_a_dataset(folder, monkeypatch):
    monkeypatch.setattr(sources.OpenFiles.__init__, "__defaults__", (1,))
    images, labels = plain_loop(folder)
    dataset = ShapesHD(folder)
    failures = []

    def read(seed):
        try:
            for index in np.random.default_rng(seed).integers(COUNT, size=300):
                image, label = dataset[index]
                assert (image.numpy() == images[index].transpose(2, 0, 1)).all()
                assert (label.numpy() == labels[index]).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_file_that_is_open_elsewhere_is_read(folder):
    with h5py.File(shard(folder, 0), "r"):  # with a lock, which ours must not mind
        assert ShapesHD(folder)[0][0].any()


# --- other files than a dataset folder ---------------------------------------------------


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
def test_a_foreign_file_is_read(tmp_path, storage):
    path = tmp_path / "3dshapes.h5"
    write_pretrained(path, **storage)
    assert_serves(ShapesHD(path), noise_images(30, 16, 1), uniform_factors(1, 0, 30))


def test_chunks_without_their_filter_are_read(tmp_path):
    # HDF5 lets a writer skip the filters of a chunk, and leave a chunk out.
    path = tmp_path / "3dshapes.h5"
    write_pretrained(path, count=2, chunks=(1, 16, 16, 3), compression="gzip")
    with h5py.File(path, "r+") as file:
        raw = noise_images(1, 16, 9)
        file["images"].id.write_direct_chunk((0, 0, 0, 0), raw.tobytes(), filter_mask=1)
    np.testing.assert_array_equal(ShapesHD(path).pixels(0), raw[0])
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "images", (2, 16, 16, 3), "u1", chunks=(1, 16, 16, 3), compression="gzip"
        )
        file["images"][1] = raw[0]
        file["labels"] = uniform_factors(0, 0, 2)
    assert not ShapesHD(path).pixels(0).any()
    np.testing.assert_array_equal(ShapesHD(path).pixels(1), raw[0])


def test_a_large_file_stays_on_disk(tmp_path):
    path = tmp_path / "3dshapes.h5"
    with h5py.File(path, "w") as file:  # 1.2 GB that take no space until they are written
        file.create_dataset("images", (100_000, 64, 64, 3), "u1")
        file.create_dataset("labels", (100_000, 6), "f8")
    dataset, process = ShapesHD(path), psutil.Process()
    before = process.memory_info().rss
    for index in range(0, len(dataset), 997):
        dataset[index]
    assert process.memory_info().rss - before < 100e6


def foreign_with(tmp_path, images, labels):
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
        ShapesHD(foreign_with(tmp_path, images, labels))


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such"):
        ShapesHD(tmp_path / "nothing")
    with pytest.raises(UsageError, match="holds no shards"):
        ShapesHD(tmp_path)
    text = tmp_path / "text.h5"
    text.write_text("not HDF5")
    with pytest.raises(UsageError, match="whole HDF5 file"):
        ShapesHD(text)


# --- incomplete and damaged datasets ------------------------------------------------------


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


def test_a_damaged_foreign_file_is_not_ours_to_render(tmp_path):
    path = tmp_path / "3dshapes.h5"
    write_pretrained(path, chunks=(1, 16, 16, 3), compression="gzip")
    with h5py.File(path, "r") as file:
        place = file["images"].id.get_chunk_info(3)
    with path.open("r+b") as file:
        file.seek(place.byte_offset + place.size // 2)
        file.write(b"\x00\xff\x00\xff")
    with pytest.raises(DamagedShardError, match=r"image 3 .*download the file again"):
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
