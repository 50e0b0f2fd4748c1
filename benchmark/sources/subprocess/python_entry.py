"""A user's own function in Python: ``path/file.py:function`` or ``package.module:function``.

It runs in a process of its own (`python_worker`), whose search path starts with the file's
folder and the working directory: the user's own packages win, whatever they are called, and
nothing that the code does (prints, exits, crashes, hangs) can harm a run beyond one clear
line. The contract of the function is in `user_function`.
"""

from __future__ import annotations

from pathlib import Path

from shapeshd.benchmark.sources.examine import examine_entry
from shapeshd.benchmark.sources.networks.generator import GeneratorSource
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.factors import check_seed
from shapeshd.support.device import usable_device

from .code_process import ChildBatches, Code

KIND = "python"


def open_python_entry(request: OpenRequest) -> GeneratorSource:
    """Open a Python entry in a process of its own.

    Dots in the function's name lead to attributes. The seed is that of the latents, or of the
    samples' seeds; an nn.Module is moved to the device.

    Raises:
        UsageError: if there is no such function, or it is of another form.
        ShapesHDError: if its code raises, exits, crashes or hangs while it loads.
    """
    target, attribute = examine_entry(request)
    check_seed(request.seed)
    usable_device(request.device)  # told here, before a process starts
    code = Code("function", target, attribute, _first_on_path(target))
    return GeneratorSource(request.name, KIND, ChildBatches(code, request))


def _first_on_path(target: str) -> list[str]:
    """Return the file's folder and the working directory."""
    folders = [str(Path(target).parent)] if target.endswith(".py") else []
    return list(dict.fromkeys([*folders, str(Path.cwd())]))
