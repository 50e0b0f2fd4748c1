"""The arguments DATASET (a path, or ``render:SEED:COUNT`` for images not stored) and OUT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shapeshd.errors import UsageError

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec


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
