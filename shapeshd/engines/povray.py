"""POV-Ray as a renderer: a batch of scenes in, a stream of uint8 frames out.

One process renders a whole batch as an animation, each frame including its own scene
file, and streams concatenated PPM images to a pipe. POV-Ray sleeps most of the time that a
small frame takes (about 0.23 s of polling), so several processes share a core.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Generator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from shapeshd.errors import RendererError
from shapeshd.factors import SHAPES, FloatArray, check_factors
from shapeshd.scene import povray_scene
from shapeshd.scene.render_options import Image, RenderOptions
from shapeshd.support.distributed import core_count

_POLLING_SECONDS = 0.23
_ATTEMPTS = 4
_ATTEMPTS_IF_KILLED = 20  # somebody else's doing, such as a full memory: more patience
_QUEUED_FRAMES = 4
_PIPE_BYTES = 2**16
_SCENE_BYTES = 1024  # of a frame's scene file, filled up with spaces
_READ_BYTES = 2**14
_SPARE_PROCESSES = 1.3
_INSTALL_HINT = (
    "install it (Debian and Ubuntu: apt-get install povray; macOS: brew install povray; "
    "conda: conda install -c conda-forge povray) or set SHAPESHD_POVRAY to its path"
)


def seconds_per_frame(size: int) -> float:
    """About how much CPU time a frame takes: 3.6 ms and 0.65 us a pixel, as measured once.

    It decides how work is cut up, never what is rendered.
    """
    return 0.0036 + 0.65e-6 * size**2


def processes_per_core(size: int) -> int:
    """How many POV-Ray processes keep one core busy at this image size.

    A process sleeps for 0.23 s a frame; a few more bridge the starts and ends of batches.
    """
    return min(64, round(_SPARE_PROCESSES * _POLLING_SECONDS / seconds_per_frame(size)) + 2)


@cache
def scene_digest() -> str:
    """SHA-256 over what POV-Ray is given: a scene of each shape, and the options.

    It changes whenever another version of the program could give other pixels.
    """
    digest = hashlib.sha256()
    for shape in range(len(SHAPES)):
        digest.update(povray_scene.standalone((0.1, 0.4, 0.7, 1.3, shape, -17.0)).encode())
    for antialias in (0.3, None):
        digest.update(RenderOptions(64, antialias, 3).ini(1).encode())
    return digest.hexdigest()


def executable() -> str:
    """Return the path of POV-Ray: ``$SHAPESHD_POVRAY``, else ``povray`` on the PATH.

    Raises:
        RendererError: if there is none; the message says how to install it.
    """
    wanted = os.environ.get("SHAPESHD_POVRAY") or "povray"
    found = shutil.which(wanted)
    if found is None:
        raise RendererError(f"POV-Ray was not found ({wanted}); {_INSTALL_HINT}")
    return str(Path(found).absolute())  # it is started in another folder


def version() -> str:
    """Return POV-Ray's version, such as ``3.7.0.10``.

    Raises:
        RendererError: if POV-Ray is missing, does not answer or is older than 3.7.
    """
    program = executable()
    for _ in range(_ATTEMPTS):
        try:
            answer = subprocess.run(
                [program, "--version"], capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RendererError(f"{program} cannot be run ({error}); {_INSTALL_HINT}") from None
        if answer.returncode >= 0:  # else it was killed: somebody else's doing
            break
    match = re.search(r"POV-Ray\s+(?:v)?(\d+)\.(\d+)([\w.\-]*)", answer.stdout + answer.stderr)
    if match is None:
        raise RendererError(f"{program} does not say that it is POV-Ray; {_INSTALL_HINT}")
    major, minor, rest = int(match[1]), int(match[2]), match[3].removesuffix(".unofficial")
    if (major, minor) < (3, 7):
        raise RendererError(
            f"{program} is POV-Ray {major}.{minor}{rest}, but 3.7 or newer is needed; "
            f"{_INSTALL_HINT}"
        )
    return f"{major}.{minor}{rest}"


class Batch(threading.Thread):
    """One POV-Ray process that renders a batch of scenes, and the thread that reads it.

    The thread keeps the pipe empty: POV-Ray writes an image in pieces and sleeps whenever
    the pipe is full. A process that dies (killed, out of memory) is started again at the
    frame that is missing. The folder `work` holds its scene files and is left to the
    caller to remove.

    POV-Ray's working directory is `home`, above `work`: an orphan whose working directory has
    been removed would loop for ever at its start instead of ending with an error.
    """

    def __init__(self, factors: FloatArray, options: RenderOptions, work: Path, home: Path) -> None:
        super().__init__(name="povray-batch", daemon=True)
        self._home = home
        self._factors = factors
        self._options = options
        self._work = work
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = threading.Event()
        # POV-Ray can be as many frames ahead of us as the pipe and our buffer hold. (A frame that
        # comes even before its scene finds another one's, which refuses it: see `_describe`.)
        self._ahead = (_PIPE_BYTES + _READ_BYTES) // (3 * options.size**2) + 4
        self._frames: queue.Queue[Image | BaseException] = queue.Queue(maxsize=_QUEUED_FRAMES)

    def get(self) -> Image:
        """Wait for the next frame: uint8 (size, size, 3)."""
        frame = self._frames.get()
        if isinstance(frame, BaseException):
            raise frame
        return frame

    def run(self) -> None:
        """Read frames until the batch is complete or closed."""
        try:
            self._read_all()
        except Exception as error:
            self._put(error)
        finally:
            self._reap()

    def cancel(self) -> None:
        """Tell the process and the thread to end, without waiting for them."""
        self._closed.set()
        process = self._process
        if process is not None:
            process.kill()

    def _read_all(self) -> None:
        done, attempts = 0, 0
        stream = self._launch(done)
        while done < len(self._factors) and not self._closed.is_set():
            frame = _read_ppm(stream, self._options.size)
            if frame is not None:
                self._put(frame)
                self._describe(done + self._ahead)
                done, attempts = done + 1, 0
                continue
            if self._closed.is_set():
                return
            status = self._reap(patience=10)
            attempts += 1
            if attempts >= (_ATTEMPTS_IF_KILLED if status < 0 else _ATTEMPTS):
                row = ", ".join(f"{value:g}" for value in self._factors[done])
                raise RendererError(
                    f"POV-Ray failed {attempts} times on the factors ({row}), "
                    f"last with {_describe_status(status)}: {self._messages()}"
                )
            stream = self._launch(done)

    def _put(self, item: Image | BaseException) -> None:
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._frames.put(item, timeout=0.2)
                break

    def _launch(self, first: int) -> IO[bytes]:
        self._work.mkdir(parents=True, exist_ok=True)
        for frame in range(first, first + self._ahead):
            self._describe(frame)
        place = self._work.relative_to(self._home).as_posix()
        wanted = f"#declare WANTED_FRAME = frame_number + {first};\n"
        number = f"str(mod(WANTED_FRAME, {self._ahead}), 0, 0)"
        include = f'#include concat("{place}/frame", {number}, ".inc")\n'
        (self._work / "batch.pov").write_text(povray_scene.preamble() + wanted + include)
        (self._work / "batch.ini").write_text(self._options.ini(len(self._factors) - first))
        with (self._work / "messages.txt").open("wb") as messages:
            process = subprocess.Popen(
                [executable(), f"+I{place}/batch.pov"],
                cwd=self._home,
                # POVINI replaces the user's and the system's own povray.ini.
                env={**os.environ, "POVINI": f"{place}/batch.ini"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=messages,
                bufsize=_READ_BYTES,
                pipesize=_PIPE_BYTES,  # some kernels have 1 MiB
            )
        self._process = process
        if self._closed.is_set():  # closed while it started: nobody else will end it
            process.kill()
        assert process.stdout is not None
        return process.stdout

    def _describe(self, frame: int) -> None:
        """Write the scene file of a frame, if there is such a frame.

        It takes the place of the one before it by so many frames as POV-Ray can be ahead, which
        has been rendered and read: to make a new file takes several times as long as its text. It
        names its frame, so that POV-Ray fails, and is started again, should it read it for another.
        """
        if frame < len(self._factors):
            check = f'#if (WANTED_FRAME != {frame}) #error "the scene of another frame" #end\n'
            scene = check + povray_scene.describe(self._factors[frame])
            text = scene.encode().ljust(_SCENE_BYTES)
            assert len(text) == _SCENE_BYTES  # numbers are of 24 characters at most
            path = self._work / f"frame{frame % self._ahead}.inc"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                if os.write(descriptor, text) < len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            finally:
                os.close(descriptor)

    def _reap(self, patience: float = 0) -> int:
        """End the process, if it does not end by itself in `patience` seconds."""
        process = self._process
        if process is None:
            return 0
        if process.stdout is not None:
            process.stdout.close()
        try:
            return process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _messages(self) -> str:
        text = (self._work / "messages.txt").read_text(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " ".join(lines[-4:]) or "it said nothing"


def _describe_status(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _read_ppm(stream: IO[bytes], size: int) -> Image | None:
    """Read one binary PPM image: uint8 (size, size, 3), or None if the stream ends first."""
    fields: list[bytes] = []
    while len(fields) < 4:
        line = stream.readline()
        if not line.endswith(b"\n"):
            return None
        if not line.startswith(b"#"):
            fields += line.split()
    wanted = [b"P6", b"%d" % size, b"%d" % size, b"255"]
    if fields != wanted:
        raise RendererError(f"POV-Ray sent an image {b' '.join(fields)!r}, not {wanted!r}")
    data = stream.read(3 * size * size)
    if len(data) < 3 * size * size:
        return None
    return np.frombuffer(data, dtype=np.uint8).reshape(size, size, 3)


def stream_images(
    factors: FloatArray,
    options: RenderOptions,
    work: Path,
    processes: int,
    home: Path | None = None,
) -> Generator[Image, None, None]:
    """Render `factors` with several POV-Ray processes and yield the images in order.

    Process j renders the images j, j + `processes`, ...: they arrive nearly in order, so
    that few have to wait in memory.

    Args:
        factors: float64 (n, 6), inside their ranges.
        options: size and antialiasing.
        work: folder for scene files; the caller removes it.
        processes: POV-Ray processes side by side, >= 1.
        home: a folder above `work` that stays; by default its parent. The names between
            both must be plain ASCII.

    Yields:
        n images, uint8 of shape (size, size, 3), sRGB.

    Raises:
        RendererError: if POV-Ray is missing or keeps failing.
    """
    if not len(factors):
        return
    processes = max(1, min(processes, len(factors)))
    home = home or work.parent
    batches: list[Batch] = []
    try:
        for j in range(processes):
            batch = Batch(factors[j::processes], options, work / f"process{j:02d}", home)
            batch.start()
            batches.append(batch)
        for index in range(len(factors)):
            yield batches[index % processes].get()
    finally:
        for batch in batches:
            batch.cancel()
        for batch in batches:
            batch.join()


def render_images(
    factors: npt.ArrayLike,
    size: int = 256,
    *,
    antialias: float | None = 0.3,
    antialias_depth: int = 3,
    processes: int | None = None,
) -> Image:
    """Render images with POV-Ray into memory.

    Args:
        factors: (n, 6) numbers, columns as in `FACTORS`, inside their ranges.
        size: width and height in pixels.
        antialias: threshold of POV-Ray's antialiasing, or None for none; see `RenderOptions`.
        antialias_depth: rays along a side of a supersampled pixel.
        processes: POV-Ray processes side by side; by default as many as keep the machine busy.

    Returns:
        uint8 array of shape (n, size, size, 3), sRGB.

    Raises:
        UsageError: if a factor or an option is out of its range.
        RendererError: if POV-Ray is missing or keeps failing.
    """
    checked = check_factors(factors)
    options = RenderOptions(size, antialias, antialias_depth)
    if processes is None:
        processes = processes_per_core(size) * core_count()
    images = np.empty((len(checked), size, size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory(prefix="shapeshd-") as work:
        for index, image in enumerate(stream_images(checked, options, Path(work), processes)):
            images[index] = image
    return images
