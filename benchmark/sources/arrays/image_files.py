"""Image files as a source: a folder, a zip file, tar files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.images.folder import FolderImages
from shapeshd.images.tar_file import TarImages
from shapeshd.images.zip_file import ZipImages


def open_folder(path: Path, *, options: SourceOptions, name: str) -> FolderImages:
    """Open a folder of images.

    Raises:
        UsageError: if it holds none, or an option does not fit.
    """
    options.allow(source=name, what="an image folder")
    return FolderImages(path, name)


def open_zip(path: Path, *, options: SourceOptions, name: str) -> ZipImages:
    """Open a zip file of images.

    Raises:
        UsageError: if it is none, or an option does not fit.
    """
    options.allow(source=name, what="a zip file of images")
    return ZipImages(path, name)


def open_tar(path: Path, *, options: SourceOptions, name: str) -> TarImages:
    """Open a tar file of images, compressed by gzip or not.

    Raises:
        UsageError: if it is none, or an option does not fit.
    """
    return open_shards([path], options=options, name=name)


def open_shards(paths: Sequence[Path], *, options: SourceOptions, name: str) -> TarImages:
    """Open tar files of images as one; ``--key`` says which image of a sample is meant."""
    options.allow("key", source=name, what="a tar file of images")
    return TarImages(paths, name, options.key)
