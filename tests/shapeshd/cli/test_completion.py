"""Completion in the shell: commands, options, files, and the names that the program knows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from shapeshd.cli.main import cli
from shapeshd.models.config_file import shipped_configs

FILE = "file"


def complete(*words: str) -> list[CompletionItem]:
    """What the shell would offer for the last of the words, which may be begun."""
    shell = ShellComplete(cli, {}, "shapeshd", "_SHAPESHD_COMPLETE")
    return shell.get_completions(list(words[:-1]), words[-1])


def values(*words: str) -> list[str]:
    return [item.value for item in complete(*words) if item.type == "plain"]


def offers_files(*words: str) -> bool:
    return any(item.type == FILE for item in complete(*words))


def test_commands() -> None:
    assert values("re") == ["render", "recognizer"]
    assert values("train", "") == ["recognizer", "vae", "aae", "gan", "flow", "baseline"]
    assert values("nosuch") == []


def test_options_and_choices() -> None:
    assert values("score", "x.npy", "--trun") == ["--truncation", "--truncation-cutoff"]
    assert values("score", "x.npy", "--noise", "") == ["const", "random", "none"]
    assert "from-scratch" in values("train", "baseline", "")
    assert values("score", "x.npy", "--device", "c") == ["cpu", "cuda"]


def test_names_and_files() -> None:
    assert values("train", "vae", "--config", "") == shipped_configs()
    assert values("train", "vae", "--config", "l") == ["lite"]
    assert offers_files("train", "vae", "--config", "")
    names = ["lite", "lite-robust", "lite-256", "hd"]
    assert values("score", "x.npy", "--recognizer", "") == names
    assert values("recognizer", "evaluate", "l") == names[:3]
    assert values("project", "g.safetensors", "data", "--encoder", "a") == ["auto"]
    assert offers_files("project", "g.safetensors", "data", "--recognizer", "run")


@pytest.mark.parametrize(
    "words",
    [
        ("score", ""),
        ("score", "runs/"),
        ("sample", ""),
        ("sample", "x.onnx", ""),
        ("info", ""),
        ("export", "data", ""),
        ("preview", "data", ""),
        ("compare", ""),
        ("project", ""),
        ("train", "recognizer", ""),
        ("train", "gan", ""),
        ("score", "x", "--distribution", ""),
        ("score", "x", "--out", ""),
    ],
)
def test_files(words: tuple[str, ...]) -> None:
    assert offers_files(*words)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_program_answers_the_shells(shell: str) -> None:
    """By the variables that the scripts of click set."""
    assert get_completion_class(shell) is not None
    words = {
        "bash": {"COMP_WORDS": "shapeshd score --fid", "COMP_CWORD": "2"},
        "zsh": {"COMP_WORDS": "shapeshd score --fid", "COMP_CWORD": "2"},
        "fish": {"COMP_WORDS": "shapeshd score --fid", "COMP_CWORD": "--fid"},
    }[shell]
    done = subprocess.run(
        [sys.executable, "-m", "shapeshd"],
        env={**os.environ, **words, "_SHAPESHD_COMPLETE": f"{shell}_complete"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--fidelity" in done.stdout
    assert "--fidelity-engine" in done.stdout
    assert "--samples" not in done.stdout


def test_completing_a_command_imports_no_command() -> None:
    code = (
        "import sys\nfrom click.shell_completion import ShellComplete\n"
        "from shapeshd.cli.main import cli\n"
        "found = ShellComplete(cli, {}, 'shapeshd', 'X').get_completions([], 's')\n"
        "assert [item.value for item in found] == ['score', 'sample']\n"
        "assert 'shapeshd.cli.score' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
