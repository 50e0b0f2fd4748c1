"""The registry of source kinds: this project's, one record each, and those that others add.

To add one, write a function that opens it from an `OpenRequest` in a file of its own, and add its
record to `KINDS`, in the order that kinds are tried. Other packages add theirs through the
entry-point group ``shapeshd.sources``, programs through `register`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from shapeshd.errors import UsageError, explain
from shapeshd.images.names import SUFFIXES as IMAGE_SUFFIXES
from shapeshd.images.names import TAR_SUFFIXES, expand_shards
from shapeshd.support.progress import warn

from .options import ENTRY_HINT, HANDED_ON, OPTIONS
from .source_kind import Candidate, SourceKind
from .trust import PYTHON_RUNS, TORCHSCRIPT_RUNS

GROUP = "shapeshd.sources"
"""The group of entry points by which other packages add a `SourceKind`."""

_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
_HDF5_MAGIC = (b"\x89HDF\r\n\x1a\n",)
_ENTRY = re.compile(r"(?:.+\.py|[^\W\d]\w*(?:\.[^\W\d]\w*)*):[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_PIPELINE = "model_index.json"
_LMDB = "data.mdb"

_FORM = ("range", "layout")
_LATENTS = (*_FORM, "latent_dim")
_CLASSES = ("labels", "classes")
_STYLES = ("truncation", "truncation_cutoff", "noise")


def _is_dataset(candidate: Candidate) -> bool:
    if candidate.place == "folder":
        from shapeshd.dataset.manifest import is_dataset_folder

        return is_dataset_folder(candidate.path)
    if candidate.options.key is not None:
        return False
    from shapeshd.dataset.hdf5_reader import holds_dataset

    return holds_dataset(candidate.path)


def _is_run(candidate: Candidate) -> bool:
    from shapeshd.models.networks.run_folder import is_run_folder

    return is_run_folder(candidate.path)


def _is_tar(candidate: Candidate) -> bool:
    return candidate.place == "file" or bool(expand_shards(candidate.text))


def _is_pipeline(candidate: Candidate) -> bool:
    return (candidate.path / _PIPELINE).is_file()


def _is_image_folder(candidate: Candidate) -> bool:
    return not _is_pipeline(candidate) and why_refused(candidate) is None


def _is_entry(candidate: Candidate) -> bool:
    return bool(_ENTRY.fullmatch(candidate.text))


KINDS = (
    SourceKind(
        name="dataset",
        what="a dataset",
        shown="a dataset, render:SEED:COUNT",
        summary="Rendered by shapeshd, also one shard or 3dshapes.h5; or traced as it is read.",
        opener="arrays.images:open_own_dataset",
        prefix="render:",
        suffixes=_HDF5_SUFFIXES,
        magic=_HDF5_MAGIC,
        places=("file", "folder"),
        matches=_is_dataset,
        whole_name=True,
    ),
    SourceKind(
        name="run",
        what="the folder of a training",
        shown="the folder of a training run",
        summary="The generator of its last finished phase; or the folder of a phase.",
        opener="networks.checkpoint:open_run",
        places=("folder",),
        matches=_is_run,
        options=(*_LATENTS, "steps", "solver", *_STYLES),
        generates=True,
        examine="examine:examine_run",
    ),
    SourceKind(
        name="folder",
        what="an image folder",
        shown="an image folder",
        summary="PNG, JPEG, WebP, BMP or PPM files at any depth.",
        opener="arrays.images:open_folder",
        places=("folder",),
        matches=_is_image_folder,
    ),
    SourceKind(
        name="zip",
        what="a zip file of images",
        shown=".zip",
        summary="The same in a zip file, also StyleGAN's with dataset.json.",
        opener="arrays.images:open_zip",
        suffixes=(".zip",),
    ),
    SourceKind(
        name="tar",
        what="a tar file of images",
        shown=".tar",
        summary="Also .tar.gz, and WebDataset's shards: 'data-{000..003}.tar', 'data-*.tar'.",
        opener="arrays.images:open_tar",
        suffixes=TAR_SUFFIXES,
        places=("file", "nothing"),
        matches=_is_tar,
        options=("key",),
    ),
    SourceKind(
        name="npy",
        what="an npy file",
        shown=".npy",
        summary="A NumPy array (n, 3, H, W) or (n, H, W, 3); pickled objects are refused.",
        opener="arrays.numpy_files:open_npy",
        suffixes=(".npy",),
        magic=(b"\x93NUMPY",),
        options=_FORM,
        examine="arrays.headers:examine_npy",
    ),
    SourceKind(
        name="npz",
        what="an npz file",
        shown=".npz",
        summary="One of NumPy's arrays by its key; pickled objects are refused.",
        opener="arrays.numpy_files:open_npz",
        suffixes=(".npz",),
        options=(*_FORM, "key"),
        examine="arrays.headers:examine_npz",
    ),
    SourceKind(
        name="hdf5",
        what="an HDF5 file",
        shown=".h5",
        summary="An array of images in any HDF5 file, by its key.",
        opener="arrays.hdf5:open_hdf5_images",
        suffixes=_HDF5_SUFFIXES,
        magic=_HDF5_MAGIC,
        options=(*_FORM, "key"),
        examine="arrays.headers:examine_hdf5",
    ),
    SourceKind(
        name="onnx",
        what="an ONNX model",
        shown=".onnx",
        summary="Run by onnxruntime; weights in files beside it are read.",
        opener="networks.onnx:open_onnx",
        suffixes=(".onnx",),
        options=(*_LATENTS, *_CLASSES),
        generates=True,
    ),
    SourceKind(
        name="checkpoint",
        what="a checkpoint of a generator",
        shown=".safetensors of shapeshd",
        summary="A generator of shapeshd.models.",
        opener="networks.checkpoint:open_checkpoint",
        suffixes=(".safetensors",),
        matches=lambda candidate: candidate.options.architecture is None,
        options=(*_LATENTS, "steps", "solver", *_STYLES),
        generates=True,
    ),
    SourceKind(
        name="model",
        what="a trained generator that comes with the program",
        shown="model:NAME",
        summary="A trained generator that comes along; `shapeshd info model:` lists them.",
        opener="networks.checkpoint:open_model",
        prefix="model:",
        options=(*_LATENTS, "steps", "solver", *_STYLES),
        generates=True,
        examine="examine:examine_model",
        whole_name=True,
    ),
    SourceKind(
        name="safetensors",
        what="a file of tensors",
        shown=".safetensors, .pt or .pth of a known architecture",
        summary="A state_dict of another project, put into a network of ours by --architecture.",
        opener="networks.architecture:open_architecture",
        suffixes=(".safetensors", ".pt", ".pth"),
        matches=lambda candidate: candidate.options.architecture is not None,
        options=(*_LATENTS, "architecture", *_CLASSES, *_STYLES),
        generates=True,
        examine="examine:examine_tensors",
    ),
    SourceKind(
        name="network-pickle",
        what="a network pickle",
        shown="a StyleGAN2 network pickle (.pkl)",
        summary="StyleGAN2(-ADA) of NVlabs, read as data into a network of ours.",
        opener="stylegan.network_pickle:open_network_pickle",
        suffixes=(".pkl", ".pickle"),
        matches=lambda candidate: candidate.options.code_dir is None,
        options=(*_LATENTS, *_CLASSES, *_STYLES),
        generates=True,
    ),
    SourceKind(
        name="network-code",
        what="a network pickle",
        shown="other network pickles with their code",
        summary="StyleGAN3, StyleGAN-XL and others, by their authors' code in its own process.",
        opener="subprocess.network_process:open_network_process",
        suffixes=(".pkl", ".pickle"),
        matches=lambda candidate: candidate.options.code_dir is not None,
        options=(*_LATENTS, "timeout", *_CLASSES, *_STYLES, "code_dir", "depends"),
        generates=True,
        trust="always",
        danger="a network pickle that its authors' code loads is code",
    ),
    SourceKind(
        name="diffusers",
        what="a diffusers pipeline",
        shown="a diffusers pipeline",
        summary="A folder; the library's own classes are built, other code takes --trust.",
        opener="diffusers.pipeline:open_pipeline",
        places=("folder",),
        matches=_is_pipeline,
        options=(*_FORM, "steps", *_CLASSES),
        generates=True,
        trust="sometimes",
    ),
    SourceKind(
        name="torchscript",
        what="a TorchScript file",
        shown="TorchScript (.pt, .ts, .pth)",
        summary="A module of latents, saved by torch.jit.save.",
        opener="networks.torchscript:open_torchscript",
        suffixes=(".pt", ".ts", ".pth"),
        options=(*_LATENTS, "latent_shape", *_CLASSES, "label_form"),
        generates=True,
        trust="always",
        danger=TORCHSCRIPT_RUNS,
        examine="examine:examine_torchscript",
        lacks="examine:torchscript_lacks",
    ),
    SourceKind(
        name="torch-export",
        what="a torch.export file",
        shown="torch.export (.pt2)",
        summary="A program of latents, saved by torch.export.save.",
        opener="networks.exported:open_exported",
        suffixes=(".pt2",),
        options=_LATENTS,
        generates=True,
        trust="always",
        danger="a torch.export file holds texts that are evaluated as Python when it is read",
        examine="examine:examine_exported",
    ),
    SourceKind(
        name="python",
        what="a Python function",
        shown="file.py:function, package.module:function",
        summary="Of latents or seeds, in a process of its own.",
        opener="subprocess.python_entry:open_python_entry",
        places=("nothing",),
        matches=_is_entry,
        options=(*_LATENTS, "latent_shape", "timeout", *_CLASSES, *HANDED_ON, "depends"),
        generates=True,
        trust="always",
        danger=PYTHON_RUNS,
        examine="examine:examine_entry",
        lacks="examine:entry_lacks",
    ),
    SourceKind(
        name="command",
        what="a command",
        shown="cmd:COMMAND",
        summary="Any program that writes raw RGB frames: 'cmd:./sampler {seed} {start} {count}'.",
        opener="subprocess.command:open_command",
        prefix="cmd:",
        options=("frame_size", "timeout", "depends"),
        generates=True,
        trust="always",
        danger="a command is a program that runs here",
        examine="examine:split_command",
        lacks="examine:command_lacks",
    ),
)

_UNPACK = "compressed by {}, which is not read: unpack it first"
_REFUSED = {
    ".ckpt": f"a training checkpoint (a pickle), not a network: {ENTRY_HINT}",
    ".gz": _UNPACK.format("gzip"),
    ".bz2": _UNPACK.format("bzip2"),
    ".xz": _UNPACK.format("xz"),
    ".zst": _UNPACK.format("zstd"),
    ".parquet": "a Parquet file, which is not read: write its images into a folder or a zip file",
    ".mat": "a MATLAB file: give an npy file of its images",
    ".json": "a JSON file: give the folder, or the .safetensors file, that it belongs to",
    ".py": "a Python file: say which of its functions makes images, as file.py:function",
}


def why_refused(candidate: Candidate) -> str | None:
    """Say what a file or folder is that is known and not read, and what to do instead."""
    if candidate.place == "folder":
        if (candidate.path / _LMDB).is_file():
            return "an LMDB database, which is not read: write its images out"
        return None
    suffix = Path(candidate.text).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "a single image: give the folder that holds all of them"
    return _REFUSED.get(suffix)


_added: list[SourceKind] = []


def source_kinds() -> tuple[SourceKind, ...]:
    """Return all kinds: this project's, those of other packages, those added by `register`."""
    return (*KINDS, *_kinds_of_packages(), *_added)


