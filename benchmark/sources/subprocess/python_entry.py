"""A user's own function in Python: ``path/file.py:function`` or ``package.module:function``.

It runs in a process of its own (`python_worker`), whose search path starts with the file's
folder and the working directory: the user's own packages win, whatever they are called, and
nothing that the code does (prints, exits, crashes, hangs) can harm a run beyond one clear
line. The contract of the function is in `user_function`.
"""

from __future__ import annotations

from pathlib import Path

from shapeshd.benchmark.sources.networks.generator import (
    GeneratorSource,
    allow_options,
    require_trust,
    usable_device,
)
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.errors import UsageError
from shapeshd.factors import check_seed

from .code_process import ChildBatches, Code

KIND = "python"


def open_python_entry(
    text: str,
    *,
    seed: int,
    trust: bool,
    device: str,
    options: SourceOptions,
    name: str,
) -> GeneratorSource:
    """Open a Python entry in a process of its own.

    Args:
        text: ``path/file.py:function`` or ``package.module:function``; dots in the function's
            name lead to attributes.
        seed: of the latents, or of the samples' seeds.
        trust: whether the user's code may run at all.
        device: where the latents are put, and an nn.Module is moved.
        options: range, layout, batch, latent_dim, labels, classes and timeout mean something.
        name: what the user called it.

    Raises:
        UsageError: if there is no such function, it is not trusted, or of another form.
        ShapesHDError: if its code raises, exits, crashes or hangs while it loads.
    """
    target, attribute = split_entry(text, name)
    require_trust(trust, name, "a Python file is code that runs here")
    allow_options(options, name, "a Python function", "timeout", "labels", "classes")
    check_seed(seed)
    usable_device(device)  # told here, before a process starts
    code = Code("function", target, attribute, _first_on_path(target))
    return GeneratorSource(name, KIND, ChildBatches(code, name, seed, device, options))


def split_entry(text: str, name: str) -> tuple[str, str]:
    """Return (absolute path or module, function); raise `UsageError` if `text` is no entry."""
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


def _first_on_path(target: str) -> list[str]:
    """Return the file's folder and the working directory."""
    folders = [str(Path(target).parent)] if target.endswith(".py") else []
    return list(dict.fromkeys([*folders, str(Path.cwd())]))
