"""What every module of the three packages imports, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

_PACKAGES = {
    "shapeshd": ROOT / "shapeshd",
    "shapeshd.benchmark": ROOT / "benchmark",
    "shapeshd.models": ROOT / "models",
    "shapeshd.povray_templates": ROOT / "povray_templates",
}


@dataclass(frozen=True)
class Import:
    """One import of a module of ours.

    Attributes:
        importer: name of the module that imports.
        target: name of the module that is imported.
        kind: "runtime", also inside a function; "typing", for type checkers alone; "lazy", in the
            stub that `lazy_loader` reads; or "string", by `import_module` and its like.
        line: in the importer's file.
    """

    importer: str
    target: str
    kind: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target} ({self.kind})"


def _modules() -> dict[str, Path]:
    found = {}
    for package, folder in _PACKAGES.items():
        for file in _files(folder):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = file
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Yield the Python files below a folder, without following links."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name != "__pycache__":
            yield from _files(path)
        elif path.suffix == ".py":
            yield path


MODULES = _modules()
"""The file of every module, by the module's name."""


def imports(name: str) -> list[Import]:
    """Return the imports of modules of ours by one module; a name of a package is its module."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        kind = "typing" if id(node) in typing else "runtime"
        if isinstance(node, ast.Call):
            kind = "lazy" if _called(node) == "attach_stub" else "string"
        for target in _targets(name, node):
            if target != name:
                found.append(Import(name, target, kind, getattr(node, "lineno", 0)))
    return found


def strings(name: str) -> list[tuple[str, str, int]]:
    """Return the calls that import by a string: the function, its first argument, the line."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    return [
        (_called(node), ast.unparse(node.args[0]) if node.args else "", node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and _called(node) in ("import_module", "__import__", "attach_stub", "load", "load_module")
        and (_called(node) != "load" or ast.unparse(node.func).startswith("lazy"))
    ]


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func).rpartition(".")[2]


def _targets(name: str, node: ast.AST) -> Iterator[str]:
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _known(alias.name)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parts, *([node.module] if node.module else [])])
        for alias in node.names:
            yield from _known(f"{base}.{alias.name}", base)
    elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
        if node.args and isinstance(node.args[0], ast.Constant):
            yield from _known(str(node.args[0].value))
    elif isinstance(node, ast.Call) and _called(node) == "attach_stub":
        stub = MODULES[name].with_suffix(".pyi").read_text(encoding="utf-8")
        for statement in ast.parse(stub).body:
            yield from _targets(name, statement)


def _known(*names: str) -> Iterator[str]:
    """Yield the first of the names that is a module of ours, if one is."""
    for name in names:
        if name in MODULES:
            yield name
            return


ALL = [found for name in MODULES for found in imports(name)]
"""Every import of a module of ours by another one."""


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes of which each reaches every other one (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found
