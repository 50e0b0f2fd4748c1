"""Every export read back with the reader of its own world, against the shards' pixels."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import psutil
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from torchvision.datasets import ImageFolder

from shapeshd import ShapesHD
from shapeshd.cli.export import command
from shapeshd.dataset.export import encode_png, export_dataset, run, samples, writers
from shapeshd.dataset.export.format_names import FORMATS, LABELS
from shapeshd.dataset.export.writers import WRITERS
from shapeshd.dataset.shards import SHARD_FOLDER, shard_name
from shapeshd.errors import DamagedShardError, MissingPackageError, UsageError
from shapeshd.factors import NAMES
from tests.support.noise_dataset import noise_images, write_noise_dataset

COUNT = 23


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    return (folder, *write_noise_dataset(folder, COUNT))


def out_name(tmp_path, format):
    return tmp_path / {"stylegan-zip": "out.zip", "h5": "out.h5"}.get(format, "out")


def decode(data):
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def fingerprint(out):
    """Hash every file's name and bytes."""
    files = sorted(path for path in out.rglob("*") if path.is_file()) if out.is_dir() else [out]
    return [
        (path.relative_to(out).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
    ]


def check_table(text, labels, names):
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["index"]) for row in rows] == list(range(len(labels)))
    assert [row["file"] for row in rows] == names
    values = [[float(row[name]) for name in NAMES] for row in rows]
    np.testing.assert_array_equal(values, labels)


@settings(max_examples=40)
@given(
    image=st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(
        lambda size: arrays(np.uint8, (*size, 3))
    )
)
def test_png_gives_the_pixels_back(image):
    np.testing.assert_array_equal(decode(encode_png(image)), image)


def test_png_of_other_strides():
    image = noise_images(1, 9)[0]
    for view in (image[::2, ::-1], image.transpose(1, 0, 2), image[..., ::-1]):
        np.testing.assert_array_equal(decode(encode_png(view)), view)


def test_folder_is_read_by_image_folder(source, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "_BLOCK", 10)
    folder, images, labels = source
    result = export_dataset(ShapesHD(folder), tmp_path / "out", "folder")
    read = ImageFolder(tmp_path / "out")
    assert read.classes == ["00000", "00001", "00002"]
    assert len(read) == COUNT
    for index, (image, block) in enumerate(read):
        assert block == index // 10
        np.testing.assert_array_equal(np.asarray(image), images[index])
    names = [f"{index // 10:05d}/img{index:08d}.png" for index in range(COUNT)]
    assert [
        Path(path).relative_to(tmp_path / "out").as_posix() for path, _ in read.samples
    ] == names
    check_table((tmp_path / "out" / "labels.csv").read_text(), labels, names)
    rows = list(csv.DictReader((tmp_path / "out" / "metadata.csv").open()))
    assert [row["file_name"] for row in rows] == names
    assert [list(row) for row in rows] == [["file_name", *NAMES]] * COUNT
    np.testing.assert_array_equal([[float(row[n]) for n in NAMES] for row in rows], labels)
    assert (result.images, result.files) == (COUNT, COUNT + 4)
    sizes = [path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert result.bytes == sum(sizes)


@pytest.mark.parametrize("labels_wanted", ["none", "shape", "factors"])
def test_stylegan_zip(source, tmp_path, labels_wanted):
    folder, images, labels = source
    out = tmp_path / "out.zip"
    export_dataset(ShapesHD(folder), out, "stylegan-zip", labels=labels_wanted)
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        Image.init()  # the trainers take what Pillow has an extension for, sorted by name
        names = sorted(n for n in archive.namelist() if Path(n).suffix.lower() in Image.EXTENSION)
        assert names == [f"00000/img{index:08d}.png" for index in range(COUNT)]
        for name, image in zip(names, images, strict=True):
            np.testing.assert_array_equal(decode(archive.read(name)), image)
        check_table(archive.read("labels.csv").decode(), labels, names)
        found = json.loads(archive.read("dataset.json"))["labels"]
    if labels_wanted == "none":
        assert found is None
        return
    values = [dict(found)[name] for name in names]
    if labels_wanted == "shape":
        assert {type(value) for value in values} == {int}
        assert np.array(values).ndim == 1  # by which NVlabs' trainers take it for a class
        assert values == labels[:, 4].tolist()
    else:
        np.testing.assert_array_equal(values, labels)


def test_webdataset(source, tmp_path):
    folder, images, labels = source
    export_dataset(ShapesHD(folder), tmp_path / "out", "webdataset", per_file=10)
    paths = sorted((tmp_path / "out").glob("*.tar"))
    assert [path.name for path in paths] == [f"shapeshd-{number:06d}.tar" for number in range(3)]
    index = 0
    for path in paths:
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}
            # A sample's files must follow each other: readers stream.
            for png, text in zip(members[::2], members[1::2], strict=True):
                assert (png.name, text.name) == (f"{index:08d}.png", f"{index:08d}.json")
                np.testing.assert_array_equal(
                    decode(archive.extractfile(png).read()), images[index]
                )
                factors = json.load(archive.extractfile(text))
                assert list(factors) == list(NAMES)
                assert list(factors.values()) == labels[index].tolist()
                index += 1
    assert index == COUNT


