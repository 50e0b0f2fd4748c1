"""Looks at sources before anything of them is loaded or run: what they seem, what is missing.

Nothing here imports PyTorch, so that a refusal does not take the seconds that this takes.
"""

from __future__ import annotations

import ast
import re
import shlex
import zipfile
from pathlib import Path

from shapeshd.errors import UsageError, named
from shapeshd.models.networks.run_folder import last_generator
from shapeshd.models.networks.shipped import find_shipped

from .source_kind import OpenRequest

INSTEAD = "write a Python file with a function that loads it (SOURCE file.py:function)"
_STATED_IN_A_FILE = re.compile(r"latent_dim|z_dim|import \*")
_STATES_LATENT_DIM = re.compile(rb"\b(?:latent_dim|z_dim)\s*:")  # an attribute of TorchScript's


def examine_model(request: OpenRequest) -> None:
    """Raise `UsageError` if no trained generator of this name comes with the program."""
    find_shipped(request.text)


def examine_run(request: OpenRequest) -> Path:
    """Return the generator of a run's last finished phase; raise `UsageError` if there is none."""
    return last_generator(request.path)


def is_torchscript(path: Path) -> bool:
    """Say whether `path` is a TorchScript archive; nothing in it is loaded."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.partition("/")[2] for entry in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return "constants.pkl" in entries and any(entry.startswith("code/") for entry in entries)


def examine_torchscript(request: OpenRequest) -> None:
    """Raise `UsageError` if it is no TorchScript archive, saying what it seems to be."""
    path, name = request.path, request.name
    if is_torchscript(path):
        return
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            head = file.read(2)
        if head[:1] == b"\x80" and head[1:] in b"\x02\x03\x04\x05":
            raise UsageError(f"{name}: is a pickle, no TorchScript: {INSTEAD}")
        raise UsageError(f"{name}: is no TorchScript file (empty, cut off, or another format)")
    with zipfile.ZipFile(path) as archive:
        entries = {entry.partition("/")[2] for entry in archive.namelist()}
    if "data.pkl" in entries:
        raise UsageError(
            f"{name}: holds pickled weights (torch.save), no TorchScript, so which network they "
            f"belong to is not known: say {named('architecture')}, {INSTEAD}, or save it by "
            "torch.jit.save"
        )
    raise UsageError(f"{name}: is a zip archive, but no TorchScript: {INSTEAD}")


def examine_tensors(request: OpenRequest) -> None:
    """Raise `UsageError` if it is a TorchScript archive, which says itself what it is."""
    if is_torchscript(request.path):
        raise UsageError(
            f"{request.name}: is TorchScript, which says what it is: leave out "
            f"{named('architecture')}"
        )


def torchscript_lacks(request: OpenRequest) -> tuple[str, ...]:
    """Ask for the latent's components if no class of a TorchScript archive has them."""
    if request.options.latent_dim is not None or request.options.latent_shape is not None:
        return ()
    try:
        with zipfile.ZipFile(request.path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".py")]
            code = b"\n".join(map(archive.read, names))
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return ()  # what loads it will say what is wrong
    if b"(Module)" not in code or _STATES_LATENT_DIM.search(code):  # damaged, or it says it
        return ()
    return (f"{named('latent_dim')}, how many values a latent has",)


def examine_exported(request: OpenRequest) -> None:
    """Raise `UsageError` if it is no archive of `torch.export`; nothing in it is loaded."""
    path, name = request.path, request.name
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        raise UsageError(f"{name}: is no torch.export file (cut off, or another format)") from None
    inner = {entry.partition("/")[2] for entry in entries}
    if any(entry.startswith("models/") and entry.endswith(".json") for entry in inner):
        return
    if "serialized_exported_program.json" in {*entries, *inner}:  # until PyTorch 2.7
        return
    if any("aotinductor/" in entry for entry in inner):
        raise UsageError(
            f"{name}: holds compiled code (AOTInductor), which is not read: save the program by "
            f"torch.export.save, or {INSTEAD}"
        )
    raise UsageError(f"{name}: is a zip archive, but none of torch.export: {INSTEAD}")


def examine_entry(request: OpenRequest) -> tuple[str, str]:
    """Return (absolute path or module, function); raise `UsageError` if the text is no entry."""
    text, name = request.text, request.name
    target, _, attribute = text.rpartition(":")
    if not target or not all(part.isidentifier() for part in attribute.split(".")):
        raise UsageError(
            f"{name}: name a function in a Python file or module, such as file.py:function or "
            "package.module:function"
        )
    if target.endswith(".py"):
        if not Path(target).is_file():
            raise UsageError(f"{name}: there is no file {target}")
        return str(Path(target).resolve()), attribute
    if not all(part.isidentifier() for part in target.split(".")):
        raise UsageError(f"{name}: {target} is neither a .py file nor the name of a module")
    return target, attribute


def entry_lacks(request: OpenRequest) -> tuple[str, ...]:
    """Ask for the latent's components if a file's function takes latents and nothing states them.

    The file is parsed and not run; where that leaves it open, nothing is asked for.
    """
    if request.options.latent_dim is not None or request.options.latent_shape is not None:
        return ()
    target, attribute = examine_entry(request)
    try:
        text = Path(target).read_text(encoding="utf-8")
        parts = ast.parse(text).body
    except (OSError, ValueError, SyntaxError):
        return ()  # a module's name; or what imports it will say what is wrong
    functions = [part for part in parts if isinstance(part, ast.FunctionDef)]
    found = [part.args for part in functions if part.name == attribute]
    if not found or _STATED_IN_A_FILE.search(text):
        return ()
    arguments = [each.arg for each in (*found[-1].posonlyargs, *found[-1].args)]
    if not arguments or arguments[0] == "seeds":  # `arguments.SEEDS`, which would import PyTorch
        return ()
    return (f"{named('latent_dim')}, how many values a latent has",)


def split_command(request: OpenRequest) -> list[str]:
    """Return the words of the command, split as a shell would; `UsageError` if it cannot be."""
    try:
        words = shlex.split(request.text)
    except ValueError as error:
        raise UsageError(
            f"{request.name}: cannot be split into words ({str(error).lower()})"
        ) from None
    if not words or "\0" in request.text:
        raise UsageError(f"{request.name}: no command; give cmd: and a program with its arguments")
    return words


def command_lacks(request: OpenRequest) -> tuple[str, ...]:
    """Ask for the size of a command's images if it is not given."""
    if request.options.frame_size is not None:
        return ()
    return (f"{named('frame_size')} WIDTHxHEIGHT, the size of its images in pixels",)