def register(kind: SourceKind) -> None:
    """Add a kind of source to this process.

    Raises:
        UsageError: if there is another of its name or prefix, or an option is not known.
    """
    _check(kind, source_kinds())
    _added.append(kind)


def unregister(name: str) -> None:
    """Take a kind away that `register` added; nothing happens if there is none."""
    _added[:] = [kind for kind in _added if kind.name != name]


@cache
def _kinds_of_packages() -> tuple[SourceKind, ...]:
    """Load the kinds of other packages; one that cannot be used must not keep us from the rest."""
    kinds: list[SourceKind] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            kind = entry.load()
            if not isinstance(kind, SourceKind):
                raise UsageError(f"{entry.value} is no SourceKind")
            _check(kind, (*KINDS, *kinds))
        except Exception as error:
            package = entry.dist.name if entry.dist else entry.value
            warn(f"the package {package} adds no kind of source {entry.name!r}: {explain(error)}")
        else:
            kinds.append(kind)
    return tuple(kinds)


def _check(kind: SourceKind, others: Sequence[SourceKind]) -> None:
    for other in others:
        if kind.name == other.name or (kind.prefix and kind.prefix == other.prefix):
            raise UsageError(
                f"the kind of source {kind.name!r} has the name or the prefix of another, "
                f"{other.name!r}"
            )
    unknown = [option for option in kind.options if option not in OPTIONS]
    if unknown:
        raise UsageError(
            f"the kind of source {kind.name!r} takes {unknown[0]!r}; options are "
            f"{', '.join(OPTIONS)}"
        )
