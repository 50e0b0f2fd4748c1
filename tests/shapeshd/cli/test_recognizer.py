"""`train recognizer` and `recognizer evaluate`, as a user runs them."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch

from shapeshd.benchmark.recognizer.data import images_in_common
from shapeshd.benchmark.recognizer.evaluate import accuracy, measure_noise_floor
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.recognizer.train import RecognizerTraining
from shapeshd.dataset.shapes_hd import open_dataset
from shapeshd.dataset.shards import list_shards
from shapeshd.errors import UsageError
from shapeshd.factors import NAMES
from shapeshd.support.checkpoint import load_checkpoint
from tests.conftest import render_small
from tests.support.tiny_training import tiny_training

Run = Callable[..., tuple[int, str, str]]
TRAINED, HELD_OUT = 270, 30
SET = f"render:7:{TRAINED + HELD_OUT},size=64"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recognizer trained on the images 0 to 239 of seed 3; tests must not change it."""
    out = tmp_path_factory.mktemp("tiny") / "run"
    tiny_training(out, images=16 * 10).run()
    return out


@pytest.fixture
def own(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "own")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images 0 to 299 of seed 3, of which the first 240 were trained on."""
    out = tmp_path_factory.mktemp("stored") / "data"
    render_small(out, seed=3, count=300, size=64, shard_size=100, engine="torch")
    return out


def one_line(words: str) -> str:
    last = [line for line in words.splitlines() if line.startswith("shapeshd: error: ")]
    assert len(last) == 1
    assert words.rstrip().endswith(last[0])
    assert "Traceback" not in words
    assert "internal error" not in words
    return last[0]


def test_train_and_evaluate(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of full size, for ten steps."""
    out = tmp_path / "a run"
    arguments = ["train", "recognizer", SET, out, "--images", 320, "--batch", 32, "--device", "cpu"]
    arguments += ["--seed", 5, "--learning-rate", "1e-3", "--degraded", 0.5, "--precision", "fp32"]
    arguments += ["--held-out", HELD_OUT]
    command = ["shapeshd", *map(str, arguments)]
    monkeypatch.setattr("sys.argv", ["/somewhere/shapeshd", *command[1:]])
    status, stdout, stderr = run(*arguments, "--json")
    assert status == 0, stderr
    result = json.loads(stdout)
    assert result["images"] == HELD_OUT
    assert list(result["factors"]) == list(NAMES)
    card = load_checkpoint(out / "recognizer.safetensors").card
    assert {key: card["accuracy"][key] for key in result} == result
    settings = card["training"]["config"]
    assert (settings["seed"], settings["batch"], settings["degraded"]) == (5, 32, 0.5)
    assert (settings["learning_rate"], settings["precision"]) == (1e-3, "fp32")
    assert card["training"]["data"]["seed"] == 7
    assert card["training"]["steps"] == 10
    assert shlex.split(card["training"]["command"]) == command
    status, stdout, _ = run("recognizer", "info", out)
    assert status == 0
    assert card["training"]["command"] in stdout and card["sha256"] in stdout
    said = json.loads(run("recognizer", "info", out, "--json")[1])
    assert (said["sha256"], said["version"]) == (card["sha256"], None)
    assert {key: said[key] for key in ("training", "accuracy", "network")} == {
        key: card[key] for key in ("training", "accuracy", "network")
    }

    status, stdout, _ = run(*arguments)  # it is finished: only its table
    assert status == 0
    assert f"of {HELD_OUT} images in the right joint bin" in stdout
    assert all(name in stdout for name in NAMES)
    status, _, stderr = run(*arguments[:-1], 31)
    assert status == 2
    assert "config.held_out = 30, not 31" in one_line(stderr)

    # The figures of the card, by hand, from its own held-out images.
    held_out = f"render:7:{HELD_OUT},size=64,start={TRAINED}"
    status, stdout, stderr = run("recognizer", "evaluate", out, held_out, "--json")
    assert status == 0, stderr
    again = json.loads(stdout)
    assert {key: again["accuracy"][key] for key in result} == result
    assert again["recognizer"]["digest"] == card["sha256"]
    status, _, stderr = run("recognizer", "evaluate", out, SET)
    assert status == 2
    assert f"trained on {TRAINED} of its" in one_line(stderr)


def test_evaluate_speaks_to_people(run: Run, tiny: Path) -> None:
    status, stdout, _ = run("recognizer", "evaluate", tiny, "render:9:40,size=64")
    assert status == 0
    assert "of 40 images in the right joint bin" in stdout
    assert all(name in stdout for name in NAMES)


