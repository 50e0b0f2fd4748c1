"""ONNX tensors whose values lie in other files: found and read before any library sees the model.

An ONNX tensor can say that its values lie in another file, and onnxruntime then reads
whatever is named (for a model given as bytes: from the working directory). Later releases keep
to the model's folder, but 1.23.2, the last for Python 3.10, does not. So what is beside the model
is read here, into the model, and onnxruntime gets one that names no file. ONNX is Protocol
Buffers, a tree of numbered fields; this walks the branches on which tensors can hang.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from shapeshd.errors import ShapesHDError, UsageError

# Message -> its fields that lead to tensors -> the message there, by the numbers of onnx.proto.
TENSOR_PATHS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""The fields of a TensorProto that point elsewhere."""

_GRAPH, _INITIALIZER = 7, 5  # of a ModelProto, and of its GraphProto
_DIMS, _DATA_TYPE, _RAW_DATA = 1, 2, 9  # of a TensorProto
_KEY, _VALUE = 1, 2  # of a StringStringEntryProto
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64,
    15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4,
}  # fmt: skip
"""Bits of a value, by `TensorProto.DataType`."""

_LARGEST = 2**31 - 1  # bytes of a message of Protocol Buffers
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_DEEPEST = 100  # as in Google's own readers


def has_external_data(data: bytes | memoryview) -> bool:
    """Say whether an ONNX model (its file's bytes) keeps any tensor in another file.

    Raises:
        ValueError: if the bytes are no Protocol Buffers message.
    """
    return _walk(memoryview(data), "ModelProto", 0)


def with_data_inside(model: bytes, path: Path, name: str) -> bytes:
    """Return an ONNX model that holds the values which its weights have in files beside it.

    Args:
        model: the bytes of its file, such as ``torch.onnx.export`` writes beside ``.onnx.data``.
        path: the file.
        name: what the user called it, for messages.

    Raises:
        UsageError: if a file is named that does not lie in the model's folder, a link leads out of
            it, other tensors than weights are elsewhere, or all is too large for one model.
        ShapesHDError: if such a file is missing, no regular file, or shorter than is said.
    """
    with ExitStack() as stack:
        files = _DataFiles(path.parent, name, stack)
        try:
            inside = b"".join(
                _field(number, _with_weights(value, files))
                if number == _GRAPH and isinstance(value, memoryview)
                else raw
                for number, _, value, raw in _fields(memoryview(model))
            )
        except ShapesHDError:
            raise
        except (ValueError, OverflowError) as error:
            raise ShapesHDError(f"{name}: says nothing sound of its other files: {error}") from None
    if has_external_data(inside):
        raise UsageError(
            f"{name}: keeps other tensors than its weights in other files, which could be any of "
            "yours: export it as one file (torch.onnx.export with external_data=False)"
        )
    return inside


def _with_weights(graph: memoryview, files: _DataFiles) -> bytes:
    return b"".join(
        _field(number, _with_values(value, files))
        if number == _INITIALIZER and isinstance(value, memoryview)
        else raw
        for number, _, value, raw in _fields(graph)
    )


