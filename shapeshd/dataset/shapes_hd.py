"""The images as a PyTorch dataset: from shards, one HDF5 file, 3dshapes.h5, or made when read."""

from __future__ import annotations

import operator
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, cast, get_args, overload, runtime_checkable

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import TypeVar

from shapeshd.checks import whole_number
from shapeshd.errors import UsageError, named
from shapeshd.factors import FloatArray, IntArray, check_seed
from shapeshd.scene.render_options import Image

from .hdf5_reader import DatasetPart, OpenFiles, find_files
from .render_spec import RenderSpec, parse_rendered
from .rendered import RenderedImages

ImageT = TypeVar("ImageT", default=Tensor)
LabelT = TypeVar("LabelT", default=Tensor)
PilImage = PIL.Image.Image
Decode = Literal["tensor", "pil", "tv_tensor"]


@runtime_checkable
class RenderedPart(Protocol):
    """A `DatasetPart` that makes many images at once; it is then the only one of its dataset."""

    @property
    def block(self) -> int:
        """How many images to ask for at a time where the order is known."""

    def factors(self, rows: Sequence[int]) -> FloatArray:
        """Return the factors of the images `rows`: float64 (n, 6)."""

    def images(self, rows: Sequence[int]) -> list[Image]:
        """Return the images `rows`: each read-only uint8 (H, W, 3)."""

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the images `rows`, uint8 (n, 3, H, W), and their labels, float64 (n, 6)."""


class ShapesHD(Dataset[tuple[ImageT, LabelT]], Generic[ImageT, LabelT]):
    """Images and their factors, read one by one or made as they are read: map-style.

    An item is ``(image, label)``: a uint8 tensor of shape (3, H, W), sRGB, and a float64
    tensor of shape (6,), columns as in `shapeshd.FACTORS`; type checkers know that, and what
    transforms return in their place. As torchvision's decoders do, it
    leaves the channels last in memory if it was read; a batch of a ``DataLoader`` is contiguous.

    Nothing but the labels is held in memory. Workers of a ``DataLoader``, forked or spawned,
    and threads can share it; at most 64 files are open at a time, none of them locked.
    `rendered` makes a dataset that needs no files.

    Args:
        path: a dataset folder, its ``dataset.h5``, one shard, or an HDF5 file with
            ``images`` uint8 (n, H, W, 3) and ``labels`` (n, 6), numbers, as 3dshapes.h5.
        transform: called with each image; what it returns takes the image's place.
        target_transform: the same for the label.
        decode: "tensor"; "pil" for images of Pillow (RGB), as torchvision's own datasets give
            and its first transforms expect; or "tv_tensor" for `torchvision.tv_tensors.Image`, by
            which ``torchvision.transforms.v2`` knows an image among other tensors.
        allow_incomplete: serve the images that exist of a dataset with gaps. Its items are
            then numbered without gaps; `indices` tells which images they are.

    Raises:
        UsageError: if `path` is nothing of that, or an incomplete dataset.
        DamagedShardError: if a shard is missing or damaged, here or when it is first read.
    """

    @overload
    def __init__(
        self: ShapesHD[PilImage, LabelT],
        path: str | os.PathLike[str],
        transform: None = None,
        target_transform: Callable[[Tensor], LabelT] | None = None,
        *,
        decode: Literal["pil"],
        allow_incomplete: bool = False,
    ) -> None: ...

    @overload
    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Callable[[Any], ImageT] | None = None,
        target_transform: Callable[[Tensor], LabelT] | None = None,
        *,
        decode: Decode = "tensor",
        allow_incomplete: bool = False,
    ) -> None: ...

    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Tensor], LabelT] | None = None,
        *,
        decode: Decode = "tensor",
        allow_incomplete: bool = False,
    ) -> None:
        files = find_files(Path(path), OpenFiles(), allow_incomplete=allow_incomplete)
        self._begin(os.fspath(path), files, transform, target_transform, decode)

    def _begin(
        self,
        name: str,
        parts: Sequence[DatasetPart],
        transform: Callable[[Any], ImageT] | None,
        target_transform: Callable[[Tensor], LabelT] | None,
        decode: Decode,
    ) -> None:
        if decode not in get_args(Decode):
            kinds = ", ".join(get_args(Decode))
            raise UsageError(f"{named('decode')} must be one of {kinds}, not {decode!r}")
        self.decode = decode
        self.name = name
        self.transform = transform
        self.target_transform = target_transform
        self._parts = parts
        self._starts = list(accumulate((part.count for part in parts), initial=0))

    @overload
    @classmethod
    def rendered(
        cls,
        seed: int,
        start: int = 0,
        count: int = 500_000,
        size: int = 256,
        *,
        decode: Literal["pil"],
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        antialias: float | None = 0.3,
        antialias_depth: int = 3,
        transform: None = None,
        target_transform: Callable[[Tensor], LabelT] | None = None,
    ) -> ShapesHD[PilImage, LabelT]: ...

    @overload
    @classmethod
    def rendered(
        cls,
        seed: int,
        start: int = 0,
        count: int = 500_000,
        size: int = 256,
        *,
        decode: Decode = "tensor",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        antialias: float | None = 0.3,
        antialias_depth: int = 3,
        transform: Callable[[Any], ImageT] | None = None,
        target_transform: Callable[[Tensor], LabelT] | None = None,
    ) -> ShapesHD[ImageT, LabelT]: ...

    @classmethod
    def rendered(
        cls,
        seed: int,
        start: int = 0,
        count: int = 500_000,
        size: int = 256,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        antialias: float | None = 0.3,
        antialias_depth: int = 3,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Tensor], LabelT] | None = None,
        decode: Decode = "tensor",
    ) -> ShapesHD[Any, LabelT]:
        """Return the images of a seed, traced by the PyTorch ray tracer as they are read.

        Item i is the image `start` + i of the seed, the one that ``shapeshd render`` draws,
        whatever `count` and the batches are. A batch that a ``DataLoader`` asks for is traced
        at once, and its tensors are on `device` from the beginning. On a GPU, workers would
        only stand in each other's way: leave ``num_workers`` at 0. The items of a batch share
        its memory: keep a ``clone()`` of one that shall outlive the others.

        Args:
            seed: in [0, 2^63 - 1].
            start: index of the first image, >= 0.
            count: how many images; even a billion take no memory.
            size: width and height in pixels, 8 to 2048.
            device: where to make the images, and where the items are.
            dtype: torch.float32 or float64, with which to compute; images stay uint8.
            antialias: threshold of POV-Ray's antialiasing, or None; see `RenderOptions`.
            antialias_depth: rays along a side of a supersampled pixel.
            transform: called with each image; what it returns takes the image's place.
            target_transform: the same for the label.
            decode: "tensor", "pil" or "tv_tensor"; see the class.

        Raises:
            UsageError: if an argument is impossible or the device cannot be used.
        """
        spec = RenderSpec(seed, count, size, start, str(device))
        part = RenderedImages(
            spec, antialias=antialias, antialias_depth=antialias_depth, dtype=dtype
        )
        dataset = cls.__new__(cls)
        dataset._begin(str(spec), [part], transform, target_transform, decode)
        return dataset

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> tuple[ImageT, LabelT]:
        """Return image and label `index`; negative ones count from the end.

        Raises:
            IndexError: if there is no such image.
            DamagedShardError: if its file is missing or damaged.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[ImageT, LabelT]]:
        """Return several items in the order asked for, reading each file in its own order."""
        positions = [self._position(index) for index in indices]
        if (part := self._rendered_part) is not None:
            images, labels = part.batch(positions)
            pairs = zip(images.unbind(), labels.unbind(), strict=True)
            return [self._transformed(image, label) for image, label in pairs]
        pixels: dict[int, Image] = {}
        for position in sorted(set(positions)):
            pixels[position] = self.pixels(position)
        return [self._item(position, pixels[position]) for position in positions]

    def pixels(self, index: int) -> Image:
        """Read one image as it is stored: a read-only uint8 array of shape (H, W, 3)."""
        part, row = self._find(self._position(index))
        return part.image(row)

    def read(self, indices: Sequence[int]) -> tuple[list[Image], FloatArray]:
        """Read several images as they are stored, and their labels, to the host's memory.

        Where the order is known, `block` of them at a time are quickest.

        Returns:
            images, each as `pixels` gives it, and labels, float64 (n, 6).
        """
        positions = [self._position(index) for index in indices]
        if (part := self._rendered_part) is not None:
            return part.images(positions), part.factors(positions)
        return [self.pixels(position) for position in positions], self.labels_of(positions)

    def numpy_batches(
        self, size: int, *, seed: int | None = None, drop_last: bool = False
    ) -> Iterator[tuple[Image, FloatArray]]:
        """Go through all images once as NumPy arrays: for JAX, TensorFlow and plain loops.

        No transform is applied, and no worker is started.

        Args:
            size: images in a batch, >= 1; the last one may have fewer.
            seed: draws the order of the images; another one for each epoch. None for the
                dataset's own order.
            drop_last: leave out a last batch that is not full.

        Yields:
            images, uint8 (n, H, W, 3), and labels, float64 (n, 6); both may be written to.

        Raises:
            UsageError: if `size` or `seed` is impossible.
            DamagedShardError: if a file is missing or damaged.
        """
        whole_number(named("size"), size, 1)
        order = np.arange(len(self))
        if seed is not None:
            check_seed(seed)
            np.random.default_rng(seed).shuffle(order)
        return self._batches(order, size, len(order) - (len(order) % size) * drop_last)

    def _batches(self, order: IntArray, size: int, stop: int) -> Iterator[tuple[Image, FloatArray]]:
        for first in range(0, stop, size):
            images, labels = self.read(order[first : first + size].tolist())
            yield np.stack(images), labels

    @property
    def block(self) -> int:
        """How many images are best read at a time: one from files, more if they are made."""
        part = self._rendered_part
        return 1 if part is None else part.block

    @property
    def packed(self) -> bool:
        """Whether many images are compressed together, so that random order takes long to read."""
        return bool(getattr(self._parts[0], "packed", False))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of an image before `transform`: (3, H, W)."""
        height, width, channels = self._parts[0].image_shape
        return channels, height, width

    @cached_property
    def labels(self) -> FloatArray:
        """The factors of all images: a read-only float64 array of shape (n, 6)."""
        labels = np.concatenate([part.labels for part in self._parts])
        labels.flags.writeable = False
        return labels

    def labels_of(self, indices: Sequence[int]) -> FloatArray:
        """Return the factors of some images, float64 (n, 6), without those of all."""
        positions = [self._position(index) for index in indices]
        if (part := self._rendered_part) is not None:
            return part.factors(positions)
        found = [part.labels[row] for part, row in map(self._find, positions)]
        return np.array(found, dtype=np.float64).reshape(len(found), -1)

    @cached_property
    def indices(self) -> IntArray:
        """Each item's index in its dataset, int64 (n,): 0 to n - 1 for a whole one."""
        return np.concatenate([np.arange(span.start, span.stop) for span in self.spans])

    @property
    def spans(self) -> list[range]:
        """What `indices` holds, as intervals in the order of the items."""
        return [range(part.first_index, part.first_index + part.count) for part in self._parts]

    @property
    def rendered_images(self) -> RenderedImages | None:
        """What makes the images when they are read; None if they are read from files."""
        first = self._parts[0]
        return first if isinstance(first, RenderedImages) else None

    @property
    def _rendered_part(self) -> RenderedPart | None:
        first = self._parts[0]
        return first if isinstance(first, RenderedPart) else None

    def _position(self, index: int) -> int:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"image {position} of {len(self)} in {self.name}")
        return position % len(self)

    def _find(self, position: int) -> tuple[DatasetPart, int]:
        """Return the part of an item, and its row there."""
        number = bisect_right(self._starts, position) - 1
        return self._parts[number], position - self._starts[number]

    def _item(self, position: int, pixels: Image) -> tuple[ImageT, LabelT]:
        part, row = self._find(position)
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)  # a copy can be written to
        return self._transformed(image, torch.tensor(part.labels[row]))

    def _transformed(self, image: Tensor, label: Tensor) -> tuple[ImageT, LabelT]:
        # Without a transform, the types are the defaults of theirs: tensors, or Pillow's images.
        given = _DECODED[self.decode](image)
        return (
            cast(ImageT, given) if self.transform is None else self.transform(given),
            cast(LabelT, label) if self.target_transform is None else self.target_transform(label),
        )

    def __getstate__(self) -> dict[str, Any]:
        cached = ("labels", "indices")
        return {name: value for name, value in self.__dict__.items() if name not in cached}

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        return f"ShapesHD({self.name!r}): {len(self):,} images of {shape}"


