"""README and the pages of the site: their code blocks, and the commands that they name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests import ROOT

PAGES = {
    str(path.relative_to(ROOT)): path
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "docs" / "api").glob("*.md")),
    ]
}
"""Every page by its path from the checkout's folder."""

_BLOCK = re.compile(r"^( *)```(\S+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_COMMANDS = ("shapeshd", "python", "make")


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of one language, in order."""
    text = page.read_text(encoding="utf-8")
    return [code for _, name, code in _BLOCK.findall(text) if name == language]


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of every command of ours in shell blocks and in inline code.

    Those are calls of ``shapeshd`` (also by ``-m shapeshd``), of ``python`` and of ``make``.
    """
    text = page.read_text(encoding="utf-8")
    lines = [
        line
        for block in blocks(page, "sh")
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    prose = _BLOCK.sub("", text)
    lines += [code for code in _INLINE.findall(prose) if code.startswith(_COMMANDS)]
    found = []
    for line in lines:
        line = re.sub(r"\$\(\(.*?\)\)", "1", line)  # the shell's arithmetic
        arguments = shlex.split(line, comments=True)
        if "-m" in arguments and arguments[arguments.index("-m") + 1] == "shapeshd":
            arguments = arguments[arguments.index("-m") + 1 :]
        if arguments and Path(arguments[0]).name in _COMMANDS:
            found.append(arguments)
    return found