@pytest.mark.parametrize("engine", ["povray", "torch"])
def test_a_card_s_figures_are_repeated_exactly(run: Run, own: Path, engine: str) -> None:
    arguments = ["recognizer", "evaluate", own, "--count", 24, "--seed", 11, "--engine", engine]
    status, stdout, stderr = run(*arguments, "--write-card", "--json")
    assert status == 0, stderr
    written = json.loads(stdout)
    checkpoint = load_checkpoint(own / "recognizer.safetensors", "recognizer")
    assert checkpoint.card["accuracy"] == written["accuracy"]
    assert checkpoint.card["accuracy"]["data"] == {
        "renderer": engine, "seed": 11, "start": 0, "images": 24
    }  # fmt: skip
    assert checkpoint.digest == written["recognizer"]["digest"]
    assert "training" in checkpoint.card
    assert "network" in checkpoint.card
    status, stdout, _ = run(*arguments, "--json")
    assert json.loads(stdout)["accuracy"] == checkpoint.card["accuracy"]


def test_degraded_images_are_read_instead(run: Run, tiny: Path) -> None:
    """The result is that of reading them oneself, and says what was done to them."""
    arguments = ["recognizer", "evaluate", tiny, "render:9:40,size=64"]
    status, stdout, _ = run(*arguments, "--degrade", "jpeg=50", "--degrade", "brightness=0.9")
    assert status == 0
    assert "(jpeg=50) (brightness=0.9)" in stdout
    found = json.loads(run(*arguments, "--degrade", "brightness=0", "--json")[1])
    assert found["recognizer"]["degraded"] == "brightness=0"
    dataset = open_dataset("render:9:40,size=64")
    read = load_recognizer(tiny)(torch.zeros((40, 3, 64, 64), dtype=torch.uint8))
    expected = accuracy(dataset.read(range(40))[1], read).to_json()
    assert {key: found["accuracy"][key] for key in expected} == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--degrade", "jpeg=0"], "--degrade jpeg=0"),
        (["--degrade", "blur=1", "--write-card"], "--write-card"),
        (["--degrade", "blur=1", "--noise-floor", 6_000], "--noise-floor"),
    ],
)
def test_a_degradation_is_refused_in_one_line(
    run: Run, own: Path, options: list[Any], words: str
) -> None:
    before = (own / "recognizer.safetensors").read_bytes()
    status, stdout, stderr = run("recognizer", "evaluate", own, "render:9:5,size=64", *options)
    assert (status, stdout) == (2, "")
    assert words in one_line(stderr)
    assert (own / "recognizer.safetensors").read_bytes() == before


def test_a_card_is_written_only_when_asked(run: Run, own: Path) -> None:
    before = (own / "recognizer.safetensors").read_bytes()
    assert run("recognizer", "evaluate", own, "render:9:5,size=64", "--json")[0] == 0
    assert (own / "recognizer.safetensors").read_bytes() == before


