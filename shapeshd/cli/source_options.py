"""The options about a source, and the list of kinds in a command's help, from their records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from shapeshd.benchmark.sources.options import OPTIONS, Option, Section
from shapeshd.benchmark.sources.registry import source_kinds

from .command import Command

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
        _flag(option),
        type=click.Choice(option.choices) if option.choices else str if several else option.type,
        default=option.default,
        multiple=several,
        show_default=option.default not in (None, ()),
        metavar=option.shown or None,
        help=option.help,
    )


def generator_options() -> list[str]:
    """Return the fields of `SourceOptions` that mean something to a generator of some kind."""
    taken = {name for kind in source_kinds() if kind.generates for name in kind.options}
    return [name for name in OPTIONS if name in taken | {"batch"}]


def options_of(section: Section, *names: str) -> list[str]:
    """Return the spelling of the options of a section, of all fields or of `names`."""
    return [
        _flag(option)
        for option in OPTIONS.values()
        if option.section == section and (not names or option.name in names)
    ]


def _flag(option: Option) -> str:
    return f"--{option.name.replace('_', '-')}"


class SourceCommand(Command):
    """A command whose help says which kinds of sources it takes."""

    generators_only = False

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the kinds of sources, then the examples."""
        kinds = [kind for kind in source_kinds() if kind.generates or not self.generators_only]
        with formatter.section("Sources (* runs code that comes with it: --trust)"):
            formatter.write_dl(
                [(f"{kind.shown}{' *' * (kind.trust == 'always')}", kind.summary) for kind in kinds]
            )
        super().format_epilog(ctx, formatter)


class GeneratorCommand(SourceCommand):
    """The same for a command that takes generators alone."""

    generators_only = True
