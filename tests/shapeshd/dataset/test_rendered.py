"""Images that are made as they are read: in a dataset, in workers, and in every command."""

from __future__ import annotations

import csv
import json
import pickle
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage
from torch.utils.data import DataLoader

from shapeshd import ShapesHD, render_images
from shapeshd.dataset import rendered
from shapeshd.errors import UsageError
from shapeshd.factors import MAX_IMAGE, uniform_factors
from shapeshd.raytracer.tracer import RayTracer
from shapeshd.scene.render_options import RenderOptions

SEED, START, COUNT, SIZE = 3, 40, 30, 16
SPEC = f"render:{SEED}:{COUNT},size={SIZE},start={START}"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def factors() -> Any:
    return uniform_factors(SEED, START, START + COUNT)


@pytest.fixture(scope="module")
def images(factors: Any) -> torch.Tensor:
    """What the tracer makes of the same images at once: uint8 (30, 3, 16, 16)."""
    return RayTracer(RenderOptions(SIZE))(factors)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the images of each call of a tracer."""
    counted: list[int] = []

    class Counting(RayTracer):
        def __call__(self, factors: Any, **options: Any) -> torch.Tensor:
            counted.append(len(factors))
            return super().__call__(factors, **options)

    monkeypatch.setattr(rendered, "RayTracer", Counting)
    return counted


def small(**options: Any) -> ShapesHD:
    return ShapesHD.rendered(SEED, START, COUNT, SIZE, **options)


def test_items_are_what_the_tracer_makes(images: torch.Tensor, factors: Any) -> None:
    dataset = small()
    assert (len(dataset), dataset.image_shape) == (COUNT, (3, SIZE, SIZE))
    for index in (0, 7, COUNT - 1, -1, -COUNT):
        image, label = dataset[index]
        assert (image.dtype, label.dtype, label.shape) == (torch.uint8, torch.float64, (6,))
        assert torch.equal(image, images[index])
        np.testing.assert_array_equal(label.numpy(), factors[index])
        np.testing.assert_array_equal(dataset.pixels(index), images[index].permute(1, 2, 0))
    assert not dataset.pixels(0).flags.writeable
    np.testing.assert_array_equal(dataset.labels, factors)
    assert dataset.labels is dataset.labels and not dataset.labels.flags.writeable
    np.testing.assert_array_equal(dataset.indices, np.arange(START, START + COUNT))
    assert repr(dataset) == f"ShapesHD({SPEC!r}): 30 images of 3x16x16"
    for beyond in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError, match="of 30 in render:3:30"):
            dataset[beyond]


def test_items_are_what_povray_renders() -> None:
    expected = render_images(uniform_factors(5, 0, 12), 48).astype(int)
    found = torch.stack([image for image, _ in ShapesHD.rendered(5, 0, 12, 48)])
    difference = abs(found.permute(0, 2, 3, 1).numpy().astype(int) - expected)
    assert (difference <= 1).mean() > 0.9998


@settings(max_examples=25)
@given(indices=st.lists(st.integers(-COUNT, COUNT - 1), max_size=20))
def test_a_batch_never_changes_an_image(
    images: torch.Tensor, factors: Any, indices: list[int]
) -> None:
    items = small().__getitems__(indices)
    assert len(items) == len(indices)
    for index, (image, label) in zip(indices, items, strict=True):
        assert torch.equal(image, images[index])
        np.testing.assert_array_equal(label.numpy(), factors[index])


@pytest.mark.parametrize("size", [64, 100])
def test_neither_batch_nor_count_nor_start_changes_an_image(size: int) -> None:
    whole = torch.cat([batch for batch, _ in DataLoader(ShapesHD.rendered(1, 0, 60, size), 60)])
    for batch_size in (1, 7, 32):
        parts = DataLoader(ShapesHD.rendered(1, 20, 33, size), batch_size)
        assert torch.equal(torch.cat([batch for batch, _ in parts]), whole[20:53])


def test_a_batch_is_one_call_of_the_tracer(calls: list[int]) -> None:
    loader = DataLoader(small(), batch_size=16, shuffle=True)
    shapes = [(tuple(batch.shape), batch.is_contiguous()) for batch, _ in loader]
    assert calls == [16, 14]
    assert shapes == [((16, 3, SIZE, SIZE), True), ((14, 3, SIZE, SIZE), True)]


def test_duplicates_in_a_batch_do_not_share_memory() -> None:
    first, second = small().__getitems__([4, 4])
    first[0].zero_()
    first[1].zero_()
    assert second[0].any() and second[1].any()


def test_options_reach_the_tracer(factors: Any) -> None:
    plain = RayTracer(RenderOptions(SIZE, None), dtype=torch.float64)(factors)
    fine = RayTracer(RenderOptions(SIZE, 0.1, 5))(factors)
    assert torch.equal(small(antialias=None, dtype=torch.float64)[3][0], plain[3])
    assert torch.equal(small(antialias=0.1, antialias_depth=5)[3][0], fine[3])
    dataset = small(transform=lambda image: image.float().mean(), target_transform=len)
    assert dataset[2] == (small()[2][0].float().mean(), 6)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_make_the_same(images: torch.Tensor, factors: Any, method: str) -> None:
    dataset = small()
    dataset.__getitems__(range(COUNT))  # the parent has a tracer, and its threads, when it forks
    loader = DataLoader(dataset, 8, num_workers=2, multiprocessing_context=method)
    batches = list(loader)
    assert torch.equal(torch.cat([batch for batch, _ in batches]), images)
    np.testing.assert_array_equal(torch.cat([label for _, label in batches]).numpy(), factors)
    assert torch.equal(dataset[0][0], images[0])  # and still works in the parent


def test_threads_share_a_dataset(images: torch.Tensor) -> None:
    dataset, failures = small(), []

    def read(seed: int) -> None:
        for index in np.random.default_rng(seed).integers(COUNT, size=30).tolist():
            if not torch.equal(dataset[index][0], images[index]):
                failures.append(index)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_pickling_leaves_the_tracer_behind(images: torch.Tensor, calls: list[int]) -> None:
    dataset = small()
    empty = len(pickle.dumps(dataset))
    assert dataset.labels.shape == dataset.indices.shape + (6,) == (COUNT, 6)
    dataset.__getitems__(range(COUNT))
    assert len(pickle.dumps(dataset)) == empty < 3000
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[9][0], images[9])


def test_a_billion_images_take_no_memory() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    dataset = ShapesHD.rendered(0, 0, 10**9, 8)
    last, label = dataset[-1]
    np.testing.assert_array_equal(label, uniform_factors(0, 10**9 - 1, 10**9)[0])
    np.testing.assert_array_equal(dataset.labels_of([5, -1])[1], label)
    assert torch.equal(last, ShapesHD.rendered(0, 10**9 - 1, 1, 8)[0][0])
    assert process.memory_info().rss - before < 100e6


def test_the_device_is_told_when_it_is_named() -> None:
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UsageError, match=r"device 'cuda:\d'"):
        ShapesHD.rendered(0, 0, 1, 8, device=missing)
    with pytest.raises(UsageError, match="dtype"):
        ShapesHD.rendered(0, 0, 1, 8, dtype=torch.float16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_are_on_the_device(factors: Any) -> None:
    expected = RayTracer(RenderOptions(SIZE), device="cuda")(factors)
    batch, labels = next(iter(DataLoader(small(device="cuda"), COUNT)))
    assert batch.is_cuda and labels.is_cuda and labels.dtype == torch.float64
    assert torch.equal(batch, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed must be"),
        ({"seed": 1.5}, "seed"),
        ({"count": 0}, "count"),
        ({"count": 2.0}, "count"),
        ({"count": True}, "count"),
        ({"start": -1}, "start"),
        ({"start": MAX_IMAGE - 2, "count": 3}, "at most"),
        ({"size": 7}, "size"),
        ({"antialias": 0}, "antialias must"),
        ({"antialias_depth": 0}, "depth"),
    ],
)
def test_impossible_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ShapesHD.rendered(**({"seed": 0, "count": 2, "size": 8} | options))


# --- the commands -------------------------------------------------------------------------


def test_info(run: Run, factors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    status, stdout, _ = run("info", SPEC, "--json")
    found = json.loads(stdout)
    assert status == 0
    assert (found["kind"], found["engine"], found["device"]) == ("rendered", "torch", "cpu")
    assert (found["seed"], found["start"], found["available"]) == (SEED, START, COUNT)
    assert (found["height"], found["width"], found["bytes"]) == (SIZE, SIZE, 0)
    assert [entry["max"] for entry in found["factors"]] == factors.max(axis=0).tolist()
    status, stdout, _ = run("info", SPEC)
    for text in (SPEC, "30, from index 40", "16x16 pixels", "uniform, seed 3", "torch", "cpu"):
        assert text in stdout
    assert "of the first" not in stdout
    monkeypatch.setattr("shapeshd.dataset.info._SUMMARISED", 20)
    status, stdout, _ = run("info", "render:0:1000000000")
    assert status == 0 and "1,000,000,000, from" in stdout and "of the first 20 images" in stdout


def test_stored_images_are_those_that_are_traced_when_read(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "data"
    assert run("render", out, "--engine", "torch", "--seed", 3, "--count", 9, "--size", 16)[0] == 0
    stored, made = ShapesHD(out), ShapesHD.rendered(3, 0, 9, 16)
    for index in range(9):
        np.testing.assert_array_equal(stored.pixels(index), made.pixels(index))
    np.testing.assert_array_equal(stored.labels, made.labels)
    assert "(as installed)" in run("info", out)[1]


def sheet_images(path: Path, count: int, columns: int) -> Iterator[Any]:
    """Cut the images out of a sheet without captions."""
    with PILImage.open(path) as picture:
        sheet = np.asarray(picture.convert("RGB"))
    for place in range(count):
        top, left = (16 + number * (SIZE + 8) for number in divmod(place, columns))
        yield sheet[top : top + SIZE, left : left + SIZE]


def test_preview(run: Run, tmp_path: Path, images: torch.Tensor, calls: list[int]) -> None:
    out = tmp_path / "out.png"
    for options in (["--start", 45, "--count", 9], ["--random", "--seed", 1, "--count", 9]):
        calls.clear()
        status, stdout, _ = run("preview", SPEC, out, "--columns", 4, "--json", *options)
        shown = json.loads(stdout)
        assert status == 0 and shown["available"] == COUNT and calls == [9]
        assert len(set(shown["indices"])) == 9 and set(shown["indices"]) <= set(range(40, 70))
        for index, found in zip(shown["indices"], sheet_images(out, 9, 4), strict=True):
            np.testing.assert_array_equal(found, images[index - START].permute(1, 2, 0))
    assert run("preview", SPEC, out, "--labels", "--count", 2)[0] == 0
    status, _, stderr = run("preview", SPEC, tmp_path / "no.png", "--start", 70)
    assert status == 2 and "the last is 69" in stderr


def test_preview_of_a_billion_images(run: Run, tmp_path: Path) -> None:
    out, spec = tmp_path / "out.png", "render:0:1000000000,size=8"
    status, stdout, _ = run("preview", spec, out, "--random", "--count", 3, "--labels", "--json")
    assert status == 0 and max(json.loads(stdout)["indices"]) > 10**8
    status, _, stderr = run("preview", spec, tmp_path / "no.png", "--count", 10**10)
    assert status == 2 and "too many" in stderr
    assert not (tmp_path / "no.png").exists()


def test_export(
    run: Run, tmp_path: Path, images: torch.Tensor, factors: Any, calls: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(rendered, "_BLOCK_IMAGES", 8)
    monkeypatch.setattr("shapeshd.dataset.export.samples._BLOCK", 10)
    out = tmp_path / "out"
    status, stdout, _ = run("export", SPEC, out, "--format", "folder", "--jobs", 3, "--json")
    assert status == 0 and json.loads(stdout)["images"] == COUNT
    assert sorted(calls) == [6, 8, 8, 8]
    rows = list(csv.DictReader((out / "labels.csv").open()))
    assert [int(row["index"]) for row in rows] == list(range(START, START + COUNT))
    np.testing.assert_array_equal([float(row["scale"]) for row in rows], factors[:, 3])
    for row, image in zip(rows, images, strict=True):
        with PILImage.open(out / row["file"]) as png:
            np.testing.assert_array_equal(np.asarray(png), image.permute(1, 2, 0))


@pytest.mark.parametrize("format", ["stylegan-zip", "webdataset", "parquet"])
def test_export_in_blocks_gives_the_same_bytes(
    run: Run, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for block in (4, 256):
        monkeypatch.setattr(rendered, "_BLOCK_IMAGES", block)
        out = tmp_path / (f"{block}.zip" if format == "stylegan-zip" else str(block))
        assert run("export", SPEC, out, "--format", format)[0] == 0
        files = sorted(path for path in [out, *out.rglob("*")] if path.is_file())
        written.append([path.read_bytes() for path in files])
    assert written[0] == written[1]
    if format == "webdataset":
        with tarfile.open(tmp_path / "4" / "shapeshd-000000.tar") as archive:
            assert archive.getnames()[:2] == ["00000040.png", "00000040.json"]


def test_blocks_shrink_with_the_size() -> None:
    blocks = {size: ShapesHD.rendered(0, 0, 10**6, size).block for size in (8, 64, 256, 2048)}
    assert blocks == {8: 256, 64: 256, 256: 64, 2048: 1}


@pytest.mark.parametrize("command", ["info", "preview", "export"])
def test_help_names_the_text_form(run: Run, command: str) -> None:
    status, stdout, _ = run(command, "--help")
    assert status == 0 and "render:SEED:COUNT" in stdout


def test_it_gives_pillows_images_and_numpy_batches() -> None:
    dataset, plain = small(decode="pil"), small()
    image, label = dataset[1]
    assert isinstance(image, PIL.Image.Image)
    np.testing.assert_array_equal(np.asarray(image), plain[1][0].permute(1, 2, 0))
    np.testing.assert_array_equal(label, plain[1][1])
    (images, labels), *_ = plain.numpy_batches(3)
    np.testing.assert_array_equal(images[1], np.asarray(image))
    np.testing.assert_array_equal(labels, plain.labels[:3])
