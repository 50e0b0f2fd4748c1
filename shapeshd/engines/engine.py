"""The engines that render a dataset: POV-Ray, the reference, and the PyTorch ray tracer.

Callers ask `engine_named` for an engine and need not know which one it is. Neither engine needs
the other one's program: PyTorch is imported when the first image is traced, and POV-Ray is looked
for when it is to render.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shapeshd.errors import RendererError, UsageError, one_line
from shapeshd.factors import FloatArray
from shapeshd.scene import constants
from shapeshd.scene.render_options import MIN_SIZE, Image, RenderOptions

from . import povray

if TYPE_CHECKING:
    from shapeshd.raytracer.tracer import RayTracer

RAYTRACER_VERSION = 1
"""Raised whenever another pixel comes out of the ray tracer for any factors; tests watch it."""

_CACHED_PIXELS = 50_000  # of a batch: with more, the tensors leave the processor's cache
_CHUNK_SECONDS = 0.4  # how long a run that has ended may go unnoticed


def current_name(renderer: str) -> str:
    """Return a renderer's name as a file gives it, in the words of this version.

    The ray tracer was once called "shapeshd twin", in the first version just "twin".
    """
    if renderer == "twin":
        return "shapeshd ray tracer 1"
    return renderer.replace("shapeshd twin ", "shapeshd ray tracer ")


class Engine(ABC):
    """Renders factors as images; the same factors and options always give the same images."""

    name: str

    @abstractmethod
    def renderer(self) -> str:
        """Return the name and version of the renderer, as a dataset records it.

        Raises:
            RendererError: if it is missing or too old.
        """

    @abstractmethod
    def scene_sha256(self) -> str:
        """Return a digest of the scene; it changes whenever the pixels could."""

    @abstractmethod
    def seconds_per_image(self, size: int) -> float:
        """About how much CPU time an image takes: decides how work is cut, never a pixel."""

    @abstractmethod
    def parallelism(self, size: int, cores: float) -> int:
        """How many processes or threads of the engine keep so many cores busy, >= 1."""

    @abstractmethod
    def warm_up(self) -> None:
        """Do what is done once in a process, so that what follows can be timed."""

    @abstractmethod
    def stream(
        self,
        factors: FloatArray,
        options: RenderOptions,
        work: Path,
        parallel: int,
        home: Path | None = None,
    ) -> Generator[Image, None, None]:
        """Render `factors` and yield the images in order.

        Args:
            factors: float64 (n, 6), inside their ranges.
            options: size and antialiasing.
            work: folder for temporary files; the caller removes it.
            parallel: processes or threads side by side; see `parallelism`.
            home: a folder above `work` that stays; by default its parent.

        Yields:
            n images, uint8 of shape (size, size, 3), sRGB.

        Raises:
            RendererError: if the engine is missing or keeps failing.
            ShapesHDError: if the memory is too small for an image.
        """


class _PovRay(Engine):
    name = "povray"

    def renderer(self) -> str:
        return f"POV-Ray {povray.version()}"

    def scene_sha256(self) -> str:
        return povray.scene_digest()

    def seconds_per_image(self, size: int) -> float:
        return povray.seconds_per_frame(size)

    def parallelism(self, size: int, cores: float) -> int:
        return math.ceil(povray.processes_per_core(size) * cores)

    def warm_up(self) -> None:
        pass

    def stream(
        self,
        factors: FloatArray,
        options: RenderOptions,
        work: Path,
        parallel: int,
        home: Path | None = None,
    ) -> Generator[Image, None, None]:
        return povray.stream_images(factors, options, work, parallel, home)


class _PyTorch(Engine):
    """The ray tracer in PyTorch, on the CPU and in float64.

    How tensors are cut moves its results by some 1e-16, by another arithmetic for the last
    values of a row. That changes a pixel only where a value lies as close to the edge between
    two levels of 8 bits: about once in 10^13 values.
    """

    name = "torch"

    def renderer(self) -> str:
        return f"shapeshd ray tracer {RAYTRACER_VERSION}"

    def scene_sha256(self) -> str:
        # "twin" was the ray tracer's name when the first sets were rendered: digests must stay.
        decisive = {"twin": RAYTRACER_VERSION, "constants": constants.read_constants()}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def seconds_per_image(self, size: int) -> float:
        return 0.0008 + 0.18e-6 * size**2

    def parallelism(self, size: int, cores: float) -> int:
        return max(1, int(cores))

    def warm_up(self) -> None:
        _tracer(RenderOptions(MIN_SIZE), 2)(np.ones((8, 6)))

    def stream(
        self,
        factors: FloatArray,
        options: RenderOptions,
        work: Path,
        parallel: int,
        home: Path | None = None,
    ) -> Generator[Image, None, None]:
        tracer = _tracer(options, parallel)
        step = math.ceil(_CHUNK_SECONDS / self.seconds_per_image(options.size)) * parallel
        for first in range(0, len(factors), step):
            images = tracer(factors[first : first + step])
            yield from images.permute(0, 2, 3, 1).contiguous().numpy()


def _tracer(options: RenderOptions, threads: int) -> RayTracer:
    try:
        import torch

        from shapeshd.raytracer.tracer import RayTracer
    except (ImportError, OSError) as error:  # OSError: one of its libraries
        raise RendererError(
            f"the engine torch needs PyTorch, which cannot be imported: {one_line(error)}"
        ) from None
    batch = max(1, _CACHED_PIXELS // options.size**2)
    return RayTracer(options, dtype=torch.float64, batch=batch, threads=threads)


def is_scene_installed(engine: str, scene_sha256: str) -> bool:
    """Whether the engine called `engine` renders, as installed, the scene of that digest."""
    return engine in _ENGINES and _ENGINES[engine].scene_sha256() == scene_sha256


_ENGINES: dict[str, Engine] = {engine.name: engine for engine in (_PovRay(), _PyTorch())}
ENGINES = tuple(_ENGINES)
"""The names of the engines; the first one is the reference and the default."""


def engine_named(name: str) -> Engine:
    """Return the engine called `name`.

    Raises:
        UsageError: if there is none.
    """
    try:
        return _ENGINES[name]
    except KeyError:
        raise UsageError(f"unknown engine {name!r}: choose {', '.join(ENGINES)}") from None
