"""The images that the reference models train on.

Datasets of shapeshd, folders and zip files of images, and LSUN's LMDBs all become square uint8
images of one size that are read by number. An image that is not square is cut to its central
square, as is the practice for FFHQ and LSUN; then it is resized with antialiasing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from shapeshd.benchmark.recognizer.data import origin_of, prefetched
from shapeshd.checks import whole_number
from shapeshd.dataset.manifest import is_dataset_folder
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import open_dataset
from shapeshd.errors import ShapesHDError, UsageError, one_line
from shapeshd.images.folder import FolderImages
from shapeshd.images.lmdb import DATA_NAME, LmdbImages
from shapeshd.images.zip_file import ZipImages

from .encoded import EncodedImages, PictureData
from .shapes import ShapesData
from .square import ImageData

__all__ = ["ImageData", "batches", "open_training_images", "rendered_at", "to_float", "to_uint8"]

SMALLEST, LARGEST = 4, 4096  # pixels
_HDF5 = b"\x89HDF\r\n\x1a\n"
_KINDS = (
    "a dataset, render:SEED:COUNT, a folder or a zip file of images, or an LSUN LMDB (a folder "
    f"with {DATA_NAME})"
)


def open_training_images(
    source: Path | RenderSpec, size: int | None, *, crop: bool = True
) -> ImageData:
    """Open the images to train on; their kind is seen from what lies there.

    Args:
        source: a dataset (folder, shard, ``dataset.h5``, ``3dshapes.h5``), images to be rendered
            as they are read, a folder of images with all its subfolders, a zip file of images
            (such as StyleGAN's), or an LSUN LMDB.
        size: width and height to which the images are resized, pixels, 4 .. 4096; larger than
            they are is allowed, and `ImageData.describe` says so. None takes them as they are.
        crop: whether images that are not square are cut to their central square; else they are
            refused.

    Raises:
        UsageError: if there is nothing of that kind, `size` is impossible, or the images cannot
            be brought to that form.
        ShapesHDError: if what is there is damaged.
        MissingPackageError: if an LMDB is given and the package lmdb is not installed.
    """
    if size is not None:
        size = whole_number("size", size, SMALLEST, LARGEST)
    if isinstance(source, RenderSpec):
        return _open_shapes(source, str(source), size, crop)
    try:
        path = source.expanduser()
        files = _find_files(path, str(source))
    except ShapesHDError:
        raise
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{source}: cannot be read ({one_line(error)})") from None
    name = path.absolute().name or str(path)
    if files is None:
        return _open_shapes(path, name, size, crop)
    return PictureData(files, name, size, crop=crop)


def rendered_at(source: Path | RenderSpec, size: int) -> Path | RenderSpec:
    """Return images to be rendered at `size` pixels, unless another size was asked for.

    A size of 256, which is the default, counts as none even where it is written out.

    Args:
        source: other images stay what they are.
        size: pixels.
    """
    if isinstance(source, RenderSpec) and source.size == RenderSpec.size:
        return replace(source, size=size)
    return source


def batches(data: ImageData, order: Iterable[Sequence[int]], workers: int) -> Iterator[Tensor]:
    """Yield ``data.batch(indices)`` for all `indices` of `order`, read ahead of their use.

    Args:
        data: where the images are.
        order: the images of each batch; may go on without an end.
        workers: processes that read, >= 0; with 0 the calling thread does.

    Yields:
        uint8 (n, 3, size, size).

    Raises:
        UsageError: if `workers` is negative.
        ShapesHDError: in one line, if images cannot be read, or a worker was ended.
    """
    count = whole_number("workers", workers, 0)
    return prefetched(_Batches(data), map(list, order), count, _as_it_is)


def to_float(images: Tensor) -> Tensor:
    """Return images as networks see them.

    Args:
        images: uint8 of any shape: 0 is black, 255 full.

    Returns:
        float32 of the same shape: -1 is black, 1 full.
    """
    return images.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Return what a network made as images: the nearest of the 256 levels, ties upwards.

    Args:
        images: float of any shape: -1 is black, 1 full; what lies outside is cut.

    Returns:
        uint8 of the same shape; of what `to_float` returned, its argument.
    """
    return images.float().mul(127.5).add_(128).floor_().clamp_(0, 255).to(torch.uint8)


class _Batches(Dataset[Tensor]):
    """What a ``DataLoader`` asks for batches; `_as_it_is` then leaves them whole."""

    def __init__(self, data: ImageData) -> None:
        self._data = data

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        return self._data.batch(indices)


def _as_it_is(batch: Tensor) -> Tensor:
    return batch


def _open_shapes(source: Path | RenderSpec, name: str, size: int | None, crop: bool) -> ShapesData:
    dataset = open_dataset(source)
    return ShapesData(dataset, origin_of(dataset, source), name, size, crop=crop)


def _find_files(path: Path, name: str) -> EncodedImages | None:
    """Return the files of images at `path`; None if it holds a dataset."""
    if path.is_dir():
        if is_dataset_folder(path):
            return None
        if (path / DATA_NAME).is_file():
            return LmdbImages(path, name)
        return FolderImages(path, name)
    if not path.exists():
        raise UsageError(f"{name}: no such file or folder")
    if not path.is_file():
        raise UsageError(f"{name}: is neither a file nor a folder")
    if path.suffix.lower() == ".zip":
        return ZipImages(path, name)
    with path.open("rb") as file:
        if path.suffix.lower() == ".h5" or file.read(len(_HDF5)) == _HDF5:
            return None
    if path.name == DATA_NAME:
        raise UsageError(f"{name}: is a part of an LMDB: give the folder that holds it")
    raise UsageError(f"{name}: is nothing to train on: that is {_KINDS}")
