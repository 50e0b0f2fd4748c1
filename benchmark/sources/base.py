"""What every source is to the score: images by number, and a description."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Any, Protocol

from torch import Tensor


class Source(Protocol):
    """Images that are numbered, so that a run can resume, or be shared out, and see the same.

    A source is a context manager: leaving it ends its processes and closes its files.

    Attributes:
        name: what the user called it.
        kind: such as "folder" or "torchscript".
        count: the images that there are; None if as many as are asked for.
    """

    name: str
    kind: str
    count: int | None

    def images(self, start: int, stop: int) -> Tensor:
        """Return the images `start` .. `stop` - 1: uint8 (n, 3, H, W), sRGB, on any device.

        Image i depends on the source, its seed and i alone (up to a network's rounding, which
        may depend on the size of its batch).

        Raises:
            ShapesHDError: in one line, if they cannot be had.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a result must say of it, ready for JSON: how its images were read."""
        ...

    def __enter__(self) -> Source: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def conversions(source: Source, start: int, stop: int) -> Counter[str]:
    """Count what was done to the images `start` .. `stop` - 1 to make 8-bit sRGB of them, by kind.

    Sources need not know: then nothing was done.
    """
    count = getattr(source, "conversions", None)
    return Counter() if count is None else count(range(start, stop))