def test_parquet(source, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "_ROW_GROUP", 4)
    folder, images, labels = source
    export_dataset(ShapesHD(folder), tmp_path / "out", "parquet", per_file=10)
    paths = sorted((tmp_path / "out" / "data").iterdir())
    assert [path.name for path in paths] == [f"train-{n:05d}-of-00003.parquet" for n in range(3)]
    assert pyarrow.parquet.ParquetFile(paths[0]).num_row_groups == 3
    table = pyarrow.parquet.read_table(tmp_path / "out" / "data")
    assert table.column_names == ["image", *NAMES]
    for index, cell in enumerate(table["image"].to_pylist()):
        np.testing.assert_array_equal(decode(cell["bytes"]), images[index])
        assert cell["path"] == f"{index:08d}.png"
    np.testing.assert_array_equal(np.stack([table[name] for name in NAMES], axis=1), labels)
    # What Hugging Face's datasets reads: its own type for each column, under this key.
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    types = [features[name].get("dtype") for name in NAMES]
    assert types == ["float64"] * 4 + [None, "float64"]
    assert features["shape"]["names"] == ["cube", "cylinder", "sphere", "capsule"]
    assert table["shape"].type == "int64"


@pytest.mark.parametrize("format", FORMATS)
def test_bytes_depend_on_the_dataset_alone(source, tmp_path, format):
    prints = []
    for jobs in (1, 3):
        out = out_name(tmp_path / f"jobs{jobs}", format)
        export_dataset(ShapesHD(source[0]), out, format, per_file=10, jobs=jobs)
        prints.append(fingerprint(out))
        assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert prints[0] == prints[1]


