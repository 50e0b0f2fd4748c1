"""Does an ONNX file name other files? Told from its bytes, before any library sees it.

An ONNX tensor can say that its values lie in another file, and onnxruntime then reads
whatever is named (for a model given as bytes: from the working directory). Later releases keep
to the model's folder, but 1.23.2, the last for Python 3.10, does not. ONNX is Protocol
Buffers, a tree of numbered fields; this walks the branches on which tensors can hang.
"""

from __future__ import annotations

from collections.abc import Iterator

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

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_DEEPEST = 100  # as in Google's own readers


def has_external_data(data: bytes | memoryview) -> bool:
    """Say whether an ONNX model (its file's bytes) keeps any tensor in another file.

    Raises:
        ValueError: if the bytes are no Protocol Buffers message.
    """
    return _walk(memoryview(data), "ModelProto", 0)


def _walk(data: memoryview, message: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError(f"messages nested more than {_DEEPEST} deep")
    branches = TENSOR_PATHS.get(message, {})
    for number, wire, value in _fields(data):
        if message == "TensorProto":
            if number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0):
                return True
        elif number in branches and wire == _LENGTH:
            assert isinstance(value, memoryview)
            if _walk(value, branches[number], depth + 1):
                return True
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield (field number, wire type, value) of each field of a message."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if number == 0 or key >= 1 << 32:  # other readers would cut the key off: no guessing
            raise ValueError(f"no field's number at byte {place}")
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield number, wire, value
            continue
        if wire == _LENGTH:
            length, place = _varint(data, place)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {wire} at byte {place}")
        if place + length > len(data):
            raise ValueError(f"a field at byte {place} reaches beyond the end")
        yield number, wire, data[place : place + length]
        place += length


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
