"""From what a generator or a file gives to uint8 images: layout, range, rounding.

The rules for the range of floats, on the lowest and highest value of the first batch:

==========================  ==========================================================
lowest, highest             taken as
==========================  ==========================================================
highest above 16            0 to 255
lowest below -0.05          [-1, 1], where the highest is at most 4
-0.05 to 0.25, 0.5 to 1.25  [0, 1]
anything else               ambiguous: refused, ``--range`` settles it
==========================  ==========================================================

Batches of [-1, 1] with nothing darker than a mid-grey, or of 0 to 255 with nothing brighter than
1, would be misread by the third line alone, and then only if *every* value of the batch is so; a
later batch that shows it is refused. Negative values leave one range only; that it was taken is
noted where they are above -0.5, as those of an untrained generator are. What is left to a guess,
such as all values equal to 0, is never guessed.

A generator without a bound overshoots its range a little. Such values are clamped, as they are in
a saved image, and their share is reported. A batch is refused if more than 5% of its values lie
further outside than a tenth of the range.

Rounding is to the nearest of the 256 levels, ties upwards: floor(255 x + 0.5) of x in [0, 1] and
floor(127.5 x + 128) of x in [-1, 1], then clamped. It is what torchvision's ``save_image`` and
NVlabs' generators write to a PNG file.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapeshd.errors import ShapesHDError, UsageError, named
from shapeshd.images.names import MAX_PIXELS
from shapeshd.support.progress import warn

from .options import Layout, Range, SourceOptions

_CLEARLY_BYTES = 16.0
_CLEARLY_SYMMETRIC = -0.5
_HIGHEST_SYMMETRIC = 4.0
_UNIT_LOW = (-0.05, 0.25)
_UNIT_HIGH = (0.5, 1.25)
_OVERSHOOT = 0.1  # of the range's width
_MOST_OVERSHOOTING = 0.05  # of the values of a batch

# Scale and offset to 0 .. 255, with the half that makes the floor a rounding.
_TO_LEVELS: dict[str, tuple[float, float]] = {
    "uint8": (1.0, 0.5),
    "unit": (255.0, 0.5),
    "symmetric": (127.5, 128.0),
}
_BOUNDS: dict[str, tuple[float, float]] = {
    "uint8": (0.0, 255.0),
    "unit": (0.0, 1.0),
    "symmetric": (-1.0, 1.0),
}
_SHOWN: dict[str, str] = {"uint8": "0 to 255", "unit": "[0, 1]", "symmetric": "[-1, 1]"}
_ROUNDING: dict[str, str] = {
    "uint8": "floor(x + 0.5), clamped to 0..255",
    "unit": "floor(255 x + 0.5), clamped to 0..255",
    "symmetric": "floor(127.5 x + 128), clamped to 0..255",
}


class ImageFormat:
    """Learns layout and range from the first batch, unless told, and converts every batch.

    What is learned depends on the first batch; show it the same one in every process, by `learn`
    or as the first call, and all of them agree.

    Args:
        options: of which `range` and `layout` are used.
        name: what the user called the source, for messages.
    """

    def __init__(self, options: SourceOptions | None = None, *, name: str = "source") -> None:
        self._name = name
        self._told_range: Range = "auto" if options is None else options.range
        self._told_layout: Layout = "auto" if options is None else options.layout
        self._range: Range | None = None
        self._layout: Layout | None = None
        self._family: str | None = None  # of the values' type: uint8, integer or float
        self._dtype = ""
        self._size: tuple[int, int] | None = None
        self._lowest = float("inf")
        self._highest = float("-inf")
        self._values = 0
        self._clamped = 0

    def __call__(self, batch: Tensor | NDArray[Any]) -> Tensor:
        """Return the images of `batch`: uint8 (n, 3, H, W), sRGB, on its device.

        Args:
            batch: (n, 3, H, W) or (n, H, W, 3); uint8, other integers of 0 to 255, or floats.

        Raises:
            UsageError: if the layout or the range is ambiguous, or `batch` holds no RGB images.
            ShapesHDError: if values are not finite or far outside of the range, or the batch
                is of another form than those before.
        """
        tensor, low, high = self._examined(batch)
        if tensor.dtype == torch.uint8:
            return tensor
        self._values += tensor.numel()
        self._lowest, self._highest = min(self._lowest, low), max(self._highest, high)
        if not tensor.is_floating_point():
            return tensor.to(torch.uint8)
        assert self._range is not None
        self._check_range(tensor, low, high, self._range)
        return self._quantised(tensor, low, high, self._range)

    def batch(self, number: int, make: Callable[[int], Tensor | NDArray[Any]]) -> Tensor:
        """Return batch `number` of those that `make` gives, converted as `__call__` does.

        Layout and range are learned from batch 0, whichever comes first, so that all processes of
        all runs agree.
        """
        if number and self._range is None and "auto" in (self._told_range, self._told_layout):
            self.learn(make(0))
        return self(make(number))

    def aside(self) -> ImageFormat:
        """Return a copy that converts as this one does, and adds nothing to what is described."""
        return copy(self)

    def learn(self, batch: Tensor | NDArray[Any]) -> None:
        """Learn layout and range from `batch` without converting it; see `__call__`."""
        tensor, low, high = self._examined(batch)
        if tensor.is_floating_point():
            assert self._range is not None
            self._check_range(tensor, low, high, self._range)

    def describe(self) -> dict[str, Any]:
        """Return what was learned and seen so far, ready for JSON; empty before any batch."""
        if self._range is None or self._size is None:
            return {}
        said: dict[str, Any] = {
            "dtype": self._dtype,
            "layout": self._layout,
            "layout_from": "inferred" if self._told_layout == "auto" else "stated",
            "range": _SHOWN[self._range],
            "range_from": self._range_from(),
        }
        if self._family == "float" and self._values:
            said |= {
                "lowest": self._lowest,
                "highest": self._highest,
                "clamped_share": self._clamped / self._values,
                "rounding": _ROUNDING[self._range],
            }
        return said

    def _range_from(self) -> str:
        if self._family != "float":
            return "type"
        return "inferred" if self._told_range == "auto" else "stated"

    def _examined(self, batch: Tensor | NDArray[Any]) -> tuple[Tensor, float, float]:
        """Return the batch as (n, 3, H, W) and its lowest and highest value.

        For uint8 these are not looked for. What the first batch shows is remembered.
        """
        tensor, dtype = self._as_tensor(batch)
        family = (
            "uint8"
            if tensor.dtype == torch.uint8
            else "float"
            if tensor.is_floating_point()
            else "integer"
        )
        tensor = self._as_nchw(tensor)
        if self._family not in (None, family):
            raise ShapesHDError(
                f"{self._name}: gave images of {self._dtype} and then of {dtype}: one type alone "
                "can be scored"
            )
        low, high = (0.0, 255.0) if family == "uint8" else _extremes(tensor)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ShapesHDError(f"{self._name}: {_count_bad(tensor)}: not an image")
        if family == "integer":
            self._check_integers(dtype, low, high)
        learned = self._range
        if learned is None:
            learned = self._float_range(low, high) if family == "float" else self._byte_range(dtype)
        self._family, self._dtype, self._range = family, dtype, learned
        return tensor, low, high

    def _as_tensor(self, batch: Tensor | NDArray[Any]) -> tuple[Tensor, str]:
        """Return a tensor of uint8, int64 or a float type, and the name of the type it had."""
        if not isinstance(batch, Tensor):
            array = np.asarray(batch)
            dtype = str(array.dtype.newbyteorder("="))
            if array.dtype.kind not in "fiu":
                raise UsageError(f"{self._name}: holds {_what_type(array.dtype.kind, dtype)}")
            if array.dtype != np.uint8 and array.dtype.kind in "iu":
                array = array.astype(np.int64)
            elif array.dtype.kind == "f":
                array = array.astype(np.float64 if array.itemsize > 8 else dtype, copy=False)
            if not array.flags.writeable or any(stride < 0 for stride in array.strides):
                array = array.copy()  # PyTorch takes no others
            return torch.from_numpy(array), dtype
        if batch.layout != torch.strided or batch.is_meta:
            what = "no values (device meta)" if batch.is_meta else "a sparse tensor"
            raise UsageError(f"{self._name}: holds {what}, not images: uint8 or floats are")
        batch = batch.detach()
        dtype = str(batch.dtype).removeprefix("torch.")
        if batch.dtype == torch.uint8:
            return batch, dtype
        if batch.is_floating_point():
            return (batch if batch.element_size() > 1 else batch.float()), dtype
        if batch.dtype == torch.bool or batch.is_complex() or batch.is_quantized:
            kind = "b" if batch.dtype == torch.bool else "c"
            raise UsageError(f"{self._name}: holds {_what_type(kind, dtype)}")
        return batch.to(torch.int64), dtype

    def _as_nchw(self, tensor: Tensor) -> Tensor:
        shape = tuple(tensor.shape)
        if tensor.ndim != 4:
            hint = " (one image? a batch has the number of images first)" * (tensor.ndim == 3)
            raise UsageError(
                f"{self._name}: images have the shape {shape}, not (n, 3, H, W) or "
                f"(n, H, W, 3){hint}"
            )
        if 0 in shape:
            raise UsageError(f"{self._name}: holds no images: its shape is {shape}")
        if self._layout is None:
            self._layout = self._find_layout(shape)
        if shape[1 if self._layout == "nchw" else 3] != 3:
            raise UsageError(f"{self._name}: {_wrong_channels(shape, self._layout)}")
        if self._layout == "nhwc":
            tensor = tensor.permute(0, 3, 1, 2)
        size = (tensor.shape[2], tensor.shape[3])
        if size[0] * size[1] > MAX_PIXELS:
            raise UsageError(
                f"{self._name}: images of {size[1]}x{size[0]} are too large: at most "
                f"{MAX_PIXELS:,} pixels each"
            )
        if self._size is not None and size != self._size:
            raise ShapesHDError(
                f"{self._name}: gave images of {self._size[1]}x{self._size[0]} and then of "
                f"{size[1]}x{size[0]}: one size alone can be scored"
            )
        self._size = size
        return tensor

    def _find_layout(self, shape: tuple[int, ...]) -> Layout:
        if self._told_layout != "auto":
            return self._told_layout
        if shape[1] == 3 and shape[3] == 3:
            raise UsageError(
                f"{self._name}: the shape {shape} could be (n, 3, H, W) or (n, H, W, 3): give "
                f"{named('layout', 'nchw')} or {named('layout', 'nhwc')}"
            )
        if 3 not in (shape[1], shape[3]):
            raise UsageError(f"{self._name}: {_wrong_channels(shape, None)}")
        return "nchw" if shape[1] == 3 else "nhwc"

    def _byte_range(self, dtype: str) -> Range:
        if self._told_range not in ("auto", "uint8"):
            raise UsageError(
                f"{self._name}: holds {dtype}, whose values are 0 to 255: leave out "
                f"{named('range', self._told_range)}"
            )
        return "uint8"

    def _check_integers(self, dtype: str, low: float, high: float) -> None:
        if low < 0 or high > 255:
            raise UsageError(
                f"{self._name}: holds {dtype} from {low:.0f} to {high:.0f}, not 0 to 255: convert "
                "it to uint8"
            )
        if self._range is None and high <= 1 and self._told_range == "auto":
            raise UsageError(
                f"{self._name}: holds {dtype} of 0 and 1 alone, almost black if 255 is white: "
                f"give {named('range', 'uint8')} if it is so"
            )

    def _float_range(self, low: float, high: float) -> Range:
        if self._told_range != "auto":
            return self._told_range
        span = f"values from {low:.4g} to {high:.4g}"
        if high > _CLEARLY_BYTES:
            return "uint8"
        if low < _UNIT_LOW[0]:
            if high <= _HIGHEST_SYMMETRIC:
                if low >= _CLEARLY_SYMMETRIC:
                    warn(
                        f"{self._name}: {span}: taken as [-1, 1], the only range with negative "
                        f"ones; {named('range')} says otherwise"
                    )
                return "symmetric"
            raise UsageError(
                f"{self._name}: {span} fit no range: [0, 1], [-1, 1] or 0 to 255; scale them, "
                f"or give {named('range')}"
            )
        if _UNIT_LOW[0] <= low <= _UNIT_LOW[1] and _UNIT_HIGH[0] <= high <= _UNIT_HIGH[1]:
            return "unit"
        raise UsageError(
            f"{self._name}: {span} do not tell their range: give "
            f"{named('range')}: unit for [0, 1], "
            "symmetric for [-1, 1] or uint8 for 0 to 255"
        )

    def _check_range(self, tensor: Tensor, low: float, high: float, range: Range) -> None:
        """Refuse a batch of floats that cannot be of this range."""
        told = self._told_range != "auto"
        expected = (
            f"the stated range {_SHOWN[range]}"
            if told
            else (f"the range {_SHOWN[range]} of the first batch")
        )
        misfit = f"{self._name}: values from {low:.4g} to {high:.4g} do not fit {expected}"
        advice = f"{'check' if told else 'give'} {named('range')}"
        if range == "uint8" and 0 < high <= 1:
            raise ShapesHDError(f"{misfit}, they would be black: {advice}")
        bottom, top = _BOUNDS[range]
        margin = _OVERSHOOT * (top - bottom)
        if low >= bottom - margin and high <= top + margin:
            return
        outside = ((tensor < bottom - margin) | (tensor > top + margin)).sum().item()
        share = outside / tensor.numel()
        if share > _MOST_OVERSHOOTING:
            raise ShapesHDError(f"{misfit}, {share:.0%} of them lie far outside: {advice}")

    def _quantised(self, tensor: Tensor, low: float, high: float, range: Range) -> Tensor:
        scale, offset = _TO_LEVELS[range]
        precise = tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32)
        levels = precise * scale + offset
        bottom, top = _BOUNDS[range]
        if low < bottom or high > top:  # counted from half a level on: less is only rounded
            self._clamped += int(((levels < 0) | (levels >= 256)).sum().item())
        return levels.clamp_(0, 255).to(torch.uint8)


def _extremes(tensor: Tensor) -> tuple[float, float]:
    """Return the lowest and the highest value; NaN if there is one."""
    low, high = torch.aminmax(tensor)
    values: list[float] = torch.stack([low, high]).tolist()  # one copy from the device
    return float(values[0]), float(values[1])


def _count_bad(tensor: Tensor) -> str:
    nan = int(tensor.isnan().sum().item())
    infinite = int(tensor.isinf().sum().item())
    images = int((~tensor.isfinite()).flatten(1).any(1).sum().item())
    found = [f"{count:,} {what}" for count, what in ((nan, "NaN"), (infinite, "infinite")) if count]
    return f"{' and '.join(found)} values in {images:,} of {len(tensor):,} images"


def _what_type(kind: str, dtype: str) -> str:
    what = {"b": "truth values (bool)", "c": f"complex numbers ({dtype})", "O": "Python objects"}
    return f"{what.get(kind, dtype)}, not images: uint8 or floats are"


def _wrong_channels(shape: tuple[int, ...], layout: Layout | None) -> str:
    expected = {"nchw": "(n, 3, H, W)", "nhwc": "(n, H, W, 3)"}
    form = expected[layout] if layout else " or ".join(expected.values())
    counts = [shape[1], shape[3]] if layout is None else [shape[1 if layout == "nchw" else 3]]
    why = ""
    if 1 in counts:
        why = ": 1 channel, grey; the factors are read from colours"
    elif 4 in counts:
        why = ": 4 channels; remove the alpha channel"
    return f"images have the shape {shape}, not {form}{why}"