def _as_pil(image: Tensor) -> PilImage:
    """Return an image, uint8 (3, H, W), as one of Pillow's, with memory of its own."""
    return PIL.Image.fromarray(np.ascontiguousarray(image.cpu().permute(1, 2, 0).numpy()))


def _as_tv_tensor(image: Tensor) -> Tensor:
    from torchvision.tv_tensors import Image as ImageTensor  # for who asks: it loads torchvision

    return ImageTensor(image)


_DECODED: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda image: image,
    "pil": _as_pil,
    "tv_tensor": _as_tv_tensor,
}


def open_dataset(
    dataset: str | os.PathLike[str] | RenderSpec,
    transform: Callable[[Tensor], ImageT] | None = None,
    target_transform: Callable[[Tensor], LabelT] | None = None,
    *,
    allow_incomplete: bool = False,
) -> ShapesHD[ImageT, LabelT]:
    """Open what a command takes as its DATASET.

    Args:
        dataset: the path of a dataset as `ShapesHD` takes it, or the text
            ``render:SEED:COUNT``, with settings such as
            ``render:0:1000,size=64,start=100000,device=cuda``, for images that are made as
            they are read. A `Path` is always a path, and so is the text ``./render:...``.
        transform: called with each image; what it returns takes the image's place.
        target_transform: the same for the label.
        allow_incomplete: serve the images that exist of a dataset with gaps.

    Raises:
        UsageError: if there is no such dataset, it is incomplete, or the text is wrong.
        DamagedShardError: if a shard is missing or damaged.
    """
    if isinstance(dataset, str):
        dataset = parse_rendered(dataset) or dataset
    if not isinstance(dataset, RenderSpec):
        return ShapesHD(dataset, transform, target_transform, allow_incomplete=allow_incomplete)
    return ShapesHD.rendered(
        dataset.seed, dataset.start, dataset.count, dataset.size, device=dataset.device,
        transform=transform, target_transform=target_transform,
    )  # fmt: skip
