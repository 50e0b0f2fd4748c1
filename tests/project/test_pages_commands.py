"""Commands in README and on the pages: each exists, and so do its options."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from shapeshd.benchmark.sources.markdown_table import options_table, sources_table
from shapeshd.cli.main import cli
from tests import ROOT
from tests.support.pages import PAGES, blocks, commands

ALL = [(name, arguments) for name, page in PAGES.items() for arguments in commands(page)]
OURS = [(name, arguments) for name, arguments in ALL if arguments[0] == "shapeshd"]


def check_shapeshd(arguments: list[str]) -> None:
    """Let click parse a command line of ours.

    Raises:
        click.ClickException: if command, option or value does not exist.
    """
    context = click.Context(cli, info_name="shapeshd")
    command: click.Command = cli
    left = arguments[1:]
    while isinstance(command, click.Group):
        if not left or left[0].startswith("-"):
            command.make_parser(context).parse_args(list(left))
            return
        name, found, left = command.resolve_command(context, left)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    values, extra, _ = command.make_parser(context).parse_args(list(left))
    assert not extra, f"too many arguments: {extra}"
    for parameter in command.params:
        given = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and given is not None:
            for value in given if isinstance(given, (list, tuple)) else [given]:
                parameter.type.convert(value, parameter, context)


def test_the_pages_name_commands() -> None:
    assert len(OURS) > 80
    named = {word for _, arguments in OURS for word in arguments[1:2]}
    assert named >= set(cli.list_commands(click.Context(cli)))


@pytest.mark.parametrize("name", PAGES)
def test_every_command_of_ours_exists_with_its_options(name: str) -> None:
    for page, arguments in OURS:
        if page == name and len(arguments) > 1:
            try:
                check_shapeshd(arguments)
            except click.ClickException as error:
                pytest.fail(f"{name}: {' '.join(arguments)}: {error.format_message()}")


def test_a_wrong_command_option_or_value_would_be_found() -> None:
    for wrong in (
        ["shapeshd", "scores", "x"],
        ["shapeshd", "score", "x", "--nosuch"],
        ["shapeshd", "score", "x", "--protocol", "chi2-21k"],
        ["shapeshd", "train", "nosuch"],
    ):
        with pytest.raises(click.ClickException):
            check_shapeshd(wrong)


@pytest.mark.parametrize("name", PAGES)
def test_every_script_and_module_exists_with_its_options(name: str) -> None:
    for page, arguments in ALL:
        if page != name or Path(arguments[0]).name != "python":
            continue
        if arguments[1] == "-m":
            module, options = arguments[2], arguments[3:]
            if not module.startswith(("tests.", "shapeshd.")):
                continue
            place = ROOT / module.replace(".", "/")
            file = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
        else:
            file, options = ROOT / arguments[1], arguments[2:]
        assert file.is_file(), f"{name}: {file} does not exist"
        text = file.read_text(encoding="utf-8")
        for option in options:
            if option.startswith("--"):
                assert re.search(rf'"(--)?{option[2:]}"', text), f"{name}: {file.name}: {option}"


@pytest.mark.parametrize("name", PAGES)
def test_every_target_of_make_exists(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) \?=", makefile, flags=re.MULTILINE))
    for page, arguments in ALL:
        if page == name and arguments[0] == "make":
            given = {word.partition("=")[0] for word in arguments[1:] if "=" in word}
            asked = {word for word in arguments[1:] if "=" not in word}
            assert asked <= targets and given <= variables, f"{name}: {' '.join(arguments)}"


@pytest.mark.parametrize("name", PAGES)
def test_every_code_block_says_its_language(name: str) -> None:
    text = PAGES[name].read_text(encoding="utf-8")
    fences = re.findall(r"^ *```(.*)$", text, flags=re.MULTILINE)
    assert len(fences) % 2 == 0
    assert all(fences[::2]), f"{name}: a block without a language"
    assert not any(fences[1::2])
    known = (
        "sh",
        "python",
        "py",
        "toml",
        "bibtex",
        "text",
        "c",
        "{toctree}",
        "{include}",
        "{eval-rst}",
    )
    assert {fence.split()[0] for fence in fences[::2]} <= set(known)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_to_a_file_leads_somewhere(name: str) -> None:
    page = PAGES[name]
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name}: {target}"


def test_the_tables_of_sources_are_those_of_the_registry() -> None:
    readme = PAGES["README.md"].read_text(encoding="utf-8")
    page = PAGES["docs/sources.md"].read_text(encoding="utf-8")
    assert sources_table(options=False) in readme
    assert sources_table() in page
    assert options_table() in page


def test_toml_blocks_are_toml() -> None:
    tomllib = pytest.importorskip("tomllib")
    found = [block for page in PAGES.values() for block in blocks(page, "toml")]
    assert found
    for block in found:
        tomllib.loads(block)
