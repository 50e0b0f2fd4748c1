"""Images of given factors, by POV-Ray or by the ray tracer: real images, and re-renders."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shapeshd.engines.engine import ENGINES, engine_named
from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray
from shapeshd.raytracer.tracer import RayTracer
from shapeshd.scene.render_options import RenderOptions
from shapeshd.support.device import moved
from shapeshd.support.distributed import core_count

DEFAULT_ENGINE = "torch"


class Renderer:
    """Renders factors at one size.

    Args:
        engine: "torch", the ray tracer, which agrees with POV-Ray up to pixels at edges; or
            "povray".
        side: width and height in pixels.
        device: where the images are wanted; the ray tracer computes there.

    Attributes:
        name: such as "shapeshd ray tracer 1" or "POV-Ray 3.7".
        digest: of the scene, as the engine renders it.

    Raises:
        UsageError: if there is no such engine, or the size is impossible.
        RendererError: if POV-Ray is missing.
    """

    def __init__(self, engine: str, side: int, device: torch.device) -> None:
        if engine not in ENGINES:
            raise UsageError(f"unknown engine {engine!r}: choose {', '.join(ENGINES)}")
        self._engine = engine_named(engine)
        self._options, self._device = RenderOptions(side), device
        self.name = self._engine.renderer()
        self.digest = self._engine.scene_sha256()
        self._tracer = RayTracer(self._options, device=device) if engine == "torch" else None

    def __call__(self, factors: FloatArray) -> Tensor:
        """Return the images of factors (n, 6): uint8 (n, 3, side, side) on the device."""
        if self._tracer is not None:
            return self._tracer(factors)
        side = self._options.size
        images = np.empty((len(factors), side, side, 3), np.uint8)
        parallel = self._engine.parallelism(side, core_count())
        with tempfile.TemporaryDirectory(prefix="shapeshd-") as work:
            stream = self._engine.stream(factors, self._options, Path(work), parallel)
            for number, image in enumerate(stream):
                images[number] = image
        return moved(torch.from_numpy(images).permute(0, 3, 1, 2), self._device)
