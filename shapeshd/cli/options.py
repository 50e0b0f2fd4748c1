"""Arguments, options and kinds of values that several commands take."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from shapeshd.errors import UsageError, named

if TYPE_CHECKING:
    from shapeshd.dataset.render_spec import RenderSpec

_Command = TypeVar("_Command", bound=Callable[..., Any])

engines = click.Choice(["povray", "torch"])  # `ENGINES`, which would import NumPy
RECOGNIZERS = ("lite", "lite-robust", "lite-256", "hd")  # `SHIPPED`, whose module is loaded later
RECOGNIZER_NAMES = "|".join((*RECOGNIZERS, "PATH"))
MODEL = "model:"  # `shipped.PREFIX`
_DEVICES = re.compile(r"auto|(cpu|cuda|mps|xpu|hpu|mtia|ipu|xla|privateuseone)(:[0-9]{1,3})?")


TRACKERS = ("tensorboard", "wandb")  # `tracker.TRACKERS`, which would import much


def files_named(incomplete: str) -> list[CompletionItem]:
    """Return what lets the shell complete a file's name."""
    return [CompletionItem(incomplete, type="file")]


class Source(click.ParamType):
    """What can be scored: mostly a path."""

    name = "source"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete files."""
        return files_named(incomplete)


class NameOrPath(click.ParamType):
    """A name that the program knows, or a path.

    Args:
        names: those known, or what gives them, which is called where a shell completes.
    """

    name = "name or path"

    def __init__(self, *names: str | Callable[[], list[str]]) -> None:
        self._names = names

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete names and files; where a name fits, shells leave files out."""
        known = [name for one in self._names for name in ([one] if isinstance(one, str) else one())]
        fitting = [CompletionItem(name) for name in known if name.startswith(incomplete)]
        return [*files_named(incomplete), *fitting]


class Device(click.ParamType):
    """A device of PyTorch, or ``auto``; only its form is looked at, so that torch is not needed."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, or raise `UsageError` if it names no kind of device."""
        if not _DEVICES.fullmatch(value):
            raise UsageError(
                f"{named('device', value)} cannot be used: say auto, cpu, cuda, cuda:1 or mps"
            )
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the usual ones."""
        usual = ("auto", "cpu", "cuda", "mps")
        return [CompletionItem(name) for name in usual if name.startswith(incomplete)]


def seed_option(what: str) -> Callable[[Any], Any]:
    """Return the option ``--seed``; the command checks its range.

    Args:
        what: the sentence of the help: what is drawn from it.
    """
    return click.option("--seed", type=int, default=0, show_default=True, metavar="N", help=what)


def trust_option(argument: str) -> Callable[[Any], Any]:
    """Return the option ``--trust``; the command refuses code without it by `require_trust`.

    Args:
        argument: what may be or hold code: "SOURCE".
    """
    return click.option(
        "--trust",
        is_flag=True,
        help=f"Run the code that comes with {argument}, or that {argument} is.",
    )


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write the result to standard output as JSON."
)
device_option = click.option(
    "--device",
    type=Device(),
    default="auto",
    show_default=True,
    metavar="DEVICE",
    help="Compute on this device: cpu, cuda, cuda:1, mps. auto takes a GPU if there is one.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),  # `PRECISIONS`, which would import PyTorch
    default="auto",
    show_default=True,
    help="Compute the recognizer's convolutions in this precision. auto takes bf16 where the "
    "device computes in it natively and the recognizer's card says how well it then reads.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Read images in N processes beside this one.  [default: 1; 0 for images that are made]",
)
recognizer_type = NameOrPath(*RECOGNIZERS)


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
            UsageError: if it begins with ``render:`` and is wrong, or is not taken here; or if
                there is nothing at the path.
        """
        from shapeshd.dataset.render_spec import parse_rendered

        spec = parse_rendered(value) if isinstance(value, str) else None
        if spec is None:
            if not _is_there(Path(value)):
                raise UsageError(f"{value}: no such file or folder")
            return Path(value)
        if self._not_stored is not None:
            raise UsageError(f"{spec}: {self._not_stored}")
        return spec

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete files."""
        return files_named(incomplete)


class DatasetOrModel(Dataset):
    """A dataset, or ``model:NAME``, which stays text."""

    name = "dataset or model"

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | RenderSpec | str:
        """Return the text of a model, else what `Dataset` does."""
        if isinstance(value, str) and value.startswith(MODEL):
            return value
        return super().convert(value, param, ctx)


class Checkpoint(click.ParamType):
    """The file of a generator: a path, or ``model:NAME`` for one that comes with the program."""

    name = "checkpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the file's path.

        Raises:
            UsageError: if it begins with ``model:`` and there is no such generator.
        """
        if isinstance(value, str) and value.startswith(MODEL):
            from shapeshd.models.networks.shipped import find_shipped

            return find_shipped(value).path
        return Path(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete files."""
        return files_named(incomplete)


class NewPath(click.ParamType):
    """A file or folder to be made; not a name that other commands would not take for a path."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or fail if it reads ``render:...``."""
        from shapeshd.dataset.render_spec import PREFIX

        if isinstance(value, str) and value.startswith(PREFIX):
            self.fail(f"{value!r} names images that are not stored; say ./{value}", param, ctx)
        return Path(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete files."""
        return files_named(incomplete)


def _is_there(path: Path) -> bool:
    """Tell whether something is at a path; what cannot be looked at is left to who reads it."""
    try:
        return path.expanduser().exists()
    except (OSError, RuntimeError):
        return True


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


def tracker_option(command: _Command) -> _Command:
    """Give a command ``--tracker``, and ``--tensorboard``, as it was called when there was one."""
    for option in (
        click.option("--tensorboard", is_flag=True, help="The same as --tracker tensorboard."),
        click.option(
            "--tracker",
            "trackers",
            type=click.Choice(TRACKERS),
            multiple=True,
            help="Show the log there, too. May be given several times. wandb keeps the run in its "
            "folder if nobody is signed in.",
        ),
    ):
        command = option(command)
    return command


def chosen_trackers(trackers: tuple[str, ...], tensorboard: bool) -> tuple[str, ...]:
    """Return the trackers that the options of `tracker_option` name, each once."""
    return tuple(dict.fromkeys((*trackers, *(["tensorboard"] * tensorboard))))
