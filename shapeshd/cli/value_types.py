"""The kinds of values that several commands take."""

from __future__ import annotations

from typing import Any

import click

engines = click.Choice(["povray", "torch"])  # `ENGINES`, which would import NumPy
json_option = click.option("--json", "as_json", is_flag=True, help="Write the result as JSON.")
device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ..."
)
latents_option = click.option(
    "--batch", type=int, default=64, show_default=True, help="Latents that go in at a time."
)
latent_dim_option = click.option(
    "--latent-dim", type=int, help="Components of a latent, where the model is silent."
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
