"""The argument DATASET: a path, or ``render:SEED:COUNT`` for images made as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError

if TYPE_CHECKING:
    from ..render_spec import RenderSpec


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
        from ..render_spec import parse_rendered

        spec = parse_rendered(value) if isinstance(value, str) else None
        if spec is None:
            return Path(value)
        if self._not_stored is not None:
            raise UsageError(f"{spec}: {self._not_stored}")
        return spec
