"""The commands in the shipped recognizers' cards: what they set is what the cards record."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from shapeshd.benchmark.recognizer.find import find_recognizer
from shapeshd.benchmark.recognizer.recipe import RECIPES, default_held_out, recipe_for
from shapeshd.benchmark.recognizer.train import complete_settings
from shapeshd.cli.render import command as render
from shapeshd.cli.train import command as train
from shapeshd.support.checkpoint import read_card
from tests import ROOT

SIZES = {"lite": 64, "hd": 256}
SETTINGS = ("images", "batch", "learning_rate", "degraded", "degradation", "held_out", "seed",
            "precision")  # fmt: skip


def parsed(group: Any, arguments: list[str]) -> dict[str, Any]:
    """Return what the command line makes of arguments, without running anything."""
    command = group
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    return dict(command.make_context("test", arguments).params)


def settings_of(given: dict[str, Any], images: int) -> dict[str, Any]:
    """Return the settings of `train recognizer` with `given` on a dataset of so many images."""
    chosen = {name: given[name] for name in SETTINGS}
    config = complete_settings(chosen, SIZES[given["size"]], images, torch.device("cpu"))
    return config.to_json()


@pytest.fixture
def card(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The card of a recognizer, with the dataset of its command in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}-data").mkdir()
    return read_card(find_recognizer(name))


def recorded(card: dict[str, Any]) -> dict[str, Any]:
    return {"degradation": "mild", **card["training"]["config"]}  # the only way at that time


@pytest.mark.parametrize("name", RECIPES)
def test_the_command_in_a_card_sets_what_the_card_records(name: str, card: dict[str, Any]) -> None:
    program, *arguments = shlex.split(card["training"]["command"])
    assert (program, arguments.pop(0)) == ("shapeshd", "train")
    given = parsed(train, arguments)
    training = card["training"]
    assert settings_of(given, training["data"]["images"]) == recorded(card)
    assert SIZES[given["size"]] == training["network"]["size"]
    begun = given["start_from"]
    digest = None if begun is None else read_card(find_recognizer(begun))["sha256"]
    assert digest == training["start_from"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_command_of_its_data_does_too(name: str, card: dict[str, Any]) -> None:
    data = card["training"]["data"]
    program, *arguments = shlex.split(data["command"])
    assert (program, arguments.pop(0)) == ("shapeshd", "render")
    given = parsed(render, arguments)
    found = (given["count"], given["size"], given["seed"], given["engine"])
    assert found == (data["images"], data["size"], data["seed"], "torch")
    assert str(given["out"]) == shlex.split(card["training"]["command"])[3]


@pytest.mark.parametrize("name", RECIPES)
def test_the_defaults_are_how_it_was_trained(
    name: str, card: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor that is fast in bf16, as the one was."""
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True, raising=False)
    given = parsed(train, ["recognizer", f"{name}-data", name, "--size", name])
    training = card["training"]
    assert settings_of(given, training["data"]["images"]) == recorded(card)
    begun = recipe_for(SIZES[name]).start_from
    digest = None if begun is None else read_card(find_recognizer(begun))["sha256"]
    assert digest == training["start_from"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_page_has_the_same_commands(name: str, card: dict[str, Any]) -> None:
    lines = (ROOT / "docs" / "recognizers.md").read_text(encoding="utf-8").splitlines()
    assert card["training"]["command"] in lines
    assert card["training"]["data"]["command"] in lines


@pytest.mark.parametrize(
    ("images", "held_out"), [(1, 1), (19, 1), (40_000, 2_000), (240_000, 10_000)]
)
def test_a_twentieth_is_held_out(images: int, held_out: int) -> None:
    assert default_held_out(images) == held_out
