"""The shape in which a network takes its latents: (n, d), or (n, d, 1, 1) as DCGAN's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class ShapedLatents:
    """A network or function that gets its latents in the shape that it takes.

    Where the shape is not known, the first call finds it: (n, d), and (n, d, 1, 1) if that fails,
    since a convolution takes no latents without rows and columns.

    Args:
        network: latents, and labels if there are any -> images.
        shape: of one latent, as the user says; None if that is not known.

    Attributes:
        shape: of one latent; None before the first call, if it was not known.
    """

    def __init__(self, network: Callable[..., Any], shape: tuple[int, ...] | None = None) -> None:
        self.network, self.shape = network, shape

    def __call__(self, latents: Tensor, *labels: Any) -> Any:
        """Return what the network makes of latents (n, d).

        Raises:
            Exception: what the network raises on latents of the first shape that is tried.
        """
        count, dim = latents.shape
        if self.shape is not None:
            return self.network(latents.reshape(count, *self.shape), *labels)
        try:
            images = self.network(latents, *labels)
        except Exception as error:
            try:
                images = self.network(latents.reshape(count, dim, 1, 1), *labels)
            except Exception:
                raise error from None
            self.shape = (dim, 1, 1)
        else:
            self.shape = (dim,)
        return images

    def describe(self) -> dict[str, Any]:
        """Return the shape of a latent, ready for JSON, where it has more than one axis."""
        shape = self.shape
        return {"latent_shape": list(shape)} if shape is not None and len(shape) > 1 else {}
