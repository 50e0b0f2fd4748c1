"""The options about a source, and the list of kinds in a command's help, from their records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from shapeshd.benchmark.sources.options import OPTIONS, Option
from shapeshd.benchmark.sources.registry import source_kinds

_Function = TypeVar("_Function", bound=Callable[..., Any])


def source_options(*names: str) -> Callable[[_Function], _Function]:
    """Return a decorator that gives a command these fields of `SourceOptions`, all by default."""
    chosen = [OPTIONS[name] for name in names or OPTIONS]

    def decorate(function: _Function) -> _Function:
        for option in reversed(chosen):
            function = _click_option(option)(function)
        return function

    return decorate


def _click_option(option: Option) -> Callable[[_Function], _Function]:
    several = option.type is tuple
    return click.option(
        f"--{option.name.replace('_', '-')}",
        type=click.Choice(option.choices) if option.choices else str if several else option.type,
        default=option.default,
        multiple=several,
        show_default=option.default not in (None, ()),
        metavar=option.shown or None,
        help=option.help,
    )


class SourceCommand(click.Command):
    """A command whose help ends with the kinds of sources that it takes."""

    generators_only = False

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and then the kinds of sources."""
        super().format_options(ctx, formatter)
        kinds = [kind for kind in source_kinds() if kind.generates or not self.generators_only]
        with formatter.section("Sources (* runs code that comes with it: --trust)"):
            formatter.write_dl(
                [(f"{kind.shown}{' *' * (kind.trust == 'always')}", kind.summary) for kind in kinds]
            )


class GeneratorCommand(SourceCommand):
    """The same for a command that takes generators alone."""

    generators_only = True
