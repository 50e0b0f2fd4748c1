"""Images that exist as such: datasets of shapeshd, and image files in folders and archives."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.dataset.manifest import provenance_of
from shapeshd.dataset.render_spec import parse_rendered
from shapeshd.dataset.shapes_hd import ShapesHD, open_dataset
from shapeshd.dataset.shards import Provenance
from shapeshd.distribution import Distribution
from shapeshd.errors import UsageError
from shapeshd.factors import IntArray
from shapeshd.images.folder import FolderImages
from shapeshd.images.names import expand_shards
from shapeshd.images.numbered import NumberedImages
from shapeshd.images.tar_file import TarImages
from shapeshd.images.zip_file import ZipImages
from shapeshd.support.distributed import core_count


class DatasetImages(NumberedImages):
    """The images of a dataset, in its order; its labels are not looked at.

    Args:
        dataset: without a transform.
        name: what the user called it.
        distribution: from which its factors were drawn; None if it is not known.
        provenance: how its images were rendered; None if it is not known, or now.
    """

    kind = "dataset"

    def __init__(
        self,
        dataset: ShapesHD,
        name: str,
        distribution: Distribution | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        super().__init__(name, len(dataset))
        self.distribution, self.provenance = distribution, provenance
        self.ordered = parse_rendered(name) is None  # rendered images are drawn by their numbers
        self._dataset = dataset
        self._pool: ThreadPoolExecutor | None = None

    def _read(self, start: int, stop: int) -> Tensor:
        block = self._dataset.block
        if block > 1:  # made as they are read: a block at a time, all cores in each
            return self._rendered(start, stop, block)
        return self._stored(range(start, stop))

    @property
    def costly(self) -> bool:  # type: ignore[override]
        """Whether images take long to read in another order than theirs."""
        return self._dataset.packed

    def images_at(self, numbers: IntArray) -> Tensor:
        """Return the images `numbers`: uint8 (n, 3, H, W); errors as of `images`."""
        return self._stored(numbers.tolist())

    def _stored(self, numbers: Sequence[int]) -> Tensor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(core_count(), thread_name_prefix="read")
        images = np.empty((len(numbers), *self._pixel_shape), dtype=np.uint8)

        def place(row: int) -> None:
            images[row] = self._dataset.pixels(numbers[row])

        for _ in self._pool.map(place, range(len(numbers))):
            pass
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def _rendered(self, start: int, stop: int, block: int) -> Tensor:
        images: Tensor | None = None
        for first in range(start, stop, block):
            last = min(first + block, stop)
            part = torch.stack(
                [image for image, _ in self._dataset.__getitems__(range(first, last))]
            )
            if images is None:
                images = part.new_empty((stop - start, *part.shape[1:]))
            images[first - start : last - start] = part
        assert images is not None
        return images

    @property
    def _pixel_shape(self) -> tuple[int, int, int]:
        channels, height, width = self._dataset.image_shape
        return height, width, channels

    def describe(self) -> dict[str, Any]:
        """Return which images of the dataset these are, ready for JSON."""
        spans = self._dataset.spans
        spec = parse_rendered(self.name)
        return {
            **({} if spec is None else {"seed": spec.seed, "device": spec.device}),
            **(
                {"distribution": str(self.distribution)}
                if self.distribution is not None and not self.distribution.uniform
                else {}
            ),
            "first_index": spans[0].start,
            "last_index": spans[-1].stop - 1,
            "dtype": "uint8",
            "range": "0 to 255",
            "range_from": "type",
        }

    def close(self) -> None:
        """End the threads that read."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def open_own_dataset(request: OpenRequest) -> DatasetImages:
    """Open a folder of shards, one shard, 3dshapes.h5, or ``render:SEED:COUNT``.

    Raises:
        UsageError: if there is no such dataset, it is incomplete, or an option does not fit.
        DamagedShardError: if a shard is missing or damaged.
    """
    rendered = parse_rendered(request.name) is not None
    place = request.name if rendered else request.path
    dataset, provenance = open_dataset(place), None if rendered else provenance_of(Path(place))
    distribution = Distribution.from_text("") if rendered else _distribution_of(provenance)
    return DatasetImages(dataset, request.name, distribution, provenance)


def _distribution_of(provenance: Provenance | None) -> Distribution | None:
    """Return the distribution that a dataset records; None where it records none."""
    if provenance is None or provenance.sampling not in ("uniform", "distribution"):
        return None
    return Distribution.from_text(provenance.distribution)


def open_folder(request: OpenRequest) -> FolderImages:
    """Open a folder of images; `UsageError` if it holds none."""
    path = request.path
    if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        raise UsageError(
            f"{request.name}: is one network of a diffusers pipeline, without its scheduler: give "
            "the folder that holds model_index.json"
        )
    return FolderImages(request.path, request.name)


def open_zip(request: OpenRequest) -> ZipImages:
    """Open a zip file of images; `UsageError` if it is none."""
    return ZipImages(request.path, request.name)


def open_tar(request: OpenRequest) -> TarImages:
    """Open a tar file of images, compressed by gzip or not, or several by one name, as one.

    Raises:
        UsageError: if it is none; or several images of a sample leave it open which is meant.
    """
    path = request.path
    paths = [path] if path.is_file() else expand_shards(request.text) or [path]
    return TarImages(paths, request.name, request.options.key)
