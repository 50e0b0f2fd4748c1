"""One run of a user's command: started, read frame by frame, ended with all that it started."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapeshd.errors import ShapesHDError, UsageError, named

from . import command_guard
from .code_process import describe_end

_PATIENCE = 3.0  # seconds to say how it ended after it has closed its output
_READ = 2**20
_TAIL = 300  # characters of what it has said on stderr


class CommandRun:
    """A command that writes the samples `start` .. `stop` - 1 to its standard output.

    Args:
        command: the program, found, and its arguments.
        environment: of the program.
        name: what the user called it, for messages.
        start: first sample that it was told to write.
        stop: one past the last.
        shape: (height, width) of a frame; each is height x width x 3 bytes.
        timeout: seconds within which the next frame must be whole, or the end come.

    Attributes:
        next: the sample that is read next.
        stop: one past the last that it writes.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        *,
        name: str,
        start: int,
        stop: int,
        shape: tuple[int, int],
        timeout: float,
    ) -> None:
        self.next, self.stop = start, stop
        self._name, self._shape, self._timeout = name, shape, timeout
        self._start = start
        self._status: str | None = None  # what the guard has said
        self._tail = b""
        self._link, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                # The guard sees to it that nothing outlives us, were we killed.
                [sys.executable, "-I", "-S", str(Path(command_guard.__file__).resolve())]
                + [str(theirs.fileno()), *command],
                env=environment,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us; we end it with all that it started
            )
        except BaseException:
            self._link.close()
            raise
        finally:
            theirs.close()
        assert self._process.stdout is not None and self._process.stderr is not None
        self._output = self._process.stdout.fileno()
        self._listener = threading.Thread(
            target=self._listen, args=(self._process.stderr,), daemon=True
        )
        self._listener.start()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._selector.register(self._link, selectors.EVENT_READ)

    def read(self, frames: NDArray[np.uint8]) -> None:
        """Fill `frames`, (n, height, width, 3), with the next n samples, at most up to `stop`.

        After the last one the end of the output is waited for, and the process is gone.

        Raises:
            UsageError: if the command cannot be started.
            ShapesHDError: in one line, if it ends, fails, hangs or writes too little or too much;
                it is ended then.
        """
        try:
            view = frames.reshape(-1).data
            one, got = view.nbytes // len(frames), 0
            latest = time.monotonic() + self._timeout
            while got < len(view):
                count = self._some(view[got : got + _READ], latest)
                if count == 0:
                    raise self._short(got % one)
                if (got + count) // one > got // one:
                    latest = time.monotonic() + self._timeout
                    self.next += (got + count) // one - got // one
                got += count
            if self.next == self.stop:
                self._finish()
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End the process and all that it has started; leave no zombie."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._listener.join(_PATIENCE)
        self._selector.close()
        self._link.close()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None and not (
                pipe is self._process.stderr and self._listener.is_alive()
            ):
                pipe.close()

    def _finish(self) -> None:
        latest = time.monotonic() + self._timeout
        surplus = self._some(memoryview(bytearray(_READ)), latest)
        if surplus:
            raise self._failure(
                f"wrote more than the {self._wanted()} that it was asked for: check "
                f"{named('frame_size')}, and that it prints to stderr alone"
            )
        status = self._exit_status(self._timeout)
        if status is None:
            raise self._late()
        if status != 0:
            raise self._failure(f"{describe_end(status)} after it had written all")
        self.end()

    def _some(self, view: memoryview, latest: float) -> int:
        """Read some bytes into `view` and return how many; 0 where the output ends.

        Raises:
            UsageError: if the command could not be started.
            ShapesHDError: if nothing comes until `latest`.
        """
        while True:
            rest = 0.0 if self._status is not None else max(0.0, latest - time.monotonic())
            ready = [key.fileobj for key, _ in self._selector.select(rest)]
            if self._output in ready:
                return os.readv(self._output, [view])
            if self._link in ready:
                self._hear()
            elif self._status is not None:
                # It has ended; something that it started in the background holds the pipe open.
                return 0
            elif not rest:
                raise self._late()

    def _hear(self) -> None:
        """Take the guard's message; an empty one if it was killed."""
        try:
            self._status = self._link.recv(4096).decode(errors="replace")
        except TimeoutError:
            return
        except OSError:
            self._status = ""
        self._selector.unregister(self._link)
        if self._status.startswith(command_guard.NO_START):
            reason = self._status.removeprefix(command_guard.NO_START)
            raise UsageError(f"{self._name}: cannot be started ({reason})")

    def _exit_status(self, seconds: float) -> int | None:
        """Return how the command ended, as `subprocess` does; None if it has not yet."""
        if self._status is None:
            self._link.settimeout(seconds)
            self._hear()
        if self._status is None:
            return None
        text = self._status.removeprefix(command_guard.EXIT)
        return int(text) if text else -signal.SIGKILL

    def _late(self) -> ShapesHDError:
        """Return the error of a command that takes too long."""
        if self.next == self.stop:
            what = f"has written all, but did not end within {self._timeout:g} s, and was ended"
            return self._failure(what)
        return self._failure(
            f"gave no whole image within {self._timeout:g} s, waiting for sample {self.next:,}, "
            f"and was ended: raise {named('timeout')} if it needs longer"
        )

    def _short(self, part: int) -> ShapesHDError:
        """Return the error of an output that ends too early, `part` bytes into a frame."""
        status = self._exit_status(_PATIENCE)
        what = "closed its output" if status is None else describe_end(status)
        written = f"{self.next - self._start:,} of {self._wanted()}"
        if part:
            written += f" and {part:,} bytes of another one"
        hint = f": check {named('frame_size')}, and that it writes as many as it is asked for"
        return self._failure(f"{what} after {written}{'' if status else hint}")

    def _wanted(self) -> str:
        height, width = self._shape
        count = self.stop - self._start
        plural = "s" * (count != 1)
        return f"{count:,} image{plural} of {width}x{height} (from sample {self._start:,})"

    def _failure(self, text: str) -> ShapesHDError:
        """Return an error with the last words of the command, which is ended."""
        self.end()
        lines = self._tail.decode(errors="replace").splitlines()
        said = " / ".join(" ".join(line.split()) for line in lines if line.strip())
        said = "".join(letter if letter.isprintable() else "?" for letter in said)
        if len(said) > _TAIL:
            said = "... " + said[-_TAIL:].lstrip()
        return ShapesHDError(f"{self._name}: {text}" + (f"; it said: {said}" if said else ""))

    def _listen(self, errors: Any) -> None:
        """Keep the last of what the command says on stderr; it must never wait for us."""
        with suppress(OSError, ValueError):
            while data := errors.read(2**16):
                self._tail = (self._tail + data)[-4 * _TAIL :]
