"""What HDF5 makes up where nothing was written, and what is read of it all the same: nothing."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from shapeshd import ShapesHD
from shapeshd.benchmark.sources.open import open_source
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.dataset.hdf5_arrays import unwritten_rows, with_chunk_cache
from shapeshd.dataset.manifest import VIRTUAL_NAME
from shapeshd.dataset.shards import shard_name
from shapeshd.errors import DamagedShardError, UsageError
from shapeshd.factors import uniform_factors
from tests.support.noise_dataset import noise_images, shard, write_3dshapes_file

SHAPE = (23, 8, 8, 3)
NEVER = 200  # the fill value: whatever reads as this was never written
CHUNKS = [(1, 8, 8, 3), (5, 8, 8, 3), (3, 4, 8, 3), (7, 3, 5, 1), (23, 8, 8, 3)]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rows_without_a_chunk_are_those_that_read_as_the_fill_value(tmp_path, chunks, seed):
    random = np.random.default_rng(seed)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        array = file.create_dataset(
            "images", SHAPE, "u1", chunks=chunks, compression="gzip", fillvalue=NEVER
        )
        for _ in range(random.integers(0, 30)):
            at = random.integers(0, SHAPE)
            array[at[0], at[1], at[2], at[3]] = 0  # black is as good as any colour
        # One pixel that is written brings its chunk along: fill what the same chunk would show.
        shown = array[()]
        offsets = [
            array.id.get_chunk_info(i).chunk_offset for i in range(array.id.get_num_chunks())
        ]
        for offset in offsets:
            part = tuple(slice(o, o + c) for o, c in zip(offset, chunks, strict=True))
            shown[part] = 0
        wanted = np.flatnonzero((shown == NEVER).any(axis=(1, 2, 3)))
        np.testing.assert_array_equal(unwritten_rows(array), wanted)
        array[...] = 0
        assert not len(unwritten_rows(array))


def test_arrays_without_chunks(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        array = file.create_dataset("images", SHAPE, "u1")
        assert len(unwritten_rows(array)) == len(array)
        array[3] = 1
        assert not len(unwritten_rows(array))
        assert not len(unwritten_rows(file.create_dataset("none", (0, 6), "f8")))


def virtual_file(folder: Path, place: slice, *, written: int = 10, length: int = 10) -> h5py.File:
    """Map 10 images of another file, of which some were written, to a place among 20."""
    with h5py.File(folder / "source.h5", "w") as file:
        source = file.create_dataset("images", (length, 8, 8, 3), "u1", chunks=(1, 8, 8, 3))
        source[:written] = 5
    layout = h5py.VirtualLayout((20, 8, 8, 3), "u1")
    layout[place] = h5py.VirtualSource("source.h5", "images", (10, 8, 8, 3), "u1")
    with h5py.File(folder / "whole.h5", "w") as file:
        own = file.create_dataset("own", (10, 8, 8, 3), "u1", data=np.full((10, 8, 8, 3), 6))
        other = np.setdiff1d(np.arange(20), np.arange(20)[place])
        rest = slice(other[0], other[-1] + 1, other[1] - other[0])
        layout[rest] = h5py.VirtualSource(own)
        file.create_virtual_dataset("images", layout, fillvalue=NEVER)
    return h5py.File(folder / "whole.h5", "r")


@pytest.mark.parametrize("place", [slice(0, 10), slice(10, 20), slice(0, 20, 2), slice(1, 20, 2)])
@pytest.mark.parametrize("written", [10, 7])
def test_virtual_arrays_of_files_with_gaps(tmp_path, place, written):
    with virtual_file(tmp_path, place, written=written) as file:
        lacking = np.arange(20)[place][written:]
        np.testing.assert_array_equal(unwritten_rows(file["images"]), lacking)


def test_a_virtual_array_that_maps_more_than_there_is(tmp_path):
    with virtual_file(tmp_path, slice(0, 10), length=6) as file:
        assert unwritten_rows(file["images"]).tolist() == [6, 7, 8, 9]


def reserved(path: Path, *, written: int = 6, labels: int = 10, **storage: object) -> Path:
    """Write a file like 3dshapes.h5 in which room for 10 images was made."""
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (10, 16, 16, 3), "u1", **storage)
        images[:written] = noise_images(written, 16)
        shape = file.create_dataset("labels", (10, 6), "f8", chunks=(1, 6))
        shape[:labels] = uniform_factors(0, 0, labels)
    return path


@pytest.mark.parametrize(
    "storage",
    [
        {"chunks": (1, 16, 16, 3), "compression": "gzip"},
        {"chunks": (2, 16, 16, 3)},
        {"chunks": (3, 8, 16, 3), "compression": "lzf"},
    ],
)
def test_images_never_written_are_refused_by_every_reader(tmp_path, storage):
    path = reserved(tmp_path / "3dshapes.h5", **storage)
    with pytest.raises(DamagedShardError, match=r"3dshapes\.h5: image 6 .*4 of"):
        ShapesHD(path)[0]
    with pytest.raises(DamagedShardError, match="image 6 was never"), open_source(str(path)) as one:
        one.images(0, 2)
    with pytest.raises(UsageError, match=r"3dshapes\.h5: images: image 6 .*4"):
        open_source(str(path), options=SourceOptions(key="images"))


def test_labels_never_written_are_refused(tmp_path):
    path = reserved(tmp_path / "3dshapes.h5", written=10, labels=8)
    with pytest.raises(DamagedShardError, match=r"label 8 .*2 of 10"):
        ShapesHD(path).labels  # noqa: B018 - reads them


def test_a_shard_that_lost_a_chunk_is_to_be_rendered_again(own_folder):
    path = shard(own_folder, 1)
    with h5py.File(path, "r+") as file:
        attributes, images = dict(file.attrs), file["images"][()]
        del file["images"]
        array = file.create_dataset(
            "images", images.shape, "u1", chunks=(1, *images.shape[1:]), compression="gzip"
        )
        array[:3] = images[:3]
        assert dict(file.attrs).keys() == attributes.keys()
    dataset = ShapesHD(own_folder)
    with pytest.raises(DamagedShardError, match=f"{shard_name(1)}: image 3 .*render"):
        dataset[5]
    assert dataset[0][0].shape == (3, 16, 16)


def test_a_link_to_the_virtual_file_is_followed(own_folder, tmp_path):
    link = tmp_path / "link.h5"
    link.symlink_to(own_folder / VIRTUAL_NAME)
    np.testing.assert_array_equal(ShapesHD(link).labels, ShapesHD(own_folder).labels)
    with open_source(str(link), options=SourceOptions(key="images")) as source:
        image = ShapesHD(own_folder)[22][0]
        np.testing.assert_array_equal(source.images(22, 23)[0].numpy(), image.numpy())


def test_a_link_to_a_virtual_file_elsewhere_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    write_3dshapes_file(tmp_path / "there" / "one.h5", 4)
    with h5py.File(tmp_path / "there" / "index.h5", "w") as file:
        for name, shape, kind in (("images", (4, 16, 16, 3), "u1"), ("labels", (4, 6), "f8")):
            layout = h5py.VirtualLayout(shape, kind)
            layout[:] = h5py.VirtualSource("one.h5", name, shape, kind)
            file.create_virtual_dataset(name, layout)
    (tmp_path / "link.h5").symlink_to(tmp_path / "there" / "index.h5")
    np.testing.assert_array_equal(
        ShapesHD(tmp_path / "link.h5").pixels(2), noise_images(4, 16, 1)[2]
    )
    (tmp_path / "there" / "one.h5").unlink()
    with pytest.raises(DamagedShardError, match=r"one\.h5 is not beside"):
        ShapesHD(tmp_path / "link.h5")


@pytest.mark.parametrize("chunk", [(1, 64, 64, 3), (6000, 64, 64, 3), (30_000, 64, 64, 3)])
def test_the_cache_holds_a_chunk_of_many_images_and_none_of_one(tmp_path, chunk):
    with h5py.File(tmp_path / "x.h5", "w") as file:  # up to 370 MB that nobody writes
        file.create_dataset("images", (60_000, 64, 64, 3), "u1", chunks=chunk, compression="gzip")
        array = with_chunk_cache(file, "images")
        size = array.id.get_access_plist().get_chunk_cache()[1]
        assert size >= np.prod(chunk) if chunk[0] > 1 else size == 0


def test_encoded_images_in_hdf5_are_called_what_they_are(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        array = file.create_dataset("images", (3,), h5py.vlen_dtype(np.uint8))
        array[0] = np.frombuffer(b"\xff\xd8\xff", np.uint8)
    with pytest.raises(UsageError, match=r"images: .*variable length") as caught:
        open_source(str(tmp_path / "x.h5"))
    assert "pickle" not in str(caught.value)
