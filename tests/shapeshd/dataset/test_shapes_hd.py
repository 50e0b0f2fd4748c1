"""ShapesHD against plain h5py: every item, every order, every kind of file and worker."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path

import h5py
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchvision.transforms import ToTensor

from shapeshd import ShapesHD
from shapeshd.dataset import hdf5_reader
from shapeshd.errors import UsageError
from tests.support.noise_dataset import (
    COUNT,
    assert_serves,
    plain_loop,
    shard,
    write_noise_dataset,
)


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


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


def test_images_of_pillow_suit_torchvisions_first_transforms(folder):
    images, labels = plain_loop(folder)
    dataset = ShapesHD(folder, decode="pil")
    image, label = dataset[7]
    assert isinstance(image, PIL.Image.Image)
    assert (image.mode, image.size) == ("RGB", (16, 16))
    np.testing.assert_array_equal(np.asarray(image), images[7])
    np.testing.assert_array_equal(label, labels[7])
    scaled, _ = ShapesHD(folder, ToTensor(), decode="pil")[7]
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled.numpy(), images[7].transpose(2, 0, 1) / 255, rtol=1e-6)
    with pytest.raises(UsageError, match="decode"):
        ShapesHD(folder, decode="numpy")


def test_pillows_images_of_one_item_do_not_share_memory(folder):
    first, second = (image for image, _ in ShapesHD(folder, decode="pil").__getitems__([3, 3]))
    first.putpixel((0, 0), (1, 2, 3))
    assert second.getpixel((0, 0)) != (1, 2, 3)


def test_numpy_batches_hold_every_image_once(folder):
    images, labels = plain_loop(folder)
    dataset = ShapesHD(folder, lambda image: image.float())  # is not applied
    size = COUNT // 3 + 1
    found = list(dataset.numpy_batches(size))
    assert [len(batch) for batch, _ in found] == [size, size, COUNT - 2 * size]
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in found]), images)
    np.testing.assert_array_equal(np.concatenate([values for _, values in found]), labels)
    assert all(batch.flags.writeable and values.flags.writeable for batch, values in found)
    assert [len(batch) for batch, _ in dataset.numpy_batches(size, drop_last=True)] == [size] * 2


def test_numpy_batches_in_the_order_of_a_seed(folder):
    images, labels = plain_loop(folder)
    dataset = ShapesHD(folder)
    orders = []
    for seed in (0, 1, 0):
        pairs = list(dataset.numpy_batches(5, seed=seed))
        drawn = np.concatenate([values for _, values in pairs])
        rows = [int(np.flatnonzero((labels == row).all(axis=1))[0]) for row in drawn]
        np.testing.assert_array_equal(np.concatenate([batch for batch, _ in pairs]), images[rows])
        orders.append(rows)
    assert sorted(orders[0]) == list(range(COUNT))
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": 2.5}, {"size": 4, "seed": -1}])
def test_impossible_batches_are_refused_when_asked_for(folder, wrong):
    with pytest.raises(UsageError, match=list(wrong)[-1]):
        ShapesHD(folder).numpy_batches(**wrong)


def test_random_transforms_draw_in_the_order_asked_for(folder):
    drawn = []
    dataset = ShapesHD(folder, lambda image: drawn.append(int(image.sum())))
    dataset.__getitems__([9, 2, 20, 2])
    images, _ = plain_loop(folder)
    assert drawn == [int(images[index].sum()) for index in (9, 2, 20, 2)]


@settings(max_examples=50)
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
    count = hdf5_reader.MAX_OPEN_FILES + 40
    images, labels = write_noise_dataset(tmp_path, count, 8, 1, compression)
    dataset = ShapesHD(tmp_path)
    before = open_descriptors()
    assert_serves(dataset, images, labels)
    held = open_descriptors() - before
    assert 0 < held <= hdf5_reader.MAX_OPEN_FILES
    del dataset
    assert open_descriptors() == before


def test_a_forked_process_opens_its_own_files(folder):
    dataset = ShapesHD(folder)
    dataset[0]
    files = dataset._parts[0]._files
    mine = next(iter(files._open.values())).number
    child = os.fork()
    if child == 0:
        dataset[0]
        theirs = next(iter(files._open.values()))
        os._exit(0 if files._process == os.getpid() and theirs.number >= 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.fstat(mine)  # the child closed its own copy only


def test_threads_share_a_dataset(folder, monkeypatch):
    monkeypatch.setattr(hdf5_reader.OpenFiles.__init__, "__defaults__", (1,))
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
