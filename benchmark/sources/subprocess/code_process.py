"""A process of its own in which a user's code, or a network's own, makes images.

Nothing that the code does (prints, exits, crashes, hangs) can harm a run beyond one clear line.
The other end is `python_worker`.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import ShapesHDError, UsageError, named, names_are_options

SLOTS = 2
"""Batches that the process is asked for ahead; each has its place in the shared memory."""

_BOOTSTRAP = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from shapeshd.benchmark.sources.subprocess.python_worker import main; main(sys.argv[1])"
)
_PATIENCE = 3.0  # seconds to end by itself
_LOOK_AGAIN = 1.0  # seconds; a process that the user's code forked can keep the pipe open
_READ = 2**16


@dataclass(frozen=True)
class Code:
    """What the process is to load.

    Attributes:
        loader: which of `python_worker`'s loaders does it, such as "function".
        place: of the code: an absolute path, or the name of a module.
        detail: what else the loader is told.
        paths: folders that come first on the process's search path.
    """

    loader: str
    place: str
    detail: str
    paths: list[str]


class UserTraceback(Exception):
    """The traceback of the user's own process, as the cause of what is raised here."""

    def __str__(self) -> str:
        """Return it as Python would print it."""
        return f"in the process of the source:\n\n{self.args[0]}"


class ChildBatches:
    """Batches that foreign code makes in another process; see `Batches`.

    Args:
        code: what is loaded there.
        request: its name, seed (of the latents, or of the samples' seeds), device and options;
            `batch` and `timeout` are used here, the rest there.

    Raises:
        UsageError: if the code cannot be used as it is.
        ShapesHDError: if it raises, exits, crashes or hangs while it loads.
    """

    def __init__(self, code: Code, request: OpenRequest) -> None:
        self.batch = request.options.batch
        self._name = request.name
        self._timeout = request.options.timeout
        self._said: dict[str, Any] = {
            "seed": request.seed,
            "batch": self.batch,
            "device": request.device,
        }
        self._form: dict[str, Any] = {}
        self._memory = _shared_memory()
        self._slots: Tensor | None = None
        self._asked: deque[int] = deque()
        order = {
            "code": asdict(code),
            "request": asdict(request),
            "memory": self._memory,
            "names_are_options": names_are_options(),
        }
        self._child = _Child(order, self._memory)
        self._finalizer = weakref.finalize(self, _end, self._child, self._memory)
        try:
            self._said |= self._reply("loading")["ready"]
        except BaseException:
            self._finalizer()
            raise

    def make(self, numbers: range) -> Iterator[Tensor]:
        """Yield the batches of these numbers: uint8 (batch, 3, H, W)."""
        self._child.require_open()
        while self._asked:  # of a range that was given up, by Ctrl-C for one
            self._answer()
        for number in numbers:
            self._ask(number)
            if len(self._asked) == SLOTS:
                yield self._answer()
        while self._asked:
            yield self._answer()

    def alone(self, start: int, stop: int) -> Tensor | None:
        """Return the images `start` .. `stop` - 1 as a batch of their own.

        None of more than a batch, for which there is no place.
        """
        if stop - start > self.batch:
            return None
        self._child.require_open()
        while self._asked:
            self._answer()
        self._child.send({"start": start, "stop": stop, "slot": 0})
        reply = self._reply(f"making the samples {start} .. {stop - 1}")
        return self._images(reply)[: stop - start].clone()

    def describe(self) -> dict[str, Any]:
        """Return what the code takes, the batch, the device and how images were read."""
        return {**self._said, **self._form}

    def close(self) -> None:
        """End the process."""
        self._finalizer()

    def _ask(self, number: int) -> None:
        self._child.send({"number": number, "slot": number % SLOTS})
        self._asked.append(number)

    def _answer(self) -> Tensor:
        """Wait for the oldest batch that was asked for; its slot is read, not copied."""
        first = self._asked[0] * self.batch
        reply = self._reply(f"making the samples {first} .. {first + self.batch - 1}")
        self._asked.popleft()
        self._form = reply["form"]
        return self._images(reply)

    def _images(self, reply: dict[str, Any]) -> Tensor:
        """Return the slot that a reply speaks of: uint8 (batch, 3, H, W)."""
        if self._slots is None:
            shape = (SLOTS, *reply["shape"])
            memory = mmap.mmap(self._memory, math.prod(shape))
            self._slots = torch.frombuffer(memory, dtype=torch.uint8).reshape(shape)
        return self._slots[reply["slot"]]

    def _reply(self, doing: str) -> dict[str, Any]:
        try:
            reply = self._child.receive(self._timeout)
        except TimeoutError:
            self._finalizer()
            raise ShapesHDError(
                f"{self._name}: gave nothing within {self._timeout:g} s while {doing}, and was "
                f"ended: raise {named('timeout')} if it needs longer"
            ) from None
        if reply is None:
            status = self._child.wait()
            self._finalizer()
            raise ShapesHDError(f"{self._name}: {describe_end(status)} while {doing}")
        if "error" in reply:
            self._child.busy = 0  # it ends by itself
            self._finalizer()
            error = reply["error"]
            kind = UsageError if error["usage"] else ShapesHDError
            raise kind(error["text"]) from UserTraceback(error["trace"])
        return reply


