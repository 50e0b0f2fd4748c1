"""Arguments, options and kinds of values that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shapeshd.errors import UsageError

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec

engines = click.Choice(["povray", "torch"])  # `ENGINES`, which would import NumPy
json_option = click.option("--json", "as_json", is_flag=True, help="Write the result as JSON.")
device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ..."
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Processes that read images.  [default: 1; 0 for images that are made]",
)


class ShardRange(click.ParamType):
    """An interval of shards, ``A:B``, either end of which may be left out."""

    name = "A:B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        """Parse the text into (first, stop)."""
        if isinstance(value, tuple):
            return value
        first, colon, stop = str(value).partition(":")
        if not colon or not all(part == "" or part.isdecimal() for part in (first, stop)):
            self.fail(f"{value!r} is not of the form A:B, such as 0:10", param, ctx)
        return (int(first) if first else None, int(stop) if stop else None)


class Threshold(click.ParamType):
    """An antialiasing threshold or ``none``."""

    name = "THRESHOLD|none"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """Parse the text into a number, or None for ``none``."""
        if value == "none" or value is None:
            return None
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor none", param, ctx)


class Jobs(click.ParamType):
    """A number of workers or ``auto``."""

    name = "N|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Parse the text into a number, or None for ``auto``."""
        if value == "auto" or value is None:
            return None
        text = str(value)
        if not text.isdecimal() or int(text) < 1:
            self.fail(f"{value!r} is neither a number of workers (1 or more) nor auto", param, ctx)
        return int(text)


class Dataset(click.ParamType):
    """A dataset's path, or images that are named and not stored.

    Args:
        not_stored: why a command cannot take images that are not stored.
    """

    name = "dataset"

    def __init__(self, not_stored: str | None = None) -> None:
        self._not_stored = not_stored

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | RenderSpec:
        """Parse the text; a file named ``render:...`` is reached as ``./render:...``.

        Raises:
            UsageError: if it begins with ``render:`` and is wrong, or is not taken here.
        """
        from shapeshd.dataset.render_spec import parse_rendered

        spec = parse_rendered(value) if isinstance(value, str) else None
        if spec is None:
            return Path(value)
        if self._not_stored is not None:
            raise UsageError(f"{spec}: {self._not_stored}")
        return spec


class NewPath(click.ParamType):
    """A file or folder to be made; not a name that other commands would not take for a path."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or fail if it reads ``render:...``."""
        from shapeshd.dataset.render_spec import PREFIX

        if isinstance(value, str) and value.startswith(PREFIX):
            self.fail(f"{value!r} names images that are not stored; say ./{value}", param, ctx)
        return Path(value)


def pick_device(text: str, gpu: int | None = None) -> str:
    """Return the device that `text` names; ``auto`` is a GPU if there is one, else ``cpu``.

    Args:
        text: such as ``cuda:1``.
        gpu: what ``cuda`` alone means to this process, where several share the work. No
            other GPU is touched.

    Raises:
        UsageError: if PyTorch does not know it or cannot use it here.
    """
    import torch

    from shapeshd.support.device import usable_device

    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    if text == "cuda" and gpu is not None:
        text = f"cuda:{gpu}"
    usable_device(text)
    return text
