"""The PyTorch ray tracer: gives the images that POV-Ray renders, in closed form on tensors.

POV-Ray is the reference, and tests compare the two pixel by pixel: all but a few in ten million
are within 1/255. The ray tracer is many times faster and runs on a GPU, too, so images can be
traced as they are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shapeshd.checks import whole_number
from shapeshd.errors import ShapesHDError, UsageError, one_line
from shapeshd.factors import NAMES, SHAPE, SHAPES, FloatArray, IntArray, check_factors
from shapeshd.scene.constants import SceneConstants, hue_to_srgb, scene_constants
from shapeshd.scene.render_options import RenderOptions
from shapeshd.support.batching import NO_MEMORY, BatchSize, free_memory, in_threads, says_no_memory
from shapeshd.support.device import moved

from .analytic import Window, outline, radiance
from .antialiasing import offsets, supersample
from .solids import SOLIDS, Solid

_SCALE, _ORIENTATION = NAMES.index("scale"), NAMES.index("orientation")
_HUES = ("floor_hue", "wall_hue", "object_hue")
_SHOWN_REASON = 160
_DTYPES = (torch.float32, torch.float64)
_SCALE_STEPS = 8  # a batch's window is that of its largest object, to an eighth
# What tracing holds at its peak for each pixel of a batch, in values of its dtype, as
# measured.
_VALUES_PER_PIXEL = 60
_MEMORY_SHARE = 0.5
_MAX_BATCH = 4096
_RECOMPILE_LIMIT = 64
_MAX_THRESHOLD = 1.0  # POV-Ray takes a larger one for this
# Of a first batch: what a CPU's caches hold, and what keeps a GPU busy.
_CPU_PIXELS, _GPU_PIXELS = 2**17, 2**24
_batch_sizes: dict[Any, BatchSize] = {}

Trace = Callable[[Tensor, Tensor, Tensor, Window | None], Tensor]


def trace_images(
    factors: npt.ArrayLike | Tensor,
    size: int = 256,
    *,
    antialias: float | None = 0.3,
    antialias_depth: int = 3,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    as_float: bool = False,
    batch: int | None = None,
) -> Tensor:
    """Trace images as POV-Ray renders them.

    Args:
        factors: (n, 6) numbers, columns as in `FACTORS`, inside their ranges.
        size: width and height in pixels.
        antialias: threshold of POV-Ray's antialiasing, or None for none; see `RenderOptions`.
        antialias_depth: rays along a side of a supersampled pixel.
        device: where to compute, and where the images are.
        dtype: float32 or float64, with which to compute.
        as_float: return values before they are rounded to 1/255.
        batch: images traced at a time, at most; found by trying if None.

    Returns:
        (n, 3, size, size), sRGB: uint8, or `dtype` in [0, 1] if `as_float`.

    Raises:
        UsageError: if a factor or an option is impossible.
        ShapesHDError: if the images do not fit into memory.
    """
    tracer = RayTracer(
        RenderOptions(size, antialias, antialias_depth), device=device, dtype=dtype, batch=batch
    )
    return tracer(factors, as_float=as_float)


class RayTracer:
    """Traces images of one size; keeps what they have in common. See `trace_images`.

    Args:
        options: size and antialiasing.
        device: where to compute, and where the images are.
        dtype: float32 or float64, with which to compute. The images differ in a few pixels
            in a million.
        batch: images traced at a time, at most; found by trying if None. It never changes
            an image.
        threads: on a CPU, batches traced side by side; by default as many threads as PyTorch
            may use.
        compile: let ``torch.compile`` fuse the arithmetic; needs a C++ compiler or, on a GPU,
            Triton, and half a minute at the start.

    Raises:
        UsageError: if an argument is impossible.
    """

    def __init__(
        self,
        options: RenderOptions | None = None,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        batch: int | None = None,
        threads: int | None = None,
        compile: bool = False,
    ) -> None:
        self.options = options or RenderOptions()
        self.device = _check_device(device)
        if dtype not in _DTYPES:
            raise UsageError(f"dtype must be torch.float32 or torch.float64, not {dtype}")
        batch = None if batch is None else whole_number("batch", batch, 1)
        threads = (
            torch.get_num_threads() if threads is None else whole_number("threads", threads, 1)
        )
        self.dtype = dtype
        self._threads = threads if self.device.type == "cpu" else 1
        self._scene = scene_constants()
        self._windows: dict[tuple[int, int], Window] = {}
        self._compile = compile
        self._traces = [self._tracing(solid) for solid in SOLIDS]
        size, antialias = self.options.size, self.options.antialias is not None
        # With antialiasing, a row above the image and a column left of it.
        steps = torch.arange(-1 if antialias else 0, size, dtype=torch.float64, device="cpu") + 0.5
        unit = 2 * self._scene.tangent / size
        self._line = ((steps - size / 2) * unit).to(self.device, dtype)
        self._offsets = (offsets(self.options.antialias_depth) * unit).to(self.device, dtype)
        self._batch = self._batch_size(batch)

    @property
    def batch(self) -> int:
        """Images traced at a time, as far as is known by now."""
        return self._batch.value

    def __call__(self, factors: npt.ArrayLike | Tensor, *, as_float: bool = False) -> Tensor:
        """Trace images.

        Args:
            factors: (n, 6) numbers, columns as in `FACTORS`, inside their ranges.
            as_float: return values before they are rounded to 1/255.

        Returns:
            (n, 3, size, size), sRGB: uint8, or `dtype` in [0, 1] if `as_float`.

        Raises:
            UsageError: if a factor is outside its range.
            ShapesHDError: if the images do not fit into memory.
        """
        if isinstance(factors, Tensor):
            factors = _to_numpy(factors)
        checked = check_factors(factors)
        images = self._allocate(len(checked), as_float)
        batches = self._cut(checked)
        if self.device.type == "cpu":
            in_threads(lambda rows: self._attempt(images, checked, rows), batches, self._threads)
        else:
            for rows in batches:
                self._attempt(images, checked, rows)
        return images

    def _cut(self, factors: FloatArray) -> Iterator[IntArray]:
        """Yield the rows of each batch: images of one shape, and of about one scale."""
        order = np.lexsort((factors[:, _SCALE], factors[:, SHAPE]))
        ends = np.searchsorted(factors[order, SHAPE], np.arange(len(SHAPES)), side="right")
        start = 0
        for end in ends:
            # A share for every thread, if there are few images.
            share = max(1, -(-(end - start) // self._threads))
            while start < end:
                count = min(end - start, self._batch.value, share)
                yield order[start : start + count]
                start += count

    def _allocate(self, count: int, as_float: bool) -> Tensor:
        size = self.options.size
        dtype = self.dtype if as_float else torch.uint8
        try:
            # The caller may be in inference mode, but other threads are not.
            with torch.inference_mode(False):
                return torch.empty((count, 3, size, size), dtype=dtype, device=self.device)
        except NO_MEMORY as error:
            if not says_no_memory(error):
                raise
            gigabytes = count * 3 * size**2 * dtype.itemsize / 1e9
            raise ShapesHDError(
                f"{count:,} images of {size} x {size} take {gigabytes:.1f} GB, more than there "
                f"is on {self.device}: trace fewer at a time"
            ) from None

    def _attempt(self, images: Tensor, factors: FloatArray, rows: IntArray) -> None:
        """Trace the images `rows` into their places, in halves if the memory is too small."""
        try:
            with (
                torch.inference_mode(False),
                torch.no_grad(),
                self._batch.timed(len(rows), self.device),
            ):
                traced = self._trace(factors[rows])
                images[moved(torch.from_numpy(rows), self.device)] = (
                    traced if images.is_floating_point() else _rounded(traced)
                )
            return
        except NO_MEMORY as error:
            if not says_no_memory(error):
                raise
            if not self._batch.shrink(len(rows)):
                raise ShapesHDError(
                    f"{self.device} has too little free memory to trace even one image of "
                    f"{self.options.size} x {self.options.size}"
                ) from None
        middle = len(rows) // 2
        self._attempt(images, factors, rows[:middle])
        self._attempt(images, factors, rows[middle:])

    def _trace(self, factors: FloatArray) -> Tensor:
        """Trace images of one shape: floating-point (n, 3, size, size), sRGB in [0, 1]."""
        shape = int(factors[0, SHAPE])
        trace = self._traces[shape]
        table = moved(_table(self._scene, factors), self.device, self.dtype)
        # A compiler that fuses everything gains more than a window would save.
        window = None if self._compile else self._window(shape, factors[:, _SCALE].max())
        linear = trace(table[:, :, None, None], self._line, -self._line[:, None], window)
        threshold = self.options.antialias
        if threshold is not None:

            def rays(image: Tensor, row: Tensor, column: Tensor) -> Tensor:
                u = self._line.index_select(0, column) + self._offsets[:, None]
                v = -(self._line.index_select(0, row) + self._offsets[:, None, None])
                of = table.index_select(1, image)[:, None, None]
                return trace(of, u, v, None)

            supersample(linear, min(threshold, _MAX_THRESHOLD), rays)
            linear = linear[..., 1:, 1:]
        return _encode(linear).transpose(0, 1)

    def _tracing(self, solid: Solid) -> Trace:
        trace = partial(radiance, self._scene, solid)
        if not self._compile:
            return trace
        compiled = torch.compile(trace)

        def call(*rays: Any) -> Tensor:
            # One function for four objects, for pixels and their samples.
            with torch._dynamo.config.patch({_recompile_limit_name(): _RECOMPILE_LIMIT}):
                return compiled(*rays)

        return call

    def _window(self, shape: int, scale: float) -> Window:
        """Return the rows and columns in which an object up to this scale can change a pixel."""
        steps = math.ceil(scale * _SCALE_STEPS)
        if (shape, steps) not in self._windows:
            left, right, bottom, top = outline(self._scene, shape, steps / _SCALE_STEPS)
            line = self._line.double().cpu().numpy()  # grows to the right; rows go down
            self._windows[shape, steps] = (
                _interval(line, -top, -bottom),
                _interval(line, left, right),
            )
        return self._windows[shape, steps]

    def _batch_size(self, batch: int | None) -> BatchSize:
        pixels = len(self._line) ** 2
        image = _VALUES_PER_PIXEL * self.dtype.itemsize * pixels
        fitting = max(1, int(_MEMORY_SHARE * free_memory(self.device)) // (self._threads * image))
        if batch is not None:
            return BatchSize(batch, fitting, fixed=True)
        # What was learnt holds for every tracer of its kind in this process.
        kind = (self.options, self.device, self.dtype, self._threads, self._compile)
        start = max(1, (_CPU_PIXELS if self.device.type == "cpu" else _GPU_PIXELS) // pixels)
        if kind not in _batch_sizes:
            _batch_sizes[kind] = BatchSize(start, min(fitting, _MAX_BATCH))
        return _batch_sizes[kind]


def _recompile_limit_name() -> str:
    """Name the option; before PyTorch 2.7 it was another one."""
    name = "recompile_limit"
    return name if hasattr(torch._dynamo.config, name) else "cache_size_limit"


def _check_device(device: str | torch.device) -> torch.device:
    """Return a device that exists, or raise `UsageError`."""
    try:
        checked = torch.device(device)
        torch.zeros(1, device=checked).cpu()  # a meta device has nothing to copy
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        reason = one_line(error)[:_SHOWN_REASON]  # PyTorch can list all of its dispatcher
        raise UsageError(f"device {device!r} cannot be used: {reason}") from None
    return checked


def _to_numpy(factors: Tensor) -> npt.NDArray[Any]:
    try:
        factors = factors.detach().cpu()
        if factors.is_floating_point():
            factors = factors.double()  # NumPy knows no bfloat16
        found: npt.NDArray[Any] = factors.numpy()
    except (RuntimeError, TypeError) as error:  # sparse, meta, quantized
        raise UsageError(f"factors cannot be read: {one_line(error)[:_SHOWN_REASON]}") from None
    return found


def _interval(line: FloatArray, low: float, high: float) -> slice:
    """Return the places of `line`, which ascends, from `low` to `high`, and one beside each."""
    first, stop = np.searchsorted(line, (low, high))
    return slice(max(0, int(first) - 1), min(len(line), int(stop) + 1))


def _table(scene: SceneConstants, factors: FloatArray) -> Tensor:
    """Prepare a `View` of n images: float64 (15, n)."""
    angles = np.radians(factors[:, _ORIENTATION])
    sky = np.broadcast_to(scene.sky, (len(factors), 3))
    colours = [*(hue_to_srgb(factors[:, NAMES.index(name)]) for name in _HUES), sky]
    lines = [np.sin(angles), np.cos(angles), factors[:, _SCALE]]
    return torch.from_numpy(
        np.stack([*lines, *(part for colour in colours for part in _decode(colour).T)])
    )


def _decode(srgb: FloatArray) -> FloatArray:
    """sRGB in [0, 1] -> linear RGB (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _encode(linear: Tensor) -> Tensor:
    """Linear RGB in [0, 1] -> sRGB (IEC 61966-2-1)."""
    power = linear.pow(1 / 2.4).mul_(1.055).sub_(0.055)
    return torch.where(linear <= 0.0031308, linear * 12.92, power).clamp_(0, 1)


def _rounded(srgb: Tensor) -> Tensor:
    return (srgb * 255).add_(0.5).to(torch.uint8)