class _Child:
    """The process, its pipes, and lines of JSON on them.

    Attributes:
        busy: replies that are due; the first says that the code is loaded.
    """

    def __init__(self, order: dict[str, Any], memory: int) -> None:
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        self._buffer = bytearray()
        self._open = True
        self.busy = 1
        order = {**order, "requests": requests, "replies": replies}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOTSTRAP, json.dumps(order), *sys.path],
                pass_fds=(requests, replies, memory),
                stdin=subprocess.DEVNULL,
                stdout=2,  # what it prints must not be taken for our results
                start_new_session=True,  # Ctrl-C is for us; we end it with all that it started
            )
        except BaseException:
            self._close_pipes()
            raise
        finally:
            os.close(requests)
            os.close(replies)

    def require_open(self) -> None:
        """Raise `ShapesHDError` if the process has been ended."""
        if not self._open:
            raise ShapesHDError("the source is closed")

    def send(self, request: dict[str, Any]) -> None:
        """Ask; that nobody listens any more shows in the reply."""
        self.require_open()
        self.busy += 1
        with suppress(BrokenPipeError):
            os.write(self._requests, json.dumps(request).encode() + b"\n")

    def receive(self, timeout: float) -> dict[str, Any] | None:
        """Return the next reply; None if the process has ended without one.

        Raises:
            TimeoutError: if there is none for `timeout` seconds.
        """
        latest = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                ended = self._process.poll() is not None
                rest = max(0.0, latest - time.monotonic())
                if selector.select(0 if ended else min(rest, _LOOK_AGAIN)):
                    data = os.read(self._replies, _READ)
                    if not data:
                        return None
                    self._buffer += data
                elif ended:
                    return None
                elif not rest:
                    raise TimeoutError
        line, _, self._buffer = self._buffer.partition(b"\n")
        self.busy -= 1
        reply: dict[str, Any] = json.loads(line)
        return reply

    def wait(self) -> int:
        """Return the exit status of a process that has ended, or is about to."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(_PATIENCE)
        self._kill()
        return self._process.wait()

    def end(self) -> None:
        """End the process, by force if it is busy or does not end by itself; leave no zombie."""
        self._close_pipes()
        if not self.busy:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
        self._kill()
        self._process.wait()

    def _close_pipes(self) -> None:
        if self._open:
            self._open = False
            os.close(self._requests)
            os.close(self._replies)

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _end(child: _Child, memory: int) -> None:
    child.end()
    os.close(memory)


def _shared_memory() -> int:
    """Return the descriptor of a file without a name: it goes when both processes are gone."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("shapeshd-images", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def describe_end(status: int) -> str:
    """Say how a process ended, of its exit status as `subprocess` gives it."""
    if status == -signal.SIGKILL:
        return "its process was killed (signal 9; out of memory?)"
    if status < 0:
        with suppress(ValueError):
            return f"its process crashed ({signal.Signals(-status).name})"
        return f"its process crashed (signal {-status})"
    return f"its process ended by itself (exit status {status})"
