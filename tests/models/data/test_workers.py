"""Images to train on are read by processes, and what ends them is told."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shapeshd.errors import ShapesHDError
from shapeshd.models.data.images import ImageData, batches, open_training_images
from tests.support.noise_dataset import noise_images
from tests.support.training_images import (
    COUNT,
    KINDS,
    PNG,
    SIZE,
    WRITERS,
    Source,
    encoded,
    write_folder,
    write_lmdb,
)

# ------------------------------------------------------------------ processes


@pytest.mark.parametrize("kind", KINDS)
def test_pickled_data_gives_the_same_wherever_it_is_unpickled(
    source: Source, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = source(kind)
    if isinstance(path, Path):
        monkeypatch.chdir(path.parent)
        path = Path(path.name)
    data = open_training_images(path, SIZE)
    wanted = data.batch([5, 2])
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again.batch([5, 2]), wanted)
    assert (len(again), again.describe()) == (len(data), data.describe())


@pytest.mark.parametrize("kind", KINDS)
def test_workers_read_the_same_in_order(source: Source, kind: str) -> None:
    data = open_training_images(source(kind), SIZE)
    order = [[3, 1], [0, 5, 2], [6], [4, 4], [1, 0], [2, 6, 3], [5, 1]]
    before = torch.random.get_rng_state()
    here = list(batches(data, order, 0))  # files are open when the workers begin
    assert [len(batch) for batch in here] == [len(rows) for rows in order]
    for rows, batch in zip(order, here, strict=True):
        assert torch.equal(batch, data.batch(rows))
    there = list(batches(data, order, 2))
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_forked_workers_do_not_move_each_other_s_place_in_a_zip_file(tmp_path: Path) -> None:
    images = noise_images(40, 64)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for number, pixels in enumerate(images):
            archive.writestr(f"{number}.png", encoded(pixels, compress_level=0))
    data = open_training_images(tmp_path / "x.zip", None)
    rows = np.random.default_rng(0).integers(0, 40, (60, 4)).tolist()
    for chosen, batch in zip(rows, batches(data, rows, 2), strict=True):
        np.testing.assert_array_equal(batch.permute(0, 2, 3, 1), images[chosen])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_order_may_have_no_end(source: Source, workers: int) -> None:
    data = open_training_images(source("zip"), SIZE)
    drawn = 0

    def order() -> Iterator[Sequence[int]]:
        nonlocal drawn
        for number in itertools.count():
            drawn += 1
            yield range(number % COUNT, COUNT)

    found = list(itertools.islice(batches(data, order(), workers), 10))
    assert torch.equal(found[9], data.batch(range(2, COUNT)))
    assert drawn < 20


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_damaged_image_is_named_in_one_line(tmp_path: Path, kind: str, workers: int) -> None:
    names = {"folder": "img3.png", "zip": "x.zip: 00000/img00000003.png", "lmdb": "church: key3"}
    bad = PNG[3][: len(PNG[3]) // 2]
    if kind == "lmdb":
        values = {f"key{n}".encode(): bad if n == 3 else PNG[n] for n in range(COUNT)}
        path = write_lmdb(tmp_path / "church", values)
    elif kind == "zip":
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for n in range(COUNT):
                archive.writestr(f"00000/img{n:08}.png", bad if n == 3 else PNG[n])
    else:
        path = write_folder(tmp_path / "x")
        (path / "part0" / "img3.png").write_bytes(bad)
    data = open_training_images(path, SIZE)
    before = multiprocessing.active_children()  # of other tests
    found = batches(data, [[0], [2, 3]], workers)
    assert torch.equal(next(found)[0], data.batch([0])[0])
    with pytest.raises(ShapesHDError) as caught:
        next(found)
    text = str(caught.value)
    assert f"{names[kind]}: is damaged (" in text
    assert "\n" not in text
    assert "Traceback" not in text
    assert set(multiprocessing.active_children()) <= set(before)  # though the error lives on


class Deadly(ImageData):
    """Ends the process that reads it."""

    def __init__(self) -> None:
        super().__init__("deadly", "folder", 4, 8, None)

    def describe(self) -> dict[str, Any]:
        return self._head()

    def _read(self, indices: list[int]) -> Tensor:
        os._exit(3)


def test_a_worker_that_is_ended_is_told_in_one_line() -> None:
    before = multiprocessing.active_children()  # of other tests
    message = "a process that reads images was ended; go on with fewer"
    with pytest.raises(ShapesHDError, match=message) as caught:
        next(batches(Deadly(), [[0], [1]], 2))
    assert set(multiprocessing.active_children()) <= set(before)
    assert "\n" not in str(caught.value)


class NoMemory(Deadly):
    """Fails as PyTorch does in a process that cannot make shared memory."""

    def _read(self, indices: list[int]) -> Tensor:
        raise RuntimeError("unable to open shared memory object </torch_1> in read-write mode")


def test_shared_memory_that_is_full_or_read_only_is_told_in_one_line() -> None:
    with pytest.raises(ShapesHDError, match=r"/dev/shm is full, .* use workers=0") as caught:
        next(batches(NoMemory(), [[0], [1]], 1))
    assert "\n" not in str(caught.value)


TINY = """
import sys
from pathlib import Path
from shapeshd.models.data.images import batches, open_training_images
data = open_training_images(Path(sys.argv[1]), 256)
try:
    next(batches(data, [[0, 1, 2, 3]], 1))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_shared_memory_that_is_too_small_really_does_not_hang(tmp_path: Path) -> None:
    """PyTorch's own loader waits forever for a batch that cannot be handed over."""
    mount = "mount -t tmpfs -o size=64k tmpfs /dev/shm"
    try:
        able = subprocess.run(
            ["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False
        ).returncode
    except FileNotFoundError:
        able = 1
    if able:
        pytest.skip("no file system can be mounted here")
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encoded(np.full((256, 256, 3), 9, np.uint8)))
    script = f'{mount} && exec "$0" "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable, "-c", TINY, str(tmp_path)],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("ShapesHDError a process that reads images cannot hand them over")
    assert done.stdout.endswith("use workers=0\n")


def test_processes_that_cannot_be_started_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    with pytest.raises(ShapesHDError, match=r"Read-only .* use workers=0") as caught:
        next(batches(Deadly(), [[0], [1]], 1))
    assert "\n" not in str(caught.value)


def test_an_lmdb_is_read_by_threads_and_by_forked_processes_at_once(source: Source) -> None:
    """LMDB may be open once in a process, and not while it is forked."""
    one, two = (open_training_images(source("lmdb"), SIZE) for _ in range(2))
    wanted = one.batch(range(COUNT))
    stop, wrong = threading.Event(), []

    def read(data: ImageData) -> None:
        try:
            while not stop.is_set():
                if not torch.equal(data.batch([3, 1]), wanted[[3, 1]]):
                    wrong.append("other pixels")
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=read, args=(data,)) for data in (one, two, one)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            found = torch.cat(list(batches(two, [[row] for row in range(COUNT)], 2)))
            assert torch.equal(found, wanted)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
