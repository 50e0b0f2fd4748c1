"""The command line: a click group whose commands load on first use."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from shapeshd import __version__
from shapeshd.errors import ShapesHDError, names_as_options, one_line, require_posix

from .command import Group

_VARIABLES = "SHAPESHD"  # that environment variables of options begin with
_COMMANDS = {
    "render": "Render 3DShapesHD, or go on where a stopped run ended.",
    "verify": "Check a dataset: digests, labels, gaps, uniformity, pixels.",
    "info": "Say what a dataset, or a trained generator, is and how it was made.",
    "preview": "Draw a contact sheet of a dataset or of given factors.",
    "export": "Write a dataset in the form that another trainer reads.",
    "train": "Train the recognizer of the factors, or a reference model.",
    "recognizer": "Measure how well a recognizer reads the factors.",
    "score": "Measure whether a generator's distribution is right.",
    "compare": "Set several scores side by side.",
    "sample": "Draw images from a generator.",
    "project": "Look for images of a dataset in a generator's latent space.",
    "disentangle": "Measure how well an encoder keeps the six factors apart.",
}


class LazyGroup(Group):
    """A group that imports ``shapeshd.cli.NAME`` only when NAME is run.

    ``shapeshd --help`` therefore answers without importing h5py or torch.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command, or return None if there is no such command."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"shapeshd.cli.{cmd_name}").command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name, without importing the commands."""
        named = [
            CompletionItem(name, help=text)
            for name, text in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return named + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": _VARIABLES,
        "max_content_width": 100,
    },
    epilog="An option that is not given is taken from the environment: SHAPESHD_SCORE_DEVICE=cuda "
    "is score --device cuda.",
    examples={
        "shapeshd render data --count 10000": "Render 10,000 images of 256 pixels.",
        "shapeshd score generator.onnx": "Measure a generator with 100,000 samples.",
        "shapeshd score --help": "Show the options of a command.",
    },
)
@click.version_option(__version__, prog_name="shapeshd")
@click.option("--debug", is_flag=True, help="Show Python's traceback with an error.")
def cli(debug: bool) -> None:
    """Measure whether a generator's distribution is right, on images whose truth is known."""
    click.get_current_context().with_resource(names_as_options())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    _ready_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Taken before or after the command's name.
    debug = "--debug" in given or os.environ.get(f"{_VARIABLES}_DEBUG", "") not in ("", "0")
    given = [argument for argument in given if argument != "--debug"]
    # A scheduler says SIGTERM for Ctrl-C. Where SIGINT is ignored, as in a shell's background
    # job, it stays so.
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        require_posix()
        status = cli.main(given, prog_name="shapeshd", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130, debug)
    except ShapesHDError as error:
        _fail(str(error), error.exit_code, debug)
    except BrokenPipeError:
        # The reader of our output has gone: nothing to say, and nobody to say it to.
        _let_go_of_output()
        sys.exit(1)
    except MemoryError:
        _fail("out of memory: use a smaller --batch, --shard-size or number of --jobs", 1, debug)
    except OSError as error:
        _fail(_describe(error), 1, debug)
    except Exception as error:
        what = one_line(error)
        _fail(f"internal error: {type(error).__name__}: {what}; please report it, with "
              "the output of the same command and --debug", 1, debug)  # fmt: skip


def _ready_streams() -> None:
    """Give closed standard streams the null device, and let stdout write whatever a name holds.

    A file that is opened would else get the number of a closed stream, and what libraries and
    child processes print would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null != number:
                os.close(null)
            os.set_inheritable(number, True)  # for child processes, too
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names that are no UTF-8, and signs that an old terminal does not have.
        sys.stdout.reconfigure(errors="backslashreplace")


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Whoever presses Ctrl-C twice must not interrupt the tidying up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _fail(message: str, status: int, debug: bool) -> NoReturn:
    if debug:
        raise  # the exception that is being handled
    # A name may hold a line feed; an error is one line all the same.
    click.echo("shapeshd: error: " + " ".join(message.splitlines()), err=True)
    _let_go_of_output()
    sys.exit(status)


def _let_go_of_output() -> None:
    """Drop what cannot be written to stdout: Python would try once more at its end, and fail."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _describe(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    what = (error.strerror or str(error)).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}{what}: free some space and run the same command again"
    return f"{where}{what}"
