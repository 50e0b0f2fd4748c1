"""Splits of an export and its card, read back by the libraries that they are for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from shapeshd import ShapesHD, open_dataset
from shapeshd.cli.export import command
from shapeshd.dataset.export import export_dataset, parse_splits
from shapeshd.dataset.export.splits import check_splits, cut
from shapeshd.errors import UsageError
from shapeshd.factors import NAMES, SHAPES, uniform_factors
from shapeshd.scene.sampling import GridSampling
from tests.support.image_files import write_hdf5
from tests.support.known_distributions import weighted
from tests.support.noise_dataset import write_noise_dataset

COUNT = 23
SHARES = {"train": 0.8, "test": 0.2}  # 18.4 and 4.6 images
TRAIN = 18


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    folder = tmp_path_factory.mktemp("data") / "set"
    return (folder, *write_noise_dataset(folder, COUNT))


@pytest.fixture
def hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Hugging Face's datasets, with a cache of its own and without a network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def load(*arguments: str, **options: Any) -> Any:
        return datasets.load_dataset(*arguments, **options, cache_dir=str(tmp_path / "cache"))

    yield load


def test_hugging_face_reads_parquet(
    source: tuple[Path, Any, Any], tmp_path: Path, hugging_face: Any
) -> None:
    folder, images, labels = source
    out = tmp_path / "out"
    export_dataset(ShapesHD(folder), out, "parquet", per_file=10, splits=SHARES)
    for found in (hugging_face(str(out)), hugging_face("parquet", data_dir=str(out))):
        assert {name: len(part) for name, part in found.items()} == {"train": TRAIN, "test": 5}
        shape = found["train"].features["shape"]
        assert shape.names == list(SHAPES)
        rows = [row for name in ("train", "test") for row in found[name]]
        for row, image, label in zip(rows, images, labels, strict=True):
            np.testing.assert_array_equal(np.asarray(row["image"]), image)
            assert [row[name] for name in NAMES] == label.tolist()
        assert shape.int2str(rows[0]["shape"]) == SHAPES[int(labels[0, 4])]


def test_hugging_face_reads_folders(
    source: tuple[Path, Any, Any], tmp_path: Path, hugging_face: Any
) -> None:
    folder, images, labels = source
    out = tmp_path / "out"
    export_dataset(ShapesHD(folder), out, "folder", splits=SHARES)
    found = hugging_face(str(out))
    assert {name: len(part) for name, part in found.items()} == {"train": TRAIN, "test": 5}
    row = found["test"][0]
    np.testing.assert_array_equal(np.asarray(row["image"]), images[TRAIN])
    assert [row[name] for name in NAMES] == labels[TRAIN].tolist()
    assert type(row["shape"]) is int
    assert len(ImageFolder(out / "train")) == TRAIN


@pytest.mark.parametrize(
    ("format", "names"),
    [
        ("parquet", ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]),
        ("webdataset", ["test-000000.tar", "train-000000.tar"]),
        ("stylegan-zip", ["test.zip", "train.zip"]),
        ("h5", ["test.h5", "train.h5"]),
    ],
)
def test_files_of_splits(
    source: tuple[Path, Any, Any], tmp_path: Path, format: str, names: list[str]
) -> None:
    out = tmp_path / "out"
    result = export_dataset(ShapesHD(source[0]), out, format, splits=SHARES)
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == sorted(["README.md", "export.json", *names])
    assert (result.images, result.files) == (COUNT, 4)
    if format == "h5":
        test = ShapesHD(out / "test.h5")
        np.testing.assert_array_equal(test.labels, source[2][TRAIN:])
        np.testing.assert_array_equal(test.pixels(2), source[1][TRAIN + 2])


def test_the_record_says_which_images_and_how_they_were_made(tmp_path: Path) -> None:
    images = open_dataset("render:7:12,size=8,start=100")
    export_dataset(images, tmp_path / "out", "folder", splits={"a": "0.5", "b": 0.25, "c": 0.25})
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (record["images"], record["indices"]) == (12, [[100, 112]])
    assert record["splits"] == {
        "a": {"images": 6, "indices": [[100, 106]]},
        "b": {"images": 3, "indices": [[106, 109]]},
        "c": {"images": 3, "indices": [[109, 112]]},
    }
    made = record["made"]
    assert (made["seed"], made["sampling"], made["size"], made["engine"]) == (
        7, "uniform", 8, "torch"
    )  # fmt: skip
    assert made["scene_version"] == 1
    # So a split can be named and made again anywhere.
    again = open_dataset("render:7:3,size=8,start=106")
    table = (tmp_path / "out" / "b" / "labels.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == ["106", "107", "108"]
    assert [float(value) for value in table[1].split(",")[2:]] == again.labels[0].tolist()
    card = (tmp_path / "out" / "README.md").read_text()
    for text in ("seed 7", "| b | 3 | 106 to 108 |", "| scale | relative size | [1, 2] |"):
        assert text in card


def test_gaps_stay_in_the_record(tmp_path: Path) -> None:
    write_noise_dataset(tmp_path / "set", COUNT, missing=(1,))
    dataset = ShapesHD(tmp_path / "set", allow_incomplete=True)  # 0 to 4, 10 to 22
    export_dataset(dataset, tmp_path / "out", "webdataset", splits={"train": 0.5, "test": 0.5})
    splits = json.loads((tmp_path / "out" / "export.json").read_text())["splits"]
    assert splits["train"]["indices"] == [[0, 5], [10, 14]]
    assert splits["test"]["indices"] == [[14, 23]]


def test_the_card_names_a_distribution(tmp_path: Path) -> None:
    known = weighted(shape=[1, 1, 1, 2])
    write_noise_dataset(tmp_path / "set", 7, sampling="distribution", distribution=known.text)
    export_dataset(ShapesHD(tmp_path / "set"), tmp_path / "out", "folder")
    assert str(known) in (tmp_path / "out" / "README.md").read_text()
    made = json.loads((tmp_path / "out" / "export.json").read_text())["made"]
    assert (made["distribution"], made["scene_version"]) == (known.text, None)


def test_a_file_that_does_not_say_how_it_was_made(tmp_path: Path) -> None:
    path = write_hdf5(
        tmp_path / "x.h5",
        images=np.zeros((4, 8, 8, 3), np.uint8),
        labels=uniform_factors(0, 0, 4),
    )
    export_dataset(ShapesHD(path), tmp_path / "out", "folder")
    assert json.loads((tmp_path / "out" / "export.json").read_text())["made"] == {}
    assert "not recorded" in (tmp_path / "out" / "README.md").read_text()


def test_splits_are_cut_by_exact_shares(source: tuple[Path, Any, Any]) -> None:
    images = open_dataset("render:0:1000000,size=8")
    shares = check_splits({"train": 0.7, "val": 0.2, "test": 0.1})  # sum to 1 - 1e-16 as floats
    assert shares["val"] == Fraction(1, 5)
    assert cut(images, shares) == {
        "train": range(700_000), "val": range(700_000, 900_000), "test": range(900_000, 1_000_000)
    }  # fmt: skip
    assert parse_splits("train=0.9, test=0.1") == {
        "train": Fraction(9, 10),
        "test": Fraction(1, 10),
    }


@given(st.integers(1, 60), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_every_image_is_in_one_split(count: int, weights: list[int]) -> None:
    images = open_dataset(f"render:0:{count},size=8")
    shares = {f"s{i}": Fraction(w, sum(weights)) for i, w in enumerate(weights)}
    try:
        parts = cut(images, check_splits(shares))
    except UsageError as error:
        assert "none of" in str(error)
        return
    assert [item for part in parts.values() for item in part] == list(range(count))
    for name, part in parts.items():
        assert abs(len(part) - shares[name] * count) <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train", "train=0.9,test=0.1"),
        ("train=0.5,train=0.5", "twice"),
        ("train=0.9,test=0.2", "1.1"),
        ("train=1,test=0", "above 0"),
        ("train=half,test=0.5", "above 0"),
        ("train=nan,test=0.5", "above 0"),
        ("train=2,test=-1", "at most 1"),
        ("train=1e400,test=1", "at most 1"),
        ("train=1e-999999999,test=1", "share of train"),
        ("=0.5,test=0.5", "letters"),
        ("../train=0.5,test=0.5", "../train"),
        ("a=0.5,A=0.5", "case"),
        ("train=0.999,test=0.001", "test would hold none"),
    ],
)
def test_impossible_splits_are_refused(
    source: tuple[Path, Any, Any], tmp_path: Path, text: str, message: str
) -> None:
    arguments = [str(source[0]), str(tmp_path / "out"), "--format", "folder", "--split", text]
    error = CliRunner().invoke(command, arguments).exception
    assert isinstance(error, UsageError)
    assert message in str(error) and "\n" not in str(error)
    assert list(tmp_path.iterdir()) == []


def test_images_in_the_order_of_a_factor_are_not_cut(tmp_path: Path) -> None:
    path = write_hdf5(
        tmp_path / "grid.h5",
        images=np.zeros((40, 8, 8, 3), np.uint8),
        labels=GridSampling().factors(0, 40),  # shapes 0, 0, ..., 1, ..., 2
    )
    with pytest.raises(UsageError, match="sorted by shape"):
        export_dataset(ShapesHD(path), tmp_path / "out", "folder", splits=SHARES)
    export_dataset(ShapesHD(path), tmp_path / "out", "folder")


def test_the_command_writes_splits(source: tuple[Path, Any, Any], tmp_path: Path) -> None:
    arguments = [str(source[0]), str(tmp_path / "out"), "--format", "webdataset", "--json"]
    answer = CliRunner().invoke(command, [*arguments, "--split", "train=0.8,test=0.2"])
    assert answer.exit_code == 0, answer.output
    splits = json.loads((tmp_path / "out" / "export.json").read_text())["splits"]
    assert splits["test"] == {"images": 5, "indices": [[18, 23]]}
