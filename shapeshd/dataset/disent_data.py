"""A grid of the factors as ground-truth data of disent, from which its samplers and metrics draw.

See Michlo, "Disent: a modular disentangled representation learning framework for PyTorch", 2021.
The interface is `disent.dataset.data.GroundTruthData`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from shapeshd.errors import MissingPackageError, UsageError
from shapeshd.factors import NAMES, FloatArray
from shapeshd.raytracer.tracer import RayTracer
from shapeshd.scene.render_options import Image, RenderOptions
from shapeshd.scene.sampling import GRID_STEPS, GridSampling

from .shapes_hd import ShapesHD

try:
    from disent.dataset.data import GroundTruthData
except ImportError:
    raise MissingPackageError.of("disent", "disent", "ShapesHDData") from None


class ShapesHDData(GroundTruthData):
    """Images of a grid of factors, traced as they are asked for; all of disent's own methods work.

    So ``sample_factors`` draws positions in the grid, ``sample_missing_factors`` and
    ``resample_other_factors`` draw all but some, ``sample_random_factor_traversal`` goes along
    one, and ``pos_to_idx`` tells an image's index. An image is uint8 (H, W, 3), as disent's
    ``ToImgTensorF32`` takes it; a ``DataLoader``'s batch is traced at once.

    Args:
        size: width and height in pixels, 8 to 2048.
        steps: values of each factor, in the order of `FACTORS`; by default those of 3dshapes,
            10 x 10 x 10 x 8 x 4 x 15 = 480,000 images. Hues take equal steps around the circle,
            scale and orientation go from end to end of their ranges; shapes are always 4.
        device: where images are traced.
        transform: called with each image; what it returns takes the image's place.
        images: a dataset that holds the grid's images in its order, such as one of
            ``shapeshd render --sampling grid``, to be read in place of tracing; its size counts.

    Raises:
        UsageError: if an argument is impossible, or `images` are not of the grid.
    """

    _process: int | None = None

    def __init__(
        self,
        size: int = 64,
        steps: Sequence[int] = GRID_STEPS,
        *,
        device: str | torch.device = "cpu",
        transform: Callable[[Image], Any] | None = None,
        images: ShapesHD | None = None,
    ) -> None:
        self._grid = GridSampling(steps)
        self._images = images
        if images is None:
            self._options, self._device = RenderOptions(size), device
            self._make_tracer()  # now: a device that cannot be used is told at once
            self._shape = (size, size, 3)
        else:
            channels, height, width = images.image_shape
            self._shape = (height, width, channels)
            _check_grid(images, self._grid)
        super().__init__(transform=transform)

    @property
    def name(self) -> str:
        """The name of the data in disent."""
        return "shapeshd"

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The names of the factors, as in `FACTORS`."""
        return NAMES

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """How many values each factor has."""
        return self._grid.steps

    @property
    def img_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self._shape

    def factors(self, positions: npt.ArrayLike) -> FloatArray:
        """Return the factors at positions in the grid.

        Args:
            positions: whole numbers (..., 6), such as ``sample_factors`` gives.

        Returns:
            float64 of the same shape, in the units of `FACTORS`.
        """
        places = np.asarray(positions)
        found = self._grid.factors_at(np.ravel(self.pos_to_idx(places)))
        return found.reshape(places.shape)

    def observations(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Image:
        """Return several images at once, uint8 (n, H, W, 3), without the transform.

        Raises:
            IndexError: if there is no such image.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"the indices of {self.name} are 0 to {len(self) - 1:,}")
        if self._images is not None:
            return np.stack(self._images.read(wanted.tolist())[0])
        if self._process != os.getpid():  # a worker of a loader: a tracer has threads of its own
            self._make_tracer()
        traced = self._tracer(self._grid.factors_at(wanted)).permute(0, 2, 3, 1)
        found: Image = traced.contiguous().cpu().numpy()
        return found

    def _make_tracer(self) -> None:
        self._tracer = RayTracer(self._options, device=self._device)
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if state.pop("_tracer", None) is not None:
            state["_process"] = None
        return state

    def _get_observation(self, idx: int) -> Image:
        image: Image = self.observations([int(idx)])[0]
        return image

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several items, traced at once: a ``DataLoader`` asks for its batches so."""
        found = list(self.observations(indices))
        return found if self._transform is None else [self._transform(image) for image in found]


def _check_grid(images: ShapesHD, grid: GridSampling) -> None:
    if len(images) != grid.length or not np.allclose(
        images.labels, grid.factors(0, grid.length), rtol=0, atol=1e-9
    ):
        raise UsageError(
            f"{images.name}: does not hold the {grid.length:,} images of the grid in order; render "
            "them with --sampling grid, or leave images out"
        )