def test_the_card_of_a_shipped_one_is_not_overwritten(
    run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And this is said at once, not after the evaluation."""
    shutil.copy(tiny / "recognizer.safetensors", tmp_path / "lite.safetensors")
    monkeypatch.setattr("shapeshd.benchmark.recognizer.find.WEIGHTS", tmp_path)
    before = (tmp_path / "lite.safetensors").read_bytes()
    spec = "render:9:5,size=64"
    assert run("recognizer", "evaluate", "lite", spec)[0] == 0
    status, stdout, stderr = run("recognizer", "evaluate", "lite", spec, "--write-card")
    assert (status, stdout) == (2, "")
    assert "the shipped lite" in one_line(stderr)
    assert "read by" not in stderr
    assert (tmp_path / "lite.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("dataset", "common"),
    [
        ("render:3:240,size=64", 240),
        ("render:3:300,size=64", 240),
        ("render:3:20,size=64,start=230", 10),
        ("render:3:20,size=64,start=239", 1),
        ("render:3:20,size=64,start=240", 0),
        ("render:4:300,size=64", 0),
    ],
)
def test_images_trained_on_are_counted_and_refused(
    run: Run, tiny: Path, dataset: str, common: int
) -> None:
    status, stdout, stderr = run("recognizer", "evaluate", tiny, dataset, "--json")
    if common:
        assert (status, stdout) == (2, "")
        words = one_line(stderr)
        assert f"trained on {common} of its" in words
        assert "another seed" in words
    else:
        assert status == 0, stderr


def test_a_stored_copy_of_them_is_refused_too(run: Run, tiny: Path, stored: Path) -> None:
    status, _, stderr = run("recognizer", "evaluate", tiny, stored)
    assert status == 2
    assert "trained on 240 of its" in one_line(stderr)
    for shard, common in zip(list_shards(stored), (100, 100, 40), strict=True):
        status, _, stderr = run("recognizer", "evaluate", tiny, shard)
        assert status == 2
        assert f"trained on {common} of its" in one_line(stderr)


@pytest.mark.parametrize("form", ["folder", "virtual", "shard"])
def test_what_was_trained_on_stored_images_knows_them(
    tmp_path: Path, stored: Path, form: str
) -> None:
    """Whether the folder was named, its one HDF5 file, or a shard."""
    second = list_shards(stored)[1]
    source = {"folder": stored, "virtual": stored / "dataset.h5", "shard": second}[form]
    tiny_training(tmp_path / "run", source=source, images=16, held_out=40).run()
    card = load_recognizer(tmp_path / "run").card
    data = card.trained_on
    assert data is not None and data.renderer is not None
    first, count = (100, 60) if form == "shard" else (0, 260)
    assert (data.seed, data.start, data.images) == (3, first, count)
    assert "ray tracer" in data.renderer
    assert data.dataset == source.name
    assert images_in_common(card, open_dataset("render:3:1000,size=64")) == count
    assert images_in_common(card, open_dataset(f"render:3:30,start={first + count - 4}")) == 4
    assert images_in_common(card, open_dataset("render:4:1000,size=64")) == 0


def test_a_foreign_file_has_no_seed(tmp_path: Path, stored: Path, tiny: Path) -> None:
    foreign = tmp_path / "3dshapes.h5"
    dataset = open_dataset(stored)
    images, labels = dataset.read(range(240, 300))
    with h5py.File(foreign, "w") as file:
        file["images"], file["labels"] = images, labels
    assert images_in_common(load_recognizer(tiny).card, open_dataset(foreign)) == 0
    tiny_training(tmp_path / "run", source=foreign, images=16, held_out=10).run()
    card = load_recognizer(tmp_path / "run").card
    assert card.trained_on is not None and card.trained_on.seed is None
    assert images_in_common(card, dataset) == 0


def test_a_fresh_render_of_images_trained_on_is_refused(run: Run, tiny: Path) -> None:
    status, _, stderr = run("recognizer", "evaluate", tiny, "--seed", 3, "--count", 10)
    assert status == 2
    assert "trained on 10 of these" in one_line(stderr)
    with pytest.raises(UsageError, match=r"trained on .*seed 3"):
        measure_noise_floor(load_recognizer(tiny), 400_000, seed=3)


def test_a_noise_floor_of_too_few_images(run: Run, tiny: Path) -> None:
    status, _, stderr = run("recognizer", "evaluate", tiny, "render:9:5,size=64",
                            "--noise-floor", 1)  # fmt: skip
    assert status == 2
    assert "1" in one_line(stderr)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "recognizer", "render:1:100,size=32"], "images are of 32x32"),
        (["train", "recognizer", "render:1:100,size=64", "--size", "hd"], "reads 256x256"),
        (["train", "recognizer", "render:1:60,size=64"], "60 images are too"),
        (["train", "recognizer", "render:1:100,size=64", "--images", 63], "at most images, 63"),
        (["train", "recognizer", "render:1:100,size=64", "--learning-rate", 2], "below 1, not 2"),
        (["train", "recognizer", "render:1:100,size=64", "--start-from", "no"], "no such recogn"),
        (["train", "recognizer", "render:1:100,size=64", "--device", "tpu9"], "--device tpu9"),
        (
            [
                "train",
                "recognizer",
                "render:1:99,size=256",
                "--size",
                "hd",
                "--start-from",
                "none",
                "--held-out",
                40,
            ],
            "99 images are too",
        ),
        (["train", "recognizer", "nowhere"], "nowhere: no such file"),
    ],
)
def test_train_refuses_in_one_line(
    run: Run, tmp_path: Path, arguments: list[Any], words: str
) -> None:
    status, stdout, stderr = run(*arguments[:3], tmp_path / "run", *arguments[3:])
    assert (status, stdout) == (2, "")
    assert words in one_line(stderr)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["render:9:5,size=32"], "32x32 pixels, but the recognizer"),
        (["nowhere"], "nowhere: no such file"),
        (["render:9:5,size=64", "--device", "tpu9"], "--device tpu9"),
    ],
)
def test_evaluate_refuses_in_one_line(
    run: Run, tiny: Path, arguments: list[str], words: str
) -> None:
    status, stdout, stderr = run("recognizer", "evaluate", tiny, *arguments)
    assert (status, stdout) == (2, "")
    assert words in one_line(stderr)


def test_evaluate_knows_no_such_recognizer(run: Run, tmp_path: Path) -> None:
    for name, words in (("litle", "say lite, "), (tmp_path, "training has not ended")):
        status, _, stderr = run("recognizer", "evaluate", name, "render:9:5,size=64")
        assert status == 2
        assert words in one_line(stderr)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_ends_a_training_in_one_line(
    run: Run, tmp_path: Path, stored: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shutil.copytree(stored, tmp_path / "data")
    with h5py.File(list_shards(data)[0]) as file:
        place = file["images"].id.get_chunk_info(5)
    with list_shards(data)[0].open("r+b") as raw:
        raw.seek(place.byte_offset + 10)
        raw.write(b"\xff" * 40)
    monkeypatch.setattr(RecognizerTraining, "save_seconds", 1e9)
    with pytest.raises(Exception, match=r"shard-000000\.h5") as caught:
        tiny_training(tmp_path / "run", source=data, workers=workers).run()
    assert type(caught.value).__name__ == "DamagedShardError"
    assert "\n" not in str(caught.value)
