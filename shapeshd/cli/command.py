"""What all commands share: help in sections with examples, suggestions, environment variables."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import click
from click.core import ParameterSource

OTHER_NAMES = {
    "--law": ("--distribution",),
    "--quality": ("--fidelity",),
    "--quality-engine": ("--fidelity-engine",),
    "--psi": ("--truncation",),
    "--trunc": ("--truncation",),
    "--truncation-psi": ("--truncation",),
    "--noise-mode": ("--noise",),
    "--num-samples": ("--samples", "--count"),
    "--n": ("--samples", "--count"),
    "--num-inference-steps": ("--steps",),
    "--batch-size": ("--batch",),
    "--num-workers": ("--workers", "--jobs"),
    "--workers": ("--jobs",),
    "--jobs": ("--workers",),
    "--gpu": ("--device",),
    "--gpus": ("--device",),
    "--z-dim": ("--latent-dim",),
    "--num-classes": ("--classes",),
    "--class": ("--labels",),
    "--resolution": ("--size",),
    "--output": ("--out",),
    "--outdir": ("--out",),
    "--lr": ("--learning-rate",),
}
"""Options as they were called once, or as other programs call them, and what they are here."""

_REST = "Options"


class Command(click.Command):
    """A command whose help has its options in sections, and examples below.

    An option that is not given is taken from the environment: ``SHAPESHD_SCORE_LATENT_DIM`` is
    ``--latent-dim`` of ``score``.

    Args:
        sections: the options of each section by its title, such as ``["--seed"]``; those that
            stand in none come last.
        examples: command lines, each with what it does.
    """

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Sequence[str]] | None = None,
        examples: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = dict(sections or {})
        self.examples = dict(examples or {})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, or say which option is meant by another name."""
        for option in self.params:
            if isinstance(option, click.Option) and option.envvar is None:
                option.envvar = variable_of(ctx, option)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise _with_suggestion(error, self, ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in their sections."""
        records = {
            max(option.opts, key=len): record
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)  # later versions of click list arguments, too
            and (record := option.get_help_record(ctx)) is not None
        }
        sections = {
            title: [records.pop(name) for name in names if name in records]
            for title, names in self.sections.items()
        }
        last = "Other options" if sections else _REST
        for title, rows in {**sections, last: list(records.values())}.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        super().format_epilog(ctx, formatter)
        write_examples(self.examples, formatter)


class Group(click.Group):
    """A group of such commands; a mistyped one is told which is like it."""

    command_class = Command

    def __init__(
        self, *args: Any, examples: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = dict(examples or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order in which they were added."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant; for a mistyped one say which is like it."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and (like := get_close_matches(args[0], known)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {' or '.join(like)}?")
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        super().format_epilog(ctx, formatter)
        write_examples(self.examples, formatter)


def write_examples(examples: Mapping[str, str], formatter: click.HelpFormatter) -> None:
    """Write each command line with what it does."""
    if examples:
        with formatter.section("Examples"):
            formatter.write_dl(list(examples.items()))


def variable_of(ctx: click.Context, option: click.Option) -> str | None:
    """Return the environment variable of an option, such as ``SHAPESHD_SCORE_SEED``.

    click's own would be named after the function's argument, ``SHAPESHD_SCORE_AS_JSON``.
    """
    if ctx.auto_envvar_prefix is None or option.name == "help":
        return None
    flag = max(option.opts, key=len).lstrip("-")
    return f"{ctx.auto_envvar_prefix}_{flag.replace('-', '_').upper()}"


def command_line() -> str:
    """Return the command that runs, with the environment variables that stand for its options."""
    ctx = click.get_current_context()
    names = [
        variable_of(ctx, option)
        for option in ctx.command.params
        if isinstance(option, click.Option)
        and ctx.get_parameter_source(option.name or "") is ParameterSource.ENVIRONMENT
    ]
    said = [
        f"{name}={shlex.quote(os.environ[name])}" for name in names if name and name in os.environ
    ]
    return " ".join([*said, shlex.join(["shapeshd", *sys.argv[1:]])])


def _with_suggestion(
    error: click.NoSuchOption, command: click.Command, ctx: click.Context
) -> click.NoSuchOption:
    """Return an error that names the option that is meant, where the table has it."""
    known = {name for option in command.get_params(ctx) for name in option.opts}
    meant = [name for name in OTHER_NAMES.get(error.option_name, ()) if name in known]
    if not meant:
        return error
    text = f"No such option {error.option_name!r}. It is called {' or '.join(meant)}."
    return click.NoSuchOption(error.option_name, text, ctx=ctx)