def test_files_of_an_incomplete_dataset_keep_their_indices(tmp_path):
    images, labels = write_noise_dataset(tmp_path / "set", COUNT, missing=(1,))
    dataset = ShapesHD(tmp_path / "set", allow_incomplete=True)
    export_dataset(dataset, tmp_path / "out", "folder")
    assert not (tmp_path / "out/00000/img00000005.png").exists()
    png = (tmp_path / "out/00000/img00000010.png").read_bytes()
    np.testing.assert_array_equal(decode(png), images[10])
    rows = list(csv.DictReader((tmp_path / "out/labels.csv").open()))
    assert rows[5]["index"] == "10"
    assert float(rows[5]["wall_hue"]) == labels[10, 1]


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_left_of_a_failed_export(tmp_path, format):
    write_noise_dataset(tmp_path / "set", COUNT)
    dataset = ShapesHD(tmp_path / "set")
    (tmp_path / "set" / SHARD_FOLDER / shard_name(3)).unlink()
    with pytest.raises(DamagedShardError, match=shard_name(3)):
        export_dataset(dataset, out_name(tmp_path, format), format)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_nothing_is_left_of_an_interrupted_export(source, tmp_path, monkeypatch):
    seen = []

    def interrupt(image):
        seen.append(image)
        if len(seen) == 10:
            raise KeyboardInterrupt
        return encode_png(image)

    monkeypatch.setattr(run, "encode_png", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_dataset(ShapesHD(source[0]), tmp_path / "out", "folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("existing", ["file", "folder", "link"])
def test_an_existing_target_stays(source, tmp_path, existing):
    out = tmp_path / "out.zip"
    if existing == "file":
        out.write_text("mine")
    elif existing == "folder":
        out.mkdir()
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists already"):
        export_dataset(ShapesHD(source[0]), out, "stylegan-zip")
    assert [path.name for path in tmp_path.iterdir()] == ["out.zip"]


def test_a_target_that_appears_meanwhile_stays(source, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def write(path, samples, task):
        list(samples)
        path.mkdir()
        out.mkdir()

    monkeypatch.setitem(WRITERS, "folder", write)
    with pytest.raises(UsageError, match="exists already"):
        export_dataset(ShapesHD(source[0]), out, "folder")
    assert list(out.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("format", "options", "message"),
    [
        ("tiff", {}, "unknown format"),
        ("stylegan-zip", {}, "end in .zip"),
        ("folder", {"labels": "shape"}, "stylegan-zip only"),
        ("folder", {"labels": "colour"}, "unknown labels"),
        ("webdataset", {"per_file": 0}, "at least one image"),
        ("folder", {"jobs": 0}, "jobs"),
    ],
)
def test_wrong_arguments_are_refused(source, tmp_path, format, options, message):
    with pytest.raises(UsageError, match=message):
        export_dataset(ShapesHD(source[0]), tmp_path / "out", format, **options)
    assert list(tmp_path.iterdir()) == []


def test_one_hdf5_file_stands_alone(source, tmp_path):
    folder, images, labels = source
    result = export_dataset(ShapesHD(folder), tmp_path / "alone.h5", "h5")
    assert (result.images, result.files) == (COUNT, 1)
    with h5py.File(tmp_path / "alone.h5", "r") as file:  # as code for 3dshapes.h5 reads it
        assert sorted(file) == ["images", "labels"]
        assert not file["images"].is_virtual
        np.testing.assert_array_equal(file["images"][()], images)
        np.testing.assert_array_equal(file["labels"][()], labels)
        assert (file["images"].dtype, file["labels"].dtype) == (np.uint8, np.float64)
    again = ShapesHD(tmp_path / "alone.h5")
    np.testing.assert_array_equal(again.pixels(7), images[7])
    with pytest.raises(UsageError, match=r"must end in \.h5"):
        export_dataset(ShapesHD(folder), tmp_path / "alone", "h5")


def test_parquet_in_a_folder_whose_name_is_no_utf8(source, tmp_path):
    out = tmp_path / os.fsdecode(b"out-\xff")
    try:
        (tmp_path / os.fsdecode(b"\xff")).touch()
    except OSError:
        pytest.skip("this file system takes no name that is no UTF-8")
    export_dataset(ShapesHD(source[0]), out, "parquet")
    [path] = (out / "data").iterdir()
    assert pyarrow.parquet.read_table(path.open("rb")).num_rows == len(ShapesHD(source[0]))


def test_parquet_without_pyarrow_names_the_extra(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"shapeshd\[parquet\]"):
        export_dataset(ShapesHD(source[0]), tmp_path / "out", "parquet")


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_memory_does_not_grow_with_the_dataset(tmp_path, monkeypatch, format):
    with h5py.File(tmp_path / "3dshapes.h5", "w") as file:  # with hardly a byte on disk
        file.create_dataset("images", (4000, 128, 128, 3), "u1")[0] = 1
        file.create_dataset("labels", (4000, 6), "f8")[0] = 0
    process = psutil.Process()
    used = []

    def encode(image):
        used.append(process.memory_info().rss)
        return encode_png(image)

    monkeypatch.setattr(samples, "_PNG_LEVEL", 0)  # large files of empty images
    monkeypatch.setattr(run, "encode_png", encode)
    result = export_dataset(ShapesHD(tmp_path / "3dshapes.h5"), tmp_path / "out", format)
    assert result.bytes > 190e6
    assert max(used) - used[0] < 80e6


def test_command_reports_as_json(source, tmp_path):
    arguments = [str(source[0]), str(tmp_path / "out"), "--format", "webdataset", "--json"]
    answer = CliRunner().invoke(command, [*arguments, "--per-file", "8", "--jobs", "1"])
    assert answer.exit_code == 0, answer.output
    result = json.loads(answer.stdout)
    assert (result["images"], result["files"], result["format"]) == (COUNT, 5, "webdataset")
    assert result["path"] == str(tmp_path / "out")


def test_command_names_its_formats_as_the_library():
    formats = next(option for option in command.params if option.name == "format")
    assert list(formats.type.choices) == list(FORMATS) == list(WRITERS)
    labels = next(option for option in command.params if option.name == "labels")
    assert tuple(labels.type.choices) == LABELS
