"""Tensors by name, each taken once, so that what is missing or left over is noticed."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from shapeshd.benchmark.sources.stylegan.layout import LayoutError

_LONGEST = 80


class NamedTensors:
    """The tensors of a file, to be taken one after the other.

    Args:
        tensors: by name.
        what: whose they should be, such as "a DCGAN".
    """

    def __init__(self, tensors: Mapping[str, Tensor], what: str) -> None:
        self._left = dict(tensors)
        self._what = what

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, *shape: int | None) -> Tensor:
        """Return the tensor `name` in float32, and count it as taken.

        Args:
            name: of it.
            shape: that it must have; None leaves an axis open. Without any, all is open.

        Raises:
            LayoutError: if there is none, it holds no floats, or has another shape.
        """
        if name not in self._left:
            raise LayoutError(f"lacks the tensor {name}, which {self._what} has")
        tensor = self._left.pop(name)
        if not tensor.is_floating_point():
            raise LayoutError(f"holds no floats in the tensor {name}")
        found = tuple(tensor.shape)
        if 0 in found:
            raise LayoutError(f"holds nothing in the tensor {name}: its shape is {found}")
        fits = len(found) == len(shape) and all(
            b is None or a == b for a, b in zip(found, shape, strict=True)
        )
        if shape and not fits:
            wanted = ", ".join("any" if axis is None else str(axis) for axis in shape)
            raise LayoutError(f"has a tensor {name} of the shape {found}, not ({wanted})")
        return tensor.float()

    def drop(self, name: str) -> None:
        """Count the tensor `name` as taken, if it is there."""
        self._left.pop(name, None)

    def require_empty(self) -> None:
        """Raise `LayoutError` if a tensor is left over."""
        if self._left:
            name = min(self._left)
            shown = name if len(name) <= _LONGEST else f"{name[:_LONGEST]} ..."
            raise LayoutError(f"holds the tensor {shown!a}, which {self._what} has not")
