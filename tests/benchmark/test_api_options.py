"""`score` in a program takes what the command takes, and its messages name its arguments."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from torch import Tensor

import shapeshd.benchmark as package
from shapeshd.benchmark import score
from shapeshd.benchmark.sources.options import OPTIONS
from shapeshd.cli.score import command
from shapeshd.errors import UsageError
from tests import ROOT
from tests.support.fake_scores import ReadsWritten
from tests.support.network_pickles import saved, tiny_generator, write

PARAMETERS = set(inspect.signature(score).parameters)


def test_the_call_and_the_command_take_the_same() -> None:
    of_the_command = {option.name for option in command.params}
    assert PARAMETERS - of_the_command == {"generator", "progress"}
    assert of_the_command - PARAMETERS == {"source", "as_json", "sweep"}  # a call of its own
    assert PARAMETERS.issuperset(OPTIONS)


def test_defaults_are_the_same() -> None:
    of_the_command = {
        option.name: option.default for option in command.params if isinstance(option, click.Option)
    }
    for name, parameter in inspect.signature(score).parameters.items():
        if name in OPTIONS:
            assert parameter.default == OPTIONS[name].default == of_the_command[name], name
    text = score.__doc__ or ""
    assert all(f"        {name}: " in text for name in PARAMETERS)


def named_arguments(folder: Path) -> set[tuple[str, str]]:
    """The arguments that messages name, with the file of each."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "named":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add((str(path.relative_to(ROOT)), str(first.value)))
    return found


@pytest.mark.parametrize("room", ["sources", "scoring", "fidelity"])
def test_messages_name_arguments_of_the_call(room: str) -> None:
    found = named_arguments(ROOT / "benchmark" / room)
    assert len(found) > 1
    other = {name for _, name in found if name not in PARAMETERS}
    assert other <= {"sweep"}


def test_no_message_of_the_package_spells_an_option_by_hand() -> None:
    """It would read ``--batch`` in a program, too."""
    wrong = []
    for path in (ROOT / "benchmark").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and node.exc is not None:
                wrong += [
                    f"{path.name}:{part.lineno}: {part.value}"
                    for part in ast.walk(node.exc)
                    if isinstance(part, ast.Constant)
                    and isinstance(part.value, str)
                    and "--" in part.value
                    and "`shapeshd" not in part.value
                ]
    assert not wrong
    assert package.__all__


def test_options_reach_the_source(tmp_path: Path) -> None:
    path = write(tmp_path / "net.pkl", saved(tiny_generator()))
    with pytest.raises(UsageError, match="without classes"):
        score(path, classes=3)
    with pytest.raises(UsageError, match="has 6 styles: truncation_cutoff=9"):
        score(path, truncation=0.5, truncation_cutoff=9)
    with pytest.raises(UsageError, match="leave out frame_size"):
        score(path, frame_size="8x8")
    with pytest.raises(UsageError, match="fidelity_engine goes with fidelity"):
        score(path, fidelity_engine="povray")


def test_options_reach_a_function() -> None:
    seen: list[Any] = []

    def make(z: Tensor, steps: int) -> Tensor:
        seen.append(steps)
        raise RuntimeError("enough")

    with pytest.raises(Exception, match="enough"):
        score(make, 6000, latent_dim=4, steps=7, recognizer=ReadsWritten())
    assert set(seen) == {7}  # also in the shape that convolutions take
    with pytest.raises(UsageError, match="leave out key"):
        score(lambda z: torch.zeros(len(z), 3, 64, 64), 6000, latent_dim=4, key="x")
