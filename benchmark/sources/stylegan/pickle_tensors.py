"""The tensors of a pickle, and the other values of a PyTorch module that was pickled whole.

PyTorch pickles a tensor outside of `torch.save` as a call of ``torch._utils._rebuild_tensor_v2``
on a storage, and the storage as ``torch.storage._load_from_bytes`` on a string of bytes that is a
file of `torch.save` of its own, of the format before 1.6: five small pickles (a magic number, the
version, the byte order, the storage's type and length as a persistent id, a list of keys), then
the length again and the bare numbers. It is read here by the same machine as the file around it,
with a table that holds the types of storages and nothing else.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .pickle_data import Name, Opaque, PickleError, Table, read_pickle

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_HEAD = 4096  # bytes, in which the five pickles lie; they take about 250
_TYPES = {"HalfStorage": "<f2", "FloatStorage": "<f4", "DoubleStorage": "<f8"}
_MOST_AXES = 8
_SCALARS = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i", "u1": "<B", "b1": "<?"}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a pickle before its numbers are read.

    Attributes:
        blob: a file of `torch.save` that holds its storage.
        offset: of its first number in the storage.
        shape: as the pickle says.
        stride: likewise, in numbers.
    """

    blob: bytes | memoryview
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> Tensor:
        """Return the tensor in float32; never larger than what is in the file.

        Raises:
            PickleError: if the storage is damaged or of another type than floats, or does not
                hold the tensor.
        """
        numbers = _read_storage(self.blob)
        count = math.prod(self.shape)
        if self.offset + count > len(numbers):
            raise PickleError(
                f"holds a tensor {self.shape} in a storage of {len(numbers):,} numbers"
            )
        # The axes from the slowest to the fastest: channels-last tensors lie so.
        order = sorted(range(len(self.shape)), key=lambda axis: -self.stride[axis])
        expected = 1
        for axis in reversed(order):
            if self.shape[axis] != 1 and self.stride[axis] != expected:
                raise PickleError(f"holds a tensor {self.shape} of strides {self.stride}")
            expected *= self.shape[axis]
        dense = numbers[self.offset : self.offset + count]
        dense = dense.reshape([self.shape[axis] for axis in order])
        return torch.from_numpy(dense.transpose(np.argsort(order)).astype(np.float32, order="C"))


class _Storage:
    """What `_load_from_bytes` is called for; its bytes are read when a tensor is."""

    def __init__(self, blob: object) -> None:
        if not isinstance(blob, (bytes, memoryview)):
            raise PickleError("holds a storage that is no string of bytes")
        self.blob = blob


class _Dtype:
    """A NumPy type of scalars: its kind and length, such as "f8"."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code
        self.order: object = "<"

    def build(self, state: object) -> None:
        """Take the byte order from the state."""
        self.order = state[1] if isinstance(state, tuple) and len(state) > 1 else None


def _rebuild_tensor(
    storage: object, offset: object, shape: object, stride: object, *_: object
) -> StoredTensor:
    sizes, steps = _numbers(shape), _numbers(stride)
    if not isinstance(storage, _Storage) or len(sizes) != len(steps) or 0 in sizes:
        raise PickleError("holds a tensor without a storage, or of an impossible shape")
    (first,) = _numbers((offset,))
    return StoredTensor(storage.blob, first, sizes, steps)


def _numbers(values: object) -> tuple[int, ...]:
    if isinstance(values, tuple) and len(values) <= _MOST_AXES:
        whole = tuple(v for v in values if type(v) is int and 0 <= v < 2**48)
        if len(whole) == len(values):
            return whole
    raise PickleError("holds a tensor of an impossible shape")


def _scalar(dtype: object, data: object) -> float | int | bool:
    form = _SCALARS.get(str(dtype.code)) if isinstance(dtype, _Dtype) else None
    if form is None or not isinstance(data, bytes) or len(data) != struct.calcsize(form):
        raise PickleError("holds a NumPy scalar that is no number")
    assert isinstance(dtype, _Dtype)
    swapped = form.replace("<", ">") if dtype.order == ">" else form
    value: float | int | bool = struct.unpack(swapped, data)[0]
    return value


def _parameter(data: object, *_: object) -> object:
    return data


def _dictionary(pairs: object = ()) -> dict[Any, Any]:
    if pairs:  # a dictionary's items come by instructions of their own
        raise PickleError("holds a dictionary made in an unknown way")
    return {}


def _set(values: object = ()) -> list[Any]:
    return list(values) if isinstance(values, list) else []


MODULE_TABLE: Table = {
    ("builtins", "set"): _set,
    ("collections", "OrderedDict"): _dictionary,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): _Storage,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): Opaque,
    **{
        (f"numpy.{core}.multiarray", name): call
        for core in ("core", "_core")
        for name, call in (("scalar", _scalar), ("_reconstruct", Opaque))
    },
}
"""What a pickled PyTorch module asks for, and our own stand-ins for it."""


@dataclass(frozen=True)
class _StorageInfo:
    dtype: str
    key: str
    count: int

    @classmethod
    def of_identity(cls, identity: object) -> _StorageInfo:
        """Take apart ("storage", type, key, device, numbers, view), a persistent id."""
        if isinstance(identity, tuple) and len(identity) in (5, 6) and identity[0] == "storage":
            kind, key, count = identity[1], identity[2], identity[4]
            if isinstance(kind, Name) and isinstance(key, str) and type(count) is int:
                if len(identity) == 6 and identity[5] is not None:
                    raise PickleError("holds a view of a storage")
                return cls(_TYPES[kind.name], key, count)
        raise PickleError("holds a storage of another form")


def _storage_type(*_: object) -> None:
    raise PickleError("calls the type of a storage")


_STORAGE_TABLE: Table = dict.fromkeys([("torch", name) for name in _TYPES], _storage_type)


def _read_storage(blob: bytes | memoryview) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the numbers of a storage: one axis, a view of `blob`."""
    head = bytes(blob[:_HEAD])
    magic, place = read_pickle(head, {})
    version, place = read_pickle(head, {}, start=place)
    if magic != _MAGIC or version != _VERSION:
        raise PickleError("holds a storage of another format")
    system, place = read_pickle(head, {}, start=place)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleError("holds a storage of another byte order")
    described, place = read_pickle(
        head, _STORAGE_TABLE, start=place, persistent=_StorageInfo.of_identity
    )
    keys, place = read_pickle(head, {}, start=place)
    if not isinstance(described, _StorageInfo) or keys != [described.key]:
        raise PickleError("holds a storage that is not exactly one")
    dtype, count = described.dtype, described.count
    size = np.dtype(dtype).itemsize
    whole = 0 <= count < 2**48 and len(blob) == place + 8 + size * count
    if not whole or blob[place : place + 8] != struct.pack("<q", count):
        raise PickleError(f"holds a storage that is not as long as its {count:,} numbers")
    return np.frombuffer(blob, dtype, count, place + 8)
