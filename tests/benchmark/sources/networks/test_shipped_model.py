"""Trained generators that come with the program, as sources and in the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from shapeshd.benchmark.result.content import content_digest
from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.errors import UsageError
from shapeshd.models.networks.shipped import find_shipped
from shapeshd.support.checkpoint import read_card

Run = Callable[..., tuple[int, str, str]]
NAME = "model:mini/contrast"


def test_it_makes_the_images_of_its_file() -> None:
    model = find_shipped(NAME)
    with open_source(NAME, seed=3) as named, open_source(str(model.path), seed=3) as file:
        torch.testing.assert_close(named.images(5, 9), file.images(5, 9), rtol=0, atol=0)
        assert named.name == model.text  # with the phase, so that a result says which it is
        assert (named.kind, named.count) == ("model", None)
        assert named.describe() == file.describe()
        assert content_digest(named) == read_card(model.path)["sha256"]
        assert content_digest(file) != content_digest(named)  # that of the file, with its card


def test_options_are_those_of_a_checkpoint() -> None:
    with open_source(NAME, options=SourceOptions(batch=4)) as source:
        assert source.describe()["batch"] == 4
    with pytest.raises(UsageError, match="steps"):
        open_source(NAME, options=SourceOptions(steps=3))
    with pytest.raises(UsageError, match="key"):
        open_source(NAME, options=SourceOptions(key="images"))


@pytest.mark.parametrize(
    "words",
    [
        ("score", "model:mini/contrst"),
        ("sample", "model:mini/contrst", "sheet.png"),
        ("project", "model:mini/contrst", "render:0:64"),
        ("info", "model:mini/contrst"),
    ],
)
def test_every_command_lists_what_there_is(words: tuple[str, ...], run: Run) -> None:
    status, stdout, stderr = run(*words)
    assert (status, stdout) == (2, "")
    assert "mean model:mini/contrast" in stderr and "model:mini/vae" in stderr


def test_sample_and_project_take_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("sample", NAME, "sheet.png", "--count", "2")[0] == 0
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 64
    words = ("--count", "1", "--steps", "3", "--pool", "8", "--reference", "0")
    status, stdout, _ = run(
        "project", NAME, "render:0:64", *words, "--recognizer", "none", "--json"
    )
    assert status == 0
    found = json.loads(stdout)
    assert found["generator"]["sha256"] == read_card(find_shipped(NAME).path)["sha256"]
    assert found["encoder"] is not None  # the one that was trained with it


def test_info_shows_the_card(run: Run) -> None:
    status, stdout, _ = run("info", NAME, "--json")
    assert status == 0
    found = json.loads(stdout)
    card = read_card(find_shipped(NAME).path)
    assert found["training"][-1]["phase"] == card["phase"]
    assert found["images"] == sum(phase["images"] for phase in found["training"])
    assert found["score"] == card.get("score")
    status, stdout, _ = run("info", NAME)
    assert status == 0
    for said in (card["training"][0]["commit"], card["training"][-1]["command"], card["sha256"]):
        assert said in stdout
    status, stdout, _ = run("info", "model:")
    assert status == 0
    assert "model:mini/vae" in stdout and find_shipped(NAME).text in stdout
    status, stdout, _ = run("info", "model:", "--json")
    assert found in json.loads(stdout)["models"]
