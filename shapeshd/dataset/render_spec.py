"""``render:SEED:COUNT``: a dataset that is named and not stored."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from shapeshd.checks import whole_number
from shapeshd.errors import UsageError, names_as_options
from shapeshd.factors import MAX_IMAGE, check_seed
from shapeshd.scene.render_options import RenderOptions

PREFIX = "render:"
FORM = "render:SEED:COUNT[,size=PIXELS][,start=INDEX][,device=DEVICE]"
_NUMBERS = ("seed", "count", "size", "start")
_MAX_DIGITS = 19  # of a 64-bit number
_DEVICE = re.compile(r"(cpu|cuda|xpu|mps)(:[0-9]{1,3})?")
_SHOWN = 80


@dataclass(frozen=True)
class RenderSpec:
    """The images `start` .. `start` + `count` - 1 of a seed, traced when they are read.

    Args:
        seed: with an image's index it decides the image, in [0, 2^63 - 1].
        count: how many images, >= 1.
        size: width and height in pixels, 8 to 2048.
        start: index of the first, >= 0.
        device: where PyTorch makes them.

    Raises:
        UsageError: if a number is impossible.
    """

    seed: int
    count: int
    size: int = 256
    start: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        with names_as_options(False):  # such as size=64, in a command, too
            self._check()

    def _check(self) -> None:
        whole = {
            "seed": check_seed(self.seed),
            "count": whole_number("count", self.count, 1),
            "start": whole_number("start", self.start, 0),
            "size": RenderOptions(self.size).size,
        }
        for name, value in whole.items():
            object.__setattr__(self, name, value)
        if self.start + self.count > MAX_IMAGE:
            raise UsageError(f"start and count together must be at most {MAX_IMAGE:,}")

    @property
    def indices(self) -> range:
        """The indices of the images."""
        return range(self.start, self.start + self.count)

    def __str__(self) -> str:
        """Return the text that `parse_rendered` reads."""
        settings = "".join(
            f",{field.name}={getattr(self, field.name)}"
            for field in fields(self)[2:]
            if getattr(self, field.name) != field.default
        )
        return f"{PREFIX}{self.seed}:{self.count}{settings}"


def parse_rendered(text: str) -> RenderSpec | None:
    """Read ``render:SEED:COUNT`` with its settings, such as ``render:0:1000,size=64``.

    Returns:
        None if `text` does not begin with ``render:`` and so is the name of a file or
        folder; one that really begins so is reached as ``./render:...``.

    Raises:
        UsageError: if a part is missing, unknown, given twice or impossible.
    """
    if not text.startswith(PREFIX):
        return None
    try:
        return RenderSpec(**_read(text.removeprefix(PREFIX)))
    except UsageError as error:
        raise UsageError(f"{_shown(text)}: {error}") from None


def _read(text: str) -> dict[str, Any]:
    head, *settings = text.split(",")
    numbers = head.split(":")
    if len(numbers) != 2:
        raise UsageError(f"not of the form {FORM}")
    values = {name: _convert(name, part) for name, part in zip(_NUMBERS, numbers, strict=False)}
    known = [field.name for field in fields(RenderSpec)[2:]]
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known:
            raise UsageError(f"unknown setting {_shown(name)!r}: choose {', '.join(known)}")
        if name in values:
            raise UsageError(f"{name} is given twice")
        values[name] = _convert(name, value)
    return values


def _convert(name: str, text: str) -> int | str:
    if name not in _NUMBERS:
        if not _DEVICE.fullmatch(text):
            raise UsageError(f"{name} must be cpu, cuda, cuda:N, xpu or mps, not {_shown(text)!r}")
        return text
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"{name} must be a whole number, not {_shown(text)!r}")
    if len(text.lstrip("0")) > _MAX_DIGITS:
        raise UsageError(f"{name} is too large")
    return int(text)


def _shown(text: str) -> str:
    """Shorten `text` for a message of one line."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
