"""Digests of what a source is made of, so that a result of something else is not taken for its own.

Everything here looks at files alone: nothing of a source is loaded or run.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shapeshd.benchmark.sources.base import Source
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.errors import UsageError
from shapeshd.images.names import expand_shards, is_image_name

_DIGESTED_BYTES = 256 * 2**20
_PIPELINE = "model_index.json"  # what makes a folder a diffusers pipeline
_SAMPLED_FILES = 64
_BLOCKS, _BLOCK_BYTES = 16, 2**16
_DEEPEST = 40  # folders one in the other
_COMMAND = "command"
_SKIPPED = "__pycache__"
_OF_TIME = " bytes of "

FilesDigest = dict[str, Any]
"""Of several files: their number and digests of their names, sizes, times and contents."""


def content_digest(source: Source, files: FilesDigest | None = None) -> str | None:
    """Return the SHA-256 of the file that a source is, so that another of its name is noticed.

    Of a diffusers pipeline, or of several tar files, it is that of the names and digests of its
    files. In place of the digest of a file above 256 MiB stand its size and the time of its last
    change. Of a folder of images, or a dataset, it is that of its files' names and sizes and of a
    sample of their contents. A trained generator that comes with the program says its own, that of
    its tensors. What else is no file has None.

    Args:
        source: of which it is.
        files: what `files_digest` gave of it just now, so that a folder is not read twice.
    """
    own = getattr(source, "digest", None)
    if isinstance(own, str):
        return own
    path = _path_of(source)
    try:
        if path.is_file() or (path / _PIPELINE).is_file():
            return _digest_of(path)
        if shards := expand_shards(source.name):
            return _joined(f"{file.name} {_file_digest(file)}" for file in shards)
        if path.is_dir():
            found = files or _files_digest(path, _belongs(source))
            return _joined(str(found[key]) for key in ("names", "sizes", "contents"))
    except (OSError, RuntimeError, UsageError):
        pass
    return None


def files_digest(source: Source) -> FilesDigest | None:
    """Return what is known of a source's files beside `content_digest`; None if that is all.

    It names what has changed, and holds the times of the files.
    """
    path = _path_of(source)
    try:
        if path.is_file():
            shards = path.parent / "shards"  # of which dataset.h5 is a view
            if source.kind == "dataset" and shards.is_dir():
                return _files_digest(shards, _belongs(source))
            if path.stat().st_size > _DIGESTED_BYTES:
                return {"files": 1, "contents": _sampled(path)}
        elif path.is_dir() and not (path / _PIPELINE).is_file():
            return _files_digest(path, _belongs(source))
    except (OSError, RuntimeError):
        pass
    return None


def code_digests(source: Source, options: SourceOptions) -> dict[str, str]:
    """Return digests of what a source runs or loads beside its own file, by name.

    That is what ``depends`` names, the repository that ``code_dir`` names, the file of a module,
    and the words of a command that are files.

    Raises:
        OSError: if one of them cannot be read.
    """
    stated = [*options.depends, *([] if options.code_dir is None else [options.code_dir])]
    found = {text: _digest_of(Path(text).expanduser()) for text in stated}
    for path in _files_run(source):
        found.setdefault(str(path), _digest_of(path))
    return found


def _path_of(source: Source) -> Path:
    path = Path(source.name.rpartition(":")[0] if ".py:" in source.name else source.name)
    try:
        return path.expanduser()
    except RuntimeError:  # of a user who is not known
        return path


def _belongs(source: Source) -> Callable[[str], bool]:
    """Return which file names of a folder belong to a source."""
    if source.kind == "folder":
        return is_image_name
    return lambda name: name.endswith((".h5", ".hdf5", ".json"))


def _files_run(source: Source) -> Iterator[Path]:
    words: Sequence[str] = ()
    if source.kind == _COMMAND:
        words = shlex.split(source.name.removeprefix("cmd:"))
    elif source.kind == "python" and ".py:" not in source.name:
        module = source.name.rpartition(":")[0].replace(".", "/")
        words = (f"{module}.py", f"{module}/__init__.py")
    for word in words:
        try:
            if Path(word).is_file():
                yield Path(word)
        except (OSError, ValueError):  # no name that a file could have
            continue


def _digest_of(path: Path) -> str:
    """Return the digest of a file, or of all files below a folder."""
    if not path.is_dir():
        return _file_digest(path)
    return _joined(f"{name} {_file_digest(path / name)}" for name in _below(path))


def _below(folder: Path, belongs: Callable[[str], bool] = bool) -> list[str]:
    """Return the names of the files below a folder, sorted; hidden ones are left out."""
    found = []
    for here, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "." and name != _SKIPPED]
        inner = os.path.relpath(here, folder).replace(os.sep, "/")
        below = "" if inner == "." else f"{inner}/"
        found += [below + name for name in files if name[0] != "." and belongs(name)]
        if below.count("/") >= _DEEPEST:  # a link that leads back
            folders.clear()
    return sorted(found)


def _files_digest(folder: Path, belongs: Callable[[str], bool]) -> FilesDigest:
    names = _below(folder, belongs)
    sizes, times = hashlib.sha256(), hashlib.sha256()
    for name in names:
        status = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 - a million of them
        sizes.update(b"%d\n" % status.st_size)
        times.update(b"%d\n" % status.st_mtime_ns)
    step = max(1, len(names) // _SAMPLED_FILES)
    return {
        "files": len(names),
        "names": _joined(names),
        "sizes": sizes.hexdigest(),
        "times": times.hexdigest(),
        "contents": _joined(_sampled(folder / name) for name in names[::step]),
    }


def _file_digest(path: Path) -> str:
    status = path.stat()
    if status.st_size > _DIGESTED_BYTES:
        return f"{status.st_size}{_OF_TIME}{status.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def size_of_large_file(digest: object) -> str | None:
    """Return the size that stands, with a time, in place of a large file's digest; else None."""
    size, found, _ = str(digest).partition(_OF_TIME)
    return size if found else None


def _sampled(path: Path) -> str:
    """Return a digest of blocks of a file that lie evenly in it; of all of a small one."""
    size, digest = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as file:
        if size <= _BLOCKS * _BLOCK_BYTES:
            digest.update(file.read())
        else:
            for block in range(_BLOCKS):
                file.seek(block * (size - _BLOCK_BYTES) // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


def _joined(lines: Iterator[str] | Sequence[str]) -> str:
    text = "\n".join(lines)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
