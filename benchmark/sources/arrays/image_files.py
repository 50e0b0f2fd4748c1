"""Image files as a source: a folder, a zip file, tar files."""

from __future__ import annotations

from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.images.folder import FolderImages
from shapeshd.images.names import expand_shards
from shapeshd.images.tar_file import TarImages
from shapeshd.images.zip_file import ZipImages


def open_folder(request: OpenRequest) -> FolderImages:
    """Open a folder of images; `UsageError` if it holds none."""
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
