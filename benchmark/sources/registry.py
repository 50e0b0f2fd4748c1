"""What can be scored: one file per kind of source, loaded when it is needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shapeshd.errors import UsageError, one_line
from shapeshd.images.shard_names import TAR_SUFFIXES, expand_shards

from .options import ENTRY_HINT, SourceOptions

if TYPE_CHECKING:
    from .base import Source

__all__ = ["SourceOptions", "open_source"]

_RENDERED = "render:"
_COMMAND = "cmd:"
_ENTRY = re.compile(r"(?:.+\.py|[^\W\d]\w*(?:\.[^\W\d]\w*)*):[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_KINDS = (
    "a dataset, render:SEED:COUNT, an image folder, .zip, .tar, .npz, .npy, .h5, file.py:function, "
    "package.module:function, TorchScript (.pt, .ts, .pth), torch.export (.pt2), .onnx, "
    ".safetensors, a diffusers pipeline, a StyleGAN2 network pickle (.pkl), cmd:COMMAND"
)
_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
_PICKLES = (".pkl", ".pickle")
_NETWORKS = (".pt", ".ts", ".pth", ".pt2", ".onnx", ".safetensors", *_PICKLES)

# Of what is known and not read: why, and what to do instead.
_REFUSED = {
    ".ckpt": f"a training checkpoint (a pickle), not a network: {ENTRY_HINT}",
    ".gz": "compressed by gzip, which is not read: unpack it first",
    ".bz2": "compressed by bzip2, which is not read: unpack it first",
    ".xz": "compressed by xz, which is not read: unpack it first",
    ".zst": "compressed by zstd, which is not read: unpack it first",
    ".parquet": "a Parquet file, which is not read: write its images into a folder or a zip file",
    ".mat": "a MATLAB file: give an npy file of its images",
    ".json": "a JSON file: give the folder, or the .safetensors file, that it belongs to",
    ".py": "a Python file: say which of its functions makes images, as file.py:function",
}
_MAGIC = {
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"\x93NUMPY": "npy",
}


def open_source(
    text: str,
    *,
    seed: int = 0,
    trust: bool = False,
    device: str = "cpu",
    options: SourceOptions | None = None,
) -> Source:
    """Open what can be scored; its kind is seen from `text` and what lies there.

    A path that exists is always taken as a path. One that begins with ``render:`` or ``cmd:`` is
    reached as ``./render:...``.

    Args:
        text: the path of images or of a network, ``render:SEED:COUNT``, a Python entry,
            ``file.py:function`` or ``package.module:function``, or ``cmd:`` and a command.
        seed: of the latents of a generator; images that exist have none.
        trust: whether code that comes with the source may run.
        device: where a network runs.
        options: what the source does not say itself.

    Returns:
        A `Source`, a context manager.

    Raises:
        UsageError: if there is nothing of that kind, or it must be said how to read it.
        ShapesHDError: if it is damaged.
    """
    chosen = options or SourceOptions()
    how: dict[str, Any] = {"seed": seed, "trust": trust, "device": device}
    how |= {"options": chosen, "name": text}
    if text.startswith(_RENDERED):
        from .arrays.dataset import open_own_dataset

        return open_own_dataset(text, options=chosen, name=text)
    if text.startswith(_COMMAND):
        from .subprocess.command import open_command

        return open_command(text[len(_COMMAND) :], **how)
    if not text.strip() or "\0" in text:
        raise UsageError(f"nothing to score: {text!r} is no path; give {_KINDS}")
    try:
        path = Path(text).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{text}: cannot be read ({one_line(error)})") from None
    if not exists:
        if shards := expand_shards(text):
            from shapeshd.benchmark.sources.arrays.image_files import open_shards

            return open_shards(shards, options=chosen, name=text)
        if _ENTRY.fullmatch(text):
            from .subprocess.python_entry import open_python_entry

            return open_python_entry(text, **how)
        if path.is_symlink():
            raise UsageError(f"{text}: is a link to something that is not there")
        raise UsageError(f"{text}: no such file or folder")
    if path.is_dir():
        return _open_directory(path, text, chosen, how)
    if not path.is_file():
        raise UsageError(f"{text}: is neither a file nor a folder")
    return _open_file(path, text, chosen, how)


def _open_directory(path: Path, text: str, options: SourceOptions, how: dict[str, Any]) -> Source:
    from shapeshd.dataset.manifest import is_dataset_folder

    from .arrays.dataset import open_own_dataset

    if is_dataset_folder(path):
        return open_own_dataset(path, options=options, name=text)
    if (path / "model_index.json").is_file():
        from .diffusers.pipeline import open_pipeline

        return open_pipeline(path, **how)
    if (path / "data.mdb").is_file():
        raise UsageError(f"{text}: is an LMDB database, which is not read: write its images out")
    from shapeshd.benchmark.sources.arrays.image_files import open_folder

    return open_folder(path, options=options, name=text)


def _open_file(path: Path, text: str, options: SourceOptions, how: dict[str, Any]) -> Source:
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise UsageError(f"{text}: cannot be read ({error.strerror or one_line(error)})") from None
    if not head:
        raise UsageError(f"{text}: is empty")
    suffix = path.suffix.lower()
    if suffix in _NETWORKS:
        return _open_network(path, suffix, how)
    kind = _kind_of_file(head, suffix, text)
    if kind == "hdf5":
        return _open_hdf5(path, options, text)
    return _images_opener(kind)(path, options=options, name=text)


def _kind_of_file(head: bytes, suffix: str, text: str) -> str:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if suffix in (".npz", ".npy", ".zip"):
        return suffix[1:]
    if text.lower().endswith(TAR_SUFFIXES):
        return "tar"
    if suffix in _HDF5_SUFFIXES:
        return "hdf5"
    if suffix in _REFUSED:
        raise UsageError(f"{text}: is {_REFUSED[suffix]}")
    from shapeshd.images.decode import SUFFIXES

    if suffix in SUFFIXES:
        raise UsageError(f"{text}: is a single image: give the folder that holds all of them")
    raise UsageError(f"{text}: is nothing that can be scored: that is {_KINDS}")


def _open_network(path: Path, suffix: str, how: dict[str, Any]) -> Source:
    if suffix == ".onnx":
        from .networks.onnx import open_onnx

        return open_onnx(path, **how)
    if suffix == ".pt2":
        from .networks.exported import open_exported

        return open_exported(path, **how)
    if suffix == ".safetensors":
        if how["options"].architecture is not None:
            from .networks.architecture import open_architecture

            return open_architecture(path, **how)
        from .networks.checkpoint import open_checkpoint

        return open_checkpoint(path, **how)
    if suffix in _PICKLES:
        from .stylegan.network_pickle import open_network_pickle

        return open_network_pickle(path, **how)
    from .networks.torchscript import open_torchscript

    return open_torchscript(path, **how)


def _images_opener(kind: str) -> Callable[..., Source]:
    if kind == "zip":
        from shapeshd.benchmark.sources.arrays.image_files import open_zip

        return open_zip
    if kind == "tar":
        from shapeshd.benchmark.sources.arrays.image_files import open_tar

        return open_tar
    from .arrays.numpy_files import open_npy, open_npz

    return open_npy if kind == "npy" else open_npz


def _open_hdf5(path: Path, options: SourceOptions, text: str) -> Source:
    from .arrays.hdf5 import holds_dataset, open_hdf5_images

    if options.key is None and holds_dataset(path):
        from .arrays.dataset import open_own_dataset

        return open_own_dataset(path, options=options, name=text)
    return open_hdf5_images(path, options=options, name=text)
