"""Rehearses what a GPU would compute on PyTorch's device `meta`, where tensors have no values."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ANSWERS = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "bincount"}
_UNIQUE = {"_unique2", "unique_dim", "unique_consecutive", "_linalg_check_errors"}
_INDEXED = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}
_PRODUCTS = {
    F.conv1d, F.conv2d, F.conv_transpose2d, F.linear, torch.matmul, Tensor.matmul, torch.bmm,
    Tensor.__matmul__, torch.einsum, torch.conv2d, torch.conv_transpose2d, torch.baddbmm,
    F.scaled_dot_product_attention,
}  # fmt: skip


class Seen(TorchDispatchMode):
    """Notes what makes a program wait for a device, and the types of all tensors made there.

    A number that is asked of `meta` is 1, and what is copied from there is zeros, so that a
    program goes on as if it had been told.

    Args:
        device: type of the device.

    Attributes:
        waits: how often the program waited, by the module and function of this project that did.
        types: of tensors on the device.
    """

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.waits: Counter[str] = Counter()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        if torch.is_inference_mode_enabled():  # what is made of other operations comes here whole
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        there = [one for one in given if one.device.type == self.device]
        waits = bool(there) and name in _ANSWERS | _UNIQUE
        if there and name in _INDEXED:  # the places go there by a copy that waits
            waits = args[0].device.type == self.device and len(there) < len(given)
        moved = None
        if name in ("_to_copy", "copy_"):
            places = (
                (args[0].device, torch.device(kwargs.get("device") or args[0].device))
                if name == "_to_copy"
                else (args[1].device, args[0].device)
            )
            moved = [place.type for place in places]
            asynchronous = kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,))
            waits = moved[0] != moved[1] and self.device in moved and not asynchronous
        if waits:
            self.waits[_caller()] += 1
        if self.device == "meta" and there:
            if name == "_local_scalar_dense":
                return 1 if not args[0].is_floating_point() else 1.0
            if moved and moved[0] == "meta" and moved[1] == "cpu":
                asked = args[0] if name == "_to_copy" else args[1]
                dtype = kwargs.get("dtype") or asked.dtype
                zeros = torch.zeros(asked.shape, dtype=dtype)
                return args[0].copy_(zeros) if name == "copy_" else zeros
        made = func(*args, **kwargs)
        self.types |= {
            one.dtype
            for one in tree_leaves(made)
            if isinstance(one, Tensor) and one.device.type == self.device
        }
        return made


def _caller() -> str:
    """Return the module and function of this project that are at work."""
    frame: Any = sys._getframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("shapeshd.") and not module.endswith(".device"):
            return f"{module.rpartition('.')[2]}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


class _Casting(TorchFunctionMode):
    """Does on `meta`, which autocast does not know, what it does to products and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.short = [False]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _PRODUCTS and self.short[-1]:
            args = [_short(one) for one in args]
            kwargs = {key: _short(one) for key, one in kwargs.items()}
        return func(*args, **kwargs)


def _short(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_meta and value.dtype == torch.float32:
        return value.to(torch.bfloat16)
    return value


@contextmanager
def rehearsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Let the program compute on `meta`, with autocast, and note what it does.

    A tensor that was left on the CPU raises.
    """
    casting, autocast = _Casting(), torch.autocast

    @contextmanager
    def cast(kind: str, dtype: Any = None, enabled: bool = True, **more: Any) -> Iterator[None]:
        with ExitStack() as stack:
            if kind != "meta":
                stack.enter_context(autocast(kind, dtype, enabled, **more))
            casting.short.append(enabled if kind == "meta" else casting.short[-1])
            try:
                yield
            finally:
                casting.short.pop()

    enabled, format_of = torch.is_autocast_enabled, torch.get_autocast_dtype
    monkeypatch.setattr(torch, "autocast", cast)
    monkeypatch.setattr(
        torch,
        "is_autocast_enabled",
        lambda *kind: casting.short[-1] if kind == ("meta",) else enabled(*kind),
    )
    monkeypatch.setattr(
        torch,
        "get_autocast_dtype",
        lambda kind: torch.bfloat16 if kind == "meta" else format_of(kind),
    )
    with casting, Seen() as seen:
        yield seen
