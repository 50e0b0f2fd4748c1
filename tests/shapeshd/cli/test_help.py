"""Help in sections with examples, suggestions for other names, and options from the environment."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from shapeshd.benchmark.sources.registry import source_kinds
from shapeshd.cli.command import OTHER_NAMES, Command, Group, command_line, variable_of
from shapeshd.cli.main import cli
from shapeshd.models.methods import METHODS
from tests.project.test_pages_commands import check_shapeshd

Run = Callable[..., tuple[int, str, str]]


def walk(
    command: click.Command, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from walk(found, (*words, name))


ALL = dict(walk(cli, ()))
LEAVES = {words: command for words, command in ALL.items() if not isinstance(command, click.Group)}


def flags(command: click.Command) -> set[str]:
    options = [one for one in command.params if isinstance(one, click.Option)]
    return {max(one.opts, key=len) for one in options} | {"--help"}


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_option_is_in_one_section(words: tuple[str, ...]) -> None:
    command = LEAVES[words]
    assert isinstance(command, Command)
    if len(command.params) > 10:
        assert len(command.sections) > 2
    if command.sections:
        named = [name for names in command.sections.values() for name in names]
        assert len(named) == len(set(named))
        assert set(named) == flags(command)


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_option_is_explained_by_a_sentence(words: tuple[str, ...]) -> None:
    for option in LEAVES[words].params:
        if isinstance(option, click.Option):
            text = (option.help or "").partition("  [")[0]
            assert (text and text[0].isupper()) or text.startswith("auto"), option.opts
            assert text.endswith("."), option.opts
            assert len(text.split()) > 2, option.opts


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_examples_that_it_understands(words: tuple[str, ...], run: Run) -> None:
    command = ALL[words]
    assert isinstance(command, (Command, Group))
    assert command.examples
    status, stdout, _ = run(*words, "--help")
    assert status == 0
    shown = stdout.partition("Examples:")[2]
    for line in command.examples:
        arguments = shlex.split(line)
        assert arguments[0] == "shapeshd" and line in shown
        check_shapeshd(arguments)
    assert any(tuple(shlex.split(line)[1:][: len(words)]) == words for line in command.examples)


def test_the_help_of_score_names_its_sections_in_order(run: Run) -> None:
    stdout = run("score", "--help")[1]
    titles = [
        "What is measured:",
        "Image fidelity:",
        "What a generator draws:",
        "Sources",
        "Examples:",
    ]
    places = [stdout.index(f"\n{title}") for title in titles]
    assert places == sorted(places)


def test_sample_takes_each_kind_that_its_help_lists() -> None:
    names = {option.name for option in LEAVES["sample",].params}
    for kind in source_kinds():
        if kind.generates:
            assert names.issuperset(kind.options), kind.name


def test_methods_are_listed_once_and_explained(run: Run) -> None:
    stdout = run("train", "baseline", "--help")[1]
    for name, method in METHODS.items():
        if name not in ("ours", "vae", "aae"):  # words of the text, too
            assert stdout.count(name) - stdout.count(f"baseline {name}") <= 2, name
        assert method.summary.split()[0] in stdout
    assert "no-difference  As ours" in stdout


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("score x.npy --law f.toml", "--distribution"),
        ("render out --law f.toml", "--distribution"),
        ("score x.npy --quality 100", "--fidelity"),
        ("score x.npy --batch-size 8", "--batch"),
        ("sample x.onnx out --trunc 0.5", "--truncation"),
        ("render out --resolution 64", "--size"),
        ("score x.npy --fidelty 100", "--fidelity"),
        ("train vae --confg smoke", "--config"),
    ],
)
def test_an_option_by_another_name_is_told_its_own(line: str, meant: str, run: Run) -> None:
    status, _, stderr = run(*line.split())
    assert status == 2
    assert meant in stderr


def test_a_name_is_only_suggested_where_it_exists(run: Run) -> None:
    assert "--distribution" not in run("info", "x", "--law", "f.toml")[2]
    known = set().union(*map(flags, LEAVES.values()))
    assert {name for names in OTHER_NAMES.values() for name in names} <= known
    # Both exist, each in commands that lack the other.
    assert known & OTHER_NAMES.keys() == {"--workers", "--jobs"}
    assert "--jobs" in run("render", "x", "--workers", "2")[2]


def test_options_come_from_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("SHAPESHD_RENDER_COUNT", "30")
    monkeypatch.setenv("SHAPESHD_RENDER_SHARD_SIZE", "10")
    monkeypatch.setenv("SHAPESHD_RENDER_DRY_RUN", "1")
    monkeypatch.setenv("SHAPESHD_RENDER_JSON", "yes")
    monkeypatch.setenv("SHAPESHD_SCORE_SEED", "no number of this command")
    status, stdout, _ = run("render", out, "--size", 16)
    plan = json.loads(stdout)
    assert status == 0
    assert (plan["images"], plan["shards"]) == (30, [0, 3])
    assert json.loads(run("render", out, "--size", 16, "--count", 20)[1])["images"] == 20
    monkeypatch.setenv("SHAPESHD_RENDER_COUNT", "many")
    status, _, stderr = run("render", out)
    assert status == 2 and "--count" in stderr


def test_variables_are_named_after_the_options(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPESHD_TRAIN_BASELINE_CONFIG", "factors")
    monkeypatch.setenv("SHAPESHD_TRAIN_BASELINE_SET", "aae.batch=32 vae.batch=48")
    monkeypatch.setenv("SHAPESHD_TRAIN_BASELINE_DRY_RUN", "true")
    monkeypatch.setenv("SHAPESHD_TRAIN_BASELINE_JSON", "true")
    config = json.loads(run("train", "baseline", "ours")[1])["config"]
    assert (config["domain"], config["aae"]["batch"], config["vae"]["batch"]) == ("factors", 32, 48)


def test_no_two_options_share_a_variable() -> None:
    names = []
    for words, command in LEAVES.items():
        context = click.Context(command, info_name=words[-1])
        context.auto_envvar_prefix = "_".join(["SHAPESHD", *words]).upper()
        options = [one for one in command.params if isinstance(one, click.Option)]
        names += [variable_of(context, option) for option in options]
    assert len(names) == len(set(names))
    assert "SHAPESHD_SCORE_LATENT_DIM" in names


def test_debug_comes_from_the_environment(tmp_path: Path) -> None:
    for value, shown in (("1", True), ("0", False)):
        done = subprocess.run(
            [sys.executable, "-m", "shapeshd", "info", "none"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "SHAPESHD_DEBUG": value},
        )  # fmt: skip
        assert ("Traceback" in done.stderr) == shown


def test_the_command_line_names_the_variables_that_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []

    @click.command(cls=Command)
    @click.option("--seed", type=int)
    @click.option("--name")
    @click.option("--json", "as_json", is_flag=True)
    def score(**_: object) -> None:
        said.append(command_line())

    monkeypatch.setenv("SHAPESHD_SEED", "3")
    monkeypatch.setenv("SHAPESHD_NAME", "a b")
    monkeypatch.setattr(sys, "argv", ["shapeshd", "score", "x y"])
    score.main([], standalone_mode=False, auto_envvar_prefix="SHAPESHD")
    assert said == ["SHAPESHD_SEED=3 SHAPESHD_NAME='a b' shapeshd score 'x y'"]
    score.main(["--seed", "4"], standalone_mode=False, auto_envvar_prefix="SHAPESHD")
    assert said[1] == "SHAPESHD_NAME='a b' shapeshd score 'x y'"
