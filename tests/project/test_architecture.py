"""The rooms: which may import which, how large they are, and what the page on them says."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict

import pytest

from tests import ROOT
from tests.support.imports import ALL, MODULES, Import, circles, strings

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

# A room may import the rooms of the lines above its own, and nothing else but itself.
ORDER = (
    "shapeshd.errors",
    "shapeshd.checks",
    "shapeshd.support",
    "shapeshd.factors",
    "shapeshd.distribution",
    "shapeshd.images shapeshd.scene shapeshd.povray_templates",
    "shapeshd.raytracer",
    "shapeshd.engines",
    "shapeshd.dataset",
    "shapeshd.render",
    "shapeshd.verify",
    "shapeshd.models.networks",
    "shapeshd.models.losses",
    "shapeshd.benchmark.statistics shapeshd.benchmark.caller_state "
    "shapeshd.benchmark.disentanglement",
    "shapeshd.benchmark.recognizer shapeshd.benchmark.sources",
    "shapeshd.benchmark.result",
    "shapeshd.benchmark.report",
    "shapeshd.benchmark.fidelity",
    "shapeshd.benchmark.image_check",
    "shapeshd.benchmark.scoring",
    "shapeshd.benchmark.leaderboard",
    "shapeshd.benchmark.score_object",
    "shapeshd.benchmark.api shapeshd.benchmark.metric",
    "shapeshd.models.config shapeshd.models.augment shapeshd.models.data",
    "shapeshd.models.config_file",
    "shapeshd.models.training",
    "shapeshd.models.methods shapeshd.models.projection shapeshd.models.sample",
    "shapeshd.cli",
)
MAY_IMPORT_BY_STRING = {
    "shapeshd.cli.main": "commands load when they are run",
    "shapeshd.benchmark.sources.source_kind": "a kind of source loads when it is asked for",
    "shapeshd.benchmark.sources.subprocess.user_function": "the user's own function",
}
LARGEST_ROOM, LONGEST_FILE = 14, 430


def room(module: str) -> str:
    """Return the room that a module lies in, of those that `ORDER` names."""
    parts = module.split(".")
    return ".".join(parts[: 3 if parts[1:2] in (["benchmark"], ["models"]) else 2])


def told(found: list[Import]) -> str:
    return "\n".join(map(str, found))


def test_all_modules_are_seen() -> None:
    assert len(MODULES) > 200
    assert {found.kind for found in ALL} >= {"runtime", "typing", "lazy"}
    assert Counter(found.kind for found in ALL)["runtime"] > 800


def test_the_dataset_imports_neither_the_measurement_nor_the_models() -> None:
    outside = ("shapeshd.benchmark", "shapeshd.models")
    wrong = [
        found
        for found in ALL
        if not found.importer.startswith((*outside, "shapeshd.cli"))
        and found.target.startswith(outside)
        and (found.importer, found.kind) != ("shapeshd", "lazy")  # the face of all three packages
    ]
    assert not wrong, told(wrong)


def test_networks_and_losses_import_nothing_of_the_measurement() -> None:
    alone = ("shapeshd.models.networks", "shapeshd.models.losses")
    wrong = [
        found
        for found in ALL
        if found.importer.startswith(alone) and found.target.startswith("shapeshd.benchmark")
    ]
    assert not wrong, told(wrong)


def test_of_the_measurement_sources_alone_import_networks_and_nothing_else_of_the_models() -> None:
    wrong = [
        found
        for found in ALL
        if found.importer.startswith("shapeshd.benchmark")
        and found.target.startswith("shapeshd.models")
        and not (
            found.importer.startswith("shapeshd.benchmark.sources")
            and found.target.startswith("shapeshd.models.networks")
        )
    ]
    assert not wrong, told(wrong)


def test_rooms_import_in_one_direction() -> None:
    place = {name: number for number, line in enumerate(ORDER) for name in line.split()}
    rooms = {room(name) for name in MODULES} - {"shapeshd", "shapeshd.__main__"}
    rooms -= {"shapeshd.benchmark", "shapeshd.models"}  # their `__init__` hands names on
    assert rooms == set(place)
    wrong = [
        found
        for found in ALL
        if found.kind == "runtime"
        and room(found.importer) in place
        and room(found.target) in place
        and room(found.importer) != room(found.target)
        and place[room(found.target)] >= place[room(found.importer)]
    ]
    assert not wrong, told(wrong)


def test_no_circle_among_modules() -> None:
    edges: dict[str, set[str]] = defaultdict(set)
    for found in ALL:
        if found.kind == "runtime":
            edges[found.importer].add(found.target)
    assert circles(edges) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]


def test_imports_by_a_string_stand_where_they_may() -> None:
    seen = set()
    for name, file in MODULES.items():
        for function, argument, line in strings(name):
            where = f"{name}:{line}: {function}({argument})"
            if function == "attach_stub":
                assert file.name == "__init__.py", where
                continue
            literal = re.fullmatch(r"'([^']*)'", argument)
            if literal is None or literal[1].split(".")[0] in ("", "shapeshd"):
                assert name in MAY_IMPORT_BY_STRING, where
                seen.add(name)
    assert seen <= set(MAY_IMPORT_BY_STRING)


def test_relative_imports_stay_in_their_room() -> None:
    for name, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{name}:{node.lineno}: {ast.unparse(node)}"


def test_rooms_and_files_are_small() -> None:
    sizes = Counter(file.parent for file in MODULES.values() if file.name != "__init__.py")
    del sizes[ROOT / "shapeshd" / "cli"]  # a file a command
    assert not {str(folder): count for folder, count in sizes.items() if count > LARGEST_ROOM}
    lines = {name: len(file.read_text("utf-8").splitlines()) for name, file in MODULES.items()}
    assert not {name: count for name, count in lines.items() if count > LONGEST_FILE}


def test_every_room_says_what_it_is_for() -> None:
    for name, file in MODULES.items():
        if file.name == "__init__.py":
            assert ast.get_docstring(ast.parse(file.read_text("utf-8"))), name


def test_the_page_names_every_room() -> None:
    for file in MODULES.values():
        folder = file.parent.relative_to(ROOT)
        if folder.parts not in (("shapeshd",), ("benchmark",), ("models",)):
            short = str(folder).partition("/")[2] + "/"
            assert f"{folder}/" in PAGE or f"`{short}`" in PAGE or f" `{folder.name}/`" in PAGE, (
                folder
            )


def test_what_the_page_names_exists() -> None:
    named = re.findall(r"`((?:shapeshd|benchmark|models|tests|povray_templates)/[^`\s]*)`", PAGE)
    assert len(named) > 30
    for path in named:
        if "NAME" not in path:
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("line", ORDER)
def test_the_page_names_the_order(line: str) -> None:
    for name in line.split():
        assert name.rpartition(".")[2] in PAGE
