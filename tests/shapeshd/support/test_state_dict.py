"""Bare tensors: what wrappers put before their names is taken off, and files run no code."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.support.checkpoint import load_checkpoint, load_weights, save_checkpoint
from shapeshd.support.state_dict import fitting, read_tensors, unwrapped


def network() -> nn.Module:
    """A network with parameters and buffers, whose names do not all begin alike."""
    return nn.ModuleDict({"layer": nn.Linear(3, 2), "main": nn.Sequential(nn.BatchNorm1d(2))})


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one process, which `DistributedDataParallel` needs."""
    dist.init_process_group("gloo", f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def compiled_part(plain: Any) -> nn.Module:
    plain["main"] = torch.compile(plain["main"])
    return plain


WRAPPERS: dict[str, tuple[str, Callable[[nn.Module], nn.Module]]] = {
    "module.": ("DataParallel", nn.DataParallel),
    "module. ": ("DistributedDataParallel", nn.parallel.DistributedDataParallel),
    "_orig_mod.": ("compile", lambda plain: torch.compile(plain)),
    "module._orig_mod.": (
        "both", lambda plain: nn.parallel.DistributedDataParallel(torch.compile(plain))),
    "_orig_mod. ": ("a compiled part", compiled_part),
    "module.  ": ("an average", AveragedModel),
    "ema.": ("in another network", lambda plain: nn.ModuleDict({"ema": plain})),
}  # fmt: skip


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("case", WRAPPERS, ids=lambda case: WRAPPERS[case][0])
def test_a_wrapped_network_is_read_as_the_network_itself(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "shapeshd")
    torch.manual_seed(1)
    plain = network()
    expected = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    wrapped = WRAPPERS[case][1](copy.deepcopy(plain)).state_dict()
    assert wrapped.keys() != expected.keys()
    save_checkpoint(tmp_path / "w.safetensors", "network", wrapped, {})
    torch.save(wrapped, tmp_path / "w.pt")
    files = (
        load_checkpoint(tmp_path / "w.safetensors").tensors,
        read_tensors(tmp_path / "w.pt", "w.pt"),
        read_tensors(tmp_path / "w.safetensors", "w"),
    )
    for tensors in files:
        torch.manual_seed(2)
        found = network()
        assert not torch.equal(found["layer"].weight, expected["layer.weight"])  # type: ignore[index]
        load_weights(found, tensors, tmp_path / "w")
        for name, tensor in found.state_dict().items():
            assert torch.equal(tensor, expected[name])
    said = [record.message for record in caplog.records]
    assert len(said) == 3
    assert all(f"without the {case.strip()} in" in one and str(tmp_path) in one for one in said)


def test_names_that_fit_stay_though_all_begin_alike(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shapeshd")
    tensors = {"main.0.weight": torch.ones(1), "main.1.weight": torch.ones(1)}
    assert fitting(tensors, lambda left: "main.0.weight" in left, "x") == tensors
    assert not caplog.records
    assert [prefix for prefix, _ in unwrapped(tensors)] == ["", "main."]


def test_tensors_that_do_not_fit_keep_their_names() -> None:
    """So that the refusal names a tensor as the file does."""
    with pytest.raises(UsageError, match=r"w: lacks the tensor layer\.weight"):
        load_weights(network(), {"module.other": torch.ones(1)}, Path("w"))
    assert fitting({"module.a": torch.ones(1)}, lambda left: "b" in left, "x").keys() == {
        "module.a"
    }
    assert list(unwrapped({})) == [("", {})]


def test_two_names_never_become_one() -> None:
    tensors = {"a._orig_mod.w": torch.zeros(1), "a.w": torch.ones(1)}
    assert all(len(left) == 2 for _, left in unwrapped(tensors))


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def test_no_code_in_a_file_runs(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2), "trap": Trap(tmp_path / "marker")}, tmp_path / "trap.pt")
    with pytest.raises(ShapesHDError, match=r"^trap: holds no weights that can be read") as caught:
        read_tensors(tmp_path / "trap.pt", "trap", trust=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "marker").exists()


def test_what_is_no_state_dict_is_named(tmp_path: Path) -> None:
    several = {"g": {"w": torch.zeros(1)}, "args": 3, "g_ema": {}}
    for values, message in (
        (torch.zeros(2), "no dictionary of tensors"),
        ({1: torch.zeros(2)}, "no dictionary of tensors"),
        (several, r"more than a network's tensors \(g, args, g_ema\)"),
    ):
        torch.save(values, tmp_path / "x.pt")
        with pytest.raises(UsageError, match=f"^x: holds {message}"):
            read_tensors(tmp_path / "x.pt", "x")


def test_an_earlier_pytorch_must_be_trusted_with_a_pickle_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {"w": torch.arange(3.0)}
    torch.save(tensors, tmp_path / "x.pth")
    save_file(tensors, tmp_path / "x.safetensors")
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    with pytest.raises(UsageError, match=r"^x: PyTorch 2\.9\.1 .*trust"):
        read_tensors(tmp_path / "x.pth", "x")
    assert torch.equal(read_tensors(tmp_path / "x.pth", "x", trust=True)["w"], tensors["w"])
    assert torch.equal(read_tensors(tmp_path / "x.safetensors", "x")["w"], tensors["w"])
