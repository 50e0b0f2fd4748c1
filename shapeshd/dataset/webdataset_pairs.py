"""Tar files of an export as `webdataset` streams them, with images and labels as ShapesHD's."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError, explain, named
from shapeshd.factors import NAMES


def open_webdataset(
    tars: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    transform: Callable[[Tensor], Any] | None = None,
    target_transform: Callable[[Tensor], Any] | None = None,
    *,
    split: str | None = None,
    **options: Any,
) -> Any:
    """Return the images of tar files as a `webdataset.WebDataset`, an iterable dataset.

    An item is a pair as `ShapesHD` gives it: a uint8 tensor (3, H, W), sRGB, and a float64 tensor
    (6,), columns as in `FACTORS`. The pipeline can be continued, as by ``.shuffle(1000)``.

    Args:
        tars: the folder that ``shapeshd export --format webdataset`` wrote, or tar files of it.
            For addresses, call ``webdataset.WebDataset(...).map(image_and_label)``.
        transform: called with each image; what it returns takes the image's place.
        target_transform: the same for the label.
        split: of a folder, the split whose files to take; None for all files.
        options: more arguments of `WebDataset`, such as ``shardshuffle=100`` or ``nodesplitter``;
            without them files come in order, once, and one that is no tar file or is cut off is a
            `ShapesHDError` when its turn comes.

    Raises:
        UsageError: if there is no such file, or `split` is given with files.
        MissingPackageError: if webdataset is not installed.
    """
    try:
        import webdataset
    except ImportError:
        raise MissingPackageError.of("webdataset", "webdataset", "open_webdataset") from None
    paths = _find(tars, split)

    def pair(sample: Mapping[str, Any]) -> tuple[Any, Any]:
        image, label = image_and_label(sample)
        return (
            image if transform is None else transform(image),
            label if target_transform is None else target_transform(label),
        )

    settings = {"shardshuffle": False, "handler": _raise_with_file, **options}
    return webdataset.WebDataset([str(path.absolute()) for path in paths], **settings).map(pair)


def image_and_label(sample: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Turn a sample of webdataset, its files by their suffix, into what `ShapesHD` gives.

    Args:
        sample: with the undecoded ``png`` and ``json`` of an export.

    Returns:
        uint8 (3, H, W), and float64 (6,).

    Raises:
        ShapesHDError: if one of them is missing or cannot be read.
    """
    try:
        with PIL.Image.open(io.BytesIO(sample["png"])) as opened:
            pixels = np.array(opened.convert("RGB"))
        factors = json.loads(sample["json"])
        label = torch.tensor([factors[name] for name in NAMES], dtype=torch.float64)
    except (KeyError, ValueError, TypeError, OSError, SyntaxError) as error:
        place = f"{sample.get('__url__', 'a tar file')}: {sample.get('__key__', 'a sample')}"
        raise ShapesHDError(
            f"{place}: holds no image and factors as an export has them ({explain(error)})"
        ) from None
    return torch.from_numpy(pixels).permute(2, 0, 1), label


def _raise_with_file(error: Exception) -> bool:
    """Raise what webdataset met; it puts the stream and the file behind a message of `tarfile`."""
    if isinstance(error, (tarfile.TarError, EOFError)) and len(error.args) > 2:
        message, *_, file = error.args
        raise ShapesHDError(f"{file}: is no tar file, or is cut off ({message})") from None
    raise error


def _find(
    tars: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], split: str | None
) -> list[Path]:
    if isinstance(tars, (str, os.PathLike)) and Path(tars).is_dir():
        folder = Path(tars)
        found = sorted(folder.glob(f"{split}-*.tar" if split else "*.tar"))
        if not found:
            raise UsageError(
                f"{folder}: holds no tar file{f' of the split {split}' if split else ''}"
            )
        return found
    if split is not None:
        raise UsageError(f"{named('split')} is of a folder: tar files are given one by one")
    paths = [Path(tars)] if isinstance(tars, (str, os.PathLike)) else [Path(path) for path in tars]
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path}: no such file or folder")
    return paths