def _with_values(tensor: memoryview, files: _DataFiles) -> bytes:
    """Return a tensor, as it is or with the values that lie elsewhere."""
    dims: list[int] = []
    kind, external, kept, has_values = 0, False, [], False
    said: dict[str, str] = {}
    for number, wire, value, raw in _fields(tensor):
        if number == DATA_LOCATION:
            external = value == 1
            continue
        if number == EXTERNAL_DATA and isinstance(value, memoryview):
            key, text = _entry(value)
            if key in said:
                raise ValueError(f"{key} twice")
            said[key] = text
            continue
        if number == _DIMS:
            dims += _numbers(value)
        elif number == _DATA_TYPE and wire == _VARINT:
            kind = int(value)
        has_values |= number == _RAW_DATA
        kept.append(raw)
    if not external and not said:
        return bytes(tensor)
    if not external or has_values or kind not in _BITS:
        raise ValueError("a tensor is both here and elsewhere, or of no numbers")
    size = -(-math.prod(dims) * _BITS[kind] // 8)
    offset, length = (int(said.get(key, str(default))) for key, default in
                      (("offset", 0), ("length", size)))  # fmt: skip
    if offset < 0 or length != size:
        raise ValueError(f"a tensor of {size:,} bytes has {length:,} from {offset:,}")
    return b"".join(kept) + _field(_RAW_DATA, files.read(said.get("location", ""), offset, size))


class _DataFiles:
    """The files in a model's folder, opened once each and closed by `stack`."""

    def __init__(self, folder: Path, name: str, stack: ExitStack) -> None:
        self._folder, self._name, self._stack = folder, name, stack
        self._open: dict[str, int] = {}
        self._left = _LARGEST

    def read(self, location: str, offset: int, size: int) -> bytes:
        """Return bytes of the file at a place below the folder; errors of `with_data_inside`."""
        self._left -= size
        if self._left < 0:
            raise UsageError(f"{self._name}: is larger than 2 GiB with its other files: too large")
        if location not in self._open:
            self._open[location] = self._opened(location)
        parts = []
        while size:
            part = os.pread(self._open[location], size, offset)
            if not part:
                raise ShapesHDError(f"{self._name}: {location!r} beside it is too short: cut off?")
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def _opened(self, location: str) -> int:
        where = f"{self._name}: its weights lie in {location!r}"
        place = PurePosixPath(location)
        if not place.name or place.is_absolute() or ".." in place.parts or "\0" in location:
            raise UsageError(
                f"{where}, which is not below its folder: refused, it could be any file"
            )
        folder = self._folder.resolve()
        try:
            path = (folder / place).resolve(strict=True)
            if folder not in path.parents:
                raise UsageError(
                    f"{where}, a link out of its folder: copy both files into one folder"
                )
            # Not a pipe, which would wait for a writer, nor a device.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, RuntimeError) as error:
            what = getattr(error, "strerror", None) or "a link that leads nowhere"
            raise ShapesHDError(
                f"{where} beside it, which cannot be read ({what}): both files belong together, or "
                "export it as one (torch.onnx.export with external_data=False)"
            ) from None
        self._stack.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ShapesHDError(f"{where}, which is no regular file")
        return descriptor


def _entry(message: memoryview) -> tuple[str, str]:
    texts = {_KEY: "", _VALUE: ""}
    for number, _, value, _ in _fields(message):
        if number in texts and isinstance(value, memoryview):
            texts[number] = bytes(value).decode()
    return texts[_KEY], texts[_VALUE]


def _numbers(value: int | memoryview) -> list[int]:
    """Return the numbers of a field of int64, one or packed; negative ones are refused."""
    found, place = [], 0
    if isinstance(value, int):
        found.append(value)
    else:
        while place < len(value):
            number, place = _varint(value, place)
            found.append(number)
    if any(number >= 1 << 63 for number in found):
        raise ValueError("a tensor with an axis below 0")
    return found


def _field(number: int, value: bytes) -> bytes:
    """Return a field of a message, of bytes."""
    return _encoded(number << 3 | _LENGTH) + _encoded(len(value)) + value


def _encoded(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _walk(data: memoryview, message: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError(f"messages nested more than {_DEEPEST} deep")
    branches = TENSOR_PATHS.get(message, {})
    for number, wire, value, _ in _fields(data):
        if message == "TensorProto":
            if number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0):
                return True
        elif number in branches and wire == _LENGTH:
            assert isinstance(value, memoryview)
            if _walk(value, branches[number], depth + 1):
                return True
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview, memoryview]]:
    """Yield (field number, wire type, value, all its bytes) of each field of a message."""
    place = 0
    while place < len(data):
        first = place
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if number == 0 or key >= 1 << 32:  # other readers would cut the key off: no guessing
            raise ValueError(f"no field's number at byte {place}")
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield number, wire, value, data[first:place]
            continue
        if wire == _LENGTH:
            length, place = _varint(data, place)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {wire} at byte {place}")
        if place + length > len(data):
            raise ValueError(f"a field at byte {place} reaches beyond the end")
        place += length
        yield number, wire, data[place - length : place], data[first:place]


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return the number at `place`, seven bits a byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("it ends inside a number")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError(f"a number at byte {place} has no end")
