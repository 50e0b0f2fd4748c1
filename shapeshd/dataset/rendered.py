"""Images that are traced as they are read: a dataset that is not stored."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.factors import FloatArray, uniform_factors, uniform_factors_at
from shapeshd.raytracer.tracer import RayTracer
from shapeshd.scene.render_options import Image, RenderOptions

from .render_spec import RenderSpec

_BLOCK_IMAGES = 256
_BLOCK_PIXELS = 2**22  # 12.6 MB


class RenderedImages:
    """The images of a seed, each traced by the PyTorch ray tracer when it is read.

    Whole batches are traced at once. A process that inherits or unpickles them makes a
    tracer of its own, on first use; threads take turns, as one tracer keeps all cores busy.

    Args:
        spec: which images, their size, and the device.
        antialias: threshold of POV-Ray's antialiasing, or None; see `RenderOptions`.
        antialias_depth: rays along a side of a supersampled pixel.
        dtype: torch.float32 or float64, with which to compute.

    Raises:
        UsageError: if an option is impossible, or the device cannot be used.
    """

    _tracer: RayTracer | None

    def __init__(
        self,
        spec: RenderSpec,
        *,
        antialias: float | None = 0.3,
        antialias_depth: int = 3,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.spec = spec
        self.count = spec.count
        self.first_index = spec.start
        self.image_shape = (spec.size, spec.size, 3)
        self.block = max(1, min(_BLOCK_IMAGES, _BLOCK_PIXELS // spec.size**2))
        self.options = RenderOptions(spec.size, antialias, antialias_depth)
        self._dtype = dtype
        self._begin()
        self._tracer = self._make_tracer()  # now: a device that cannot be used is told at once

    @property
    def labels(self) -> FloatArray:
        """All factors, float64 (n, 6), computed at each call: 48 bytes an image."""
        indices = self.spec.indices
        return uniform_factors(self.spec.seed, indices.start, indices.stop)

    def factors(self, rows: Sequence[int]) -> FloatArray:
        """Return the factors of the images `rows`, 0 to count - 1: float64 (n, 6)."""
        indices = self.first_index + np.asarray(rows, dtype=np.int64)
        return uniform_factors_at(self.spec.seed, indices)

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Trace the images `rows`, 0 to count - 1, in one call of the tracer.

        Returns:
            images, uint8 (n, 3, H, W), and labels, float64 (n, 6), on the device. The
            labels are float32 on ``mps``, which has no float64.

        Raises:
            UsageError: if the device cannot be used in this process.
            ShapesHDError: if the images do not fit into memory.
        """
        factors = self.factors(rows)
        images = self._trace(factors)
        dtype = torch.float32 if images.device.type == "mps" else torch.float64
        return images, torch.from_numpy(factors).to(images.device, dtype)

    def images(self, rows: Sequence[int]) -> list[Image]:
        """Trace the images `rows` as `batch` does: each read-only uint8 (H, W, 3)."""
        traced = self._trace(self.factors(rows)).permute(0, 2, 3, 1)
        pixels: Image = traced.contiguous().cpu().numpy()
        pixels.flags.writeable = False
        return list(pixels)

    def image(self, row: int) -> Image:
        """Trace the image `row`, 0 to count - 1: read-only uint8 (H, W, 3)."""
        return self.images([row])[0]

    def _trace(self, factors: FloatArray) -> Tensor:
        if self._process != os.getpid():
            self._begin()  # with a new lock: a thread of the parent may have held the old one
        with self._lock:
            if self._tracer is None:
                self._tracer = self._make_tracer()
            return self._tracer(factors)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._tracer = None

    def _make_tracer(self) -> RayTracer:
        return RayTracer(self.options, device=self.spec.device, dtype=self._dtype)

    def __getstate__(self) -> dict[str, Any]:
        own = ("_process", "_lock", "_tracer")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()
