"""A user's own command, ``cmd:PROGRAM ARGUMENTS``, that writes frames to its standard output.

The contract, in any language: the program is told a seed, the number of the first sample and how
many, by the environment variables ``SHAPESHD_SEED``, ``SHAPESHD_START`` and ``SHAPESHD_COUNT``
or by ``{seed}``, ``{start}`` and ``{count}`` in its arguments. It writes just so many images to
stdout, one after the other, nothing between them: rows from the top, 3 bytes a pixel, sRGB, of
the size that ``--frame-size`` says. What it prints goes to stderr. It ends with status 0.
``SHAPESHD_DEVICE`` says which device is meant for it, such as "cuda:1" under torchrun.

Sample i must be a function of (seed, i) alone, so that a run can resume anywhere and be shared
out. Before it counts, the source therefore asks for sample 1 twice, after sample 0 and alone,
and refuses a command that gives two images: one that draws all from one generator of random
numbers, seeded once, for example.

No shell is started: the text is split as a POSIX shell would, and that is all.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapeshd.benchmark.sources.examine import split_command
from shapeshd.benchmark.sources.latents import check_samples
from shapeshd.benchmark.sources.option_values import parse_frame_size
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import ShapesHDError, UsageError, named
from shapeshd.factors import MAX_IMAGE, check_seed
from shapeshd.images.numbered import Closing

from .command_process import CommandRun

KIND = "command"
_PLACEHOLDERS = ("{seed}", "{start}", "{count}")
_PLACEHOLDER = re.compile(r"\{(seed|start|count)\}")
_LIKE_ONE = re.compile(r"(?<!\$)\{[A-Za-z]+\}")  # ${NAME} is a shell's
_MOST_APART = 1.0  # mean difference, levels: a network's rounding may depend on its batch


def open_command(request: OpenRequest) -> CommandSource:
    """Open a command, which is told the seed and the device; it starts when images are asked for.

    Raises:
        UsageError: if there is no such program, or its images' size is not said.
    """
    name, options, words = request.name, request.options, split_command(request)
    if options.frame_size is None:
        raise UsageError(
            f"{name}: give {named('frame_size')} WIDTHxHEIGHT, the size of its images in pixels"
        )
    check_seed(request.seed)
    _refuse_mistyped(words, name)
    program = shutil.which(words[0])
    if program is None:
        raise UsageError(f"{name}: there is no program {words[0]!r} that could be started")
    return CommandSource([program, *words[1:]], name, request.seed, request.device, options)


def _refuse_mistyped(words: list[str], name: str) -> None:
    """Refuse ``{first}`` where it may stand for a placeholder: one of them is not used.

    Words with blanks in them are left alone; they are programs of their own, as after ``sh -c``.
    """
    if all(any(known in word for word in words) for known in _PLACEHOLDERS):
        return
    plain = [word for word in words if not re.search(r"\s", word)]
    for found in _LIKE_ONE.findall(" ".join(plain)):
        if found not in _PLACEHOLDERS:
            raise UsageError(
                f"{name}: unknown placeholder {found}: there are {', '.join(_PLACEHOLDERS)}; "
                "where braces are meant, put the command into a script"
            )


class CommandSource(Closing):
    """The images that a command writes, a `Source` without end.

    Where one range follows on another, the command is asked for whole batches ahead, so that it
    starts less often; a range out of the order is asked for just as it is.

    Args:
        command: the program, found, and its arguments with the placeholders.
        name: what the user called it.
        seed: that it is told.
        device: that it is told.
        options: `frame_size`, `batch` and `timeout`.
    """

    kind = KIND
    count: int | None = None

    def __init__(
        self, command: list[str], name: str, seed: int, device: str, options: SourceOptions
    ) -> None:
        assert options.frame_size is not None
        self.name = name
        self._command, self._seed, self._device = command, seed, device
        self._width, self._height = parse_frame_size(options.frame_size)
        self._batch, self._timeout = options.batch, options.timeout
        self._run: CommandRun | None = None
        self._next = -1  # one past the last sample that was read
        self._checked = self._closed = False

    def images(self, start: int, stop: int) -> Tensor:
        """Return the images `start` .. `stop` - 1: uint8 (n, 3, H, W), sRGB.

        Args:
            start: first sample, >= 0.
            stop: one past the last sample, >= `start`.

        Raises:
            UsageError: if the range is impossible, the command cannot be started, or breaks its
                contract.
            ShapesHDError: in one line, if it fails or hangs.
        """
        check_samples(start, stop, MAX_IMAGE)
        if self._closed:
            raise ShapesHDError("the source is closed")
        if not self._checked:
            self._check_contract()
        return torch.from_numpy(self._frames(start, stop)).permute(0, 3, 1, 2)

    def describe(self) -> dict[str, Any]:
        """Return what the command was told, ready for JSON."""
        return {
            "frame_size": f"{self._width}x{self._height}",
            "seed": self._seed,
            "batch": self._batch,
            "device": self._device,
        }

    def close(self) -> None:
        """End the command if it runs."""
        self._closed = True
        self._drop_run()

    def _check_contract(self) -> None:
        after, alone = self._frames(0, 2)[1], self._frames(1, 2)[0]
        apart = float(np.abs(after.astype(np.int16) - alone).mean())
        if apart > _MOST_APART:
            raise UsageError(
                f"{self.name}: sample 1 is one image if it is made after sample 0 and another "
                f"alone ({apart:.1f} levels apart): make each sample of the seed and its own "
                "number, from SHAPESHD_START (or {start}) on, and of nothing else"
            )
        self._checked, self._next = True, -1

    def _frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the frames of these samples: (n, height, width, 3)."""
        frames = np.empty((stop - start, self._height, self._width, 3), np.uint8)
        place = start
        try:
            while place < stop:
                run = self._run_at(place, stop)
                last = min(stop, run.stop)
                run.read(frames[place - start : last - start])
                self._next = place = last
                if place == run.stop:
                    self._run = None
        except BaseException:  # Ctrl-C, too: the command has not heard of it
            self._drop_run()
            raise
        return frames

    def _run_at(self, start: int, stop: int) -> CommandRun:
        """Return a run of the command whose next sample is `start`."""
        if self._run is not None and self._run.next == start:
            return self._run
        self._drop_run()
        if start == self._next:  # they follow on each other: so may the next ones
            stop = min(-(-stop // self._batch) * self._batch, MAX_IMAGE)
        told = {"seed": str(self._seed), "start": str(start), "count": str(stop - start)}
        self._run = CommandRun(
            [_PLACEHOLDER.sub(lambda match: told[match[1]], word) for word in self._command],
            {
                **os.environ,
                **{f"SHAPESHD_{key.upper()}": value for key, value in told.items()},
                "SHAPESHD_DEVICE": self._device,
            },
            name=self.name,
            start=start,
            stop=stop,
            shape=(self._height, self._width),
            timeout=self._timeout,
        )
        return self._run

    def _drop_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.end()
