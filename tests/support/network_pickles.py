"""Writes pickles of the structure that NVlabs' persistence gives them, from a generator of ours.

Modules are saved with the name of their class, its source code and their state. Nothing here is
theirs: the names of classes, attributes and tensors are facts of the format.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shapeshd.models.networks.generator import Generator, GeneratorConfig
from shapeshd.models.networks.layers import EqualLinear, ModulatedConv

Run = Callable[..., tuple[int, str, str]]

MARKER = "marker-of-code-that-ran"
SOURCE = f"open({MARKER!r}, 'w')  # the code of the classes, which must not run\n"
KERNEL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


class Saved(nn.Module):
    """A module that pickles itself by name, source and state."""

    def __init__(self, saved_as: str, tensors: dict[str, Tensor], **attributes: Any) -> None:
        super().__init__()
        for name, value in tensors.items():
            if name in ("resample_filter", "noise_const", "w_avg"):
                self.register_buffer(name, value.clone())
            else:
                self.register_parameter(name, nn.Parameter(value.clone(), requires_grad=False))
        for name, attribute in attributes.items():
            setattr(self, name, attribute)
        self.__dict__["_saved_as"] = saved_as

    def __reduce__(self) -> Any:
        state = {key: value for key, value in self.__dict__.items() if key != "_saved_as"}
        meta = {
            "type": "class",
            "version": 6,
            "module_src": SOURCE,
            "class_name": self._saved_as,
            "state": state,
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,), None


@contextmanager
def fake_modules() -> Iterator[type]:
    """Let `pickle` find what the files ask for; gone afterwards. Yields the class EasyDict."""
    made = {name: ModuleType(name) for name in _NAMES}

    def rebuild(meta: Any) -> None:
        raise AssertionError("a pickle was run")

    rebuild.__module__, rebuild.__qualname__ = "torch_utils.persistence", rebuild.__name__
    rebuild.__name__ = rebuild.__qualname__ = "_reconstruct_persistent_obj"
    made["torch_utils.persistence"]._reconstruct_persistent_obj = rebuild  # type: ignore[attr-defined]
    easy = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    made["dnnlib.util"].EasyDict = easy  # type: ignore[attr-defined]
    assert not made.keys() & sys.modules.keys()
    sys.modules.update(made)
    try:
        yield easy
    finally:
        for name in made:
            del sys.modules[name]


_NAMES = ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")


def tiny_generator(noise: bool = True, **changes: Any) -> Generator:
    """Return a generator of 16 pixels whose biases and noise are not zero."""
    config = {"size": 16, "channel_base": 96, "channel_max": 10, "latent_dim": 6, "style_dim": 5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = Generator(
            GeneratorConfig(**{**config, "mapping_layers": 2, "noise": noise, **changes})
        )
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith(("bias", "strength")):
                    parameter.add_(0.3 * torch.randn_like(parameter))
            network.mapping.average.normal_()
    return network.eval()


def saved(ours: Generator, clamp: float | None = None) -> Saved:
    """Return `ours` as a module of theirs."""
    config = ours.config
    blocks: dict[str, Saved] = {}
    for block in ours.blocks:
        part: Any = block
        side = 4 if part.up is None else 4 * 2 ** len(blocks)
        tensors = {"resample_filter": KERNEL}
        if part.up is None:
            tensors["const"] = ours.constant[0]
        module = Saved(
            "SynthesisBlock", tensors, architecture="skip", use_fp16=False, is_last=False,
            resolution=side, num_conv=part.convolutions, num_torgb=1,
        )  # fmt: skip
        if part.up is not None:
            module.conv0 = _layer(part.up, side, 2, clamp)
        module.conv1 = _layer(part.keep, side, 1, clamp)
        module.torgb = Saved(
            "ToRGBLayer", {"weight": part.rgb.weight, "bias": part.rgb_bias}, conv_clamp=clamp,
            weight_gain=np.float64(1 / math.sqrt(part.rgb.weight.shape[1])),
        )  # fmt: skip
        module.torgb.affine = _dense(part.rgb.style, "linear")
        blocks[f"b{side}"] = module
    synthesis = Saved("SynthesisNetwork", {}, img_resolution=config.size, num_fp16_res=2)
    for name, module in blocks.items():
        setattr(synthesis, name, module)
    layers = config.mapping_layers
    mapping = Saved("MappingNetwork", {"w_avg": ours.mapping.average}, num_layers=layers)
    for number, layer in enumerate(ours.mapping.layers):
        setattr(mapping, f"fc{number}", _dense(layer, "lrelu"))
    whole = Saved(
        "Generator", {}, z_dim=config.latent_dim, c_dim=0, w_dim=config.style_dim,
        img_resolution=config.size, img_channels=3, num_ws=ours.layers,
    )  # fmt: skip
    vars(whole)["_init_kwargs"] = {"z_dim": config.latent_dim}
    whole.synthesis, whole.mapping = synthesis, mapping
    return whole


def _layer(part: Any, side: int, up: int, clamp: float | None) -> Saved:
    convolution: ModulatedConv = part.convolution
    tensors = {"weight": convolution.weight, "bias": part.bias, "resample_filter": KERNEL}
    if part.strength is not None:
        tensors |= {"noise_strength": part.strength, "noise_const": part.noise[0, 0]}
    layer = Saved(
        "SynthesisLayer", tensors, resolution=side, up=up, use_noise=part.strength is not None,
        activation="lrelu", conv_clamp=clamp, padding=1, act_gain=np.float64(math.sqrt(2)),
    )  # fmt: skip
    layer.affine = _dense(convolution.style, "linear")
    return layer


def _dense(layer: Any, activation: str) -> Saved:
    assert isinstance(layer, EqualLinear)
    return Saved(
        "FullyConnectedLayer", {"weight": layer.weight, "bias": layer.bias}, activation=activation,
        bias_gain=layer.rate, weight_gain=np.float64(layer.scale),
    )  # fmt: skip


def write(path: Path, generator: Any, protocol: int = 4, **content: Any) -> Path:
    """Write a network pickle whose G_ema is `generator`; it is whole, or changed by a test."""
    with fake_modules() as easy:
        data = {"training_set_kwargs": easy(path="x", size=3), "G": None, "D": None}
        data |= {"augment_pipe": None, "G_ema": generator, **content}
        path.write_bytes(pickle.dumps(data, protocol=protocol))
    return path


class Call:
    """Pickles as a call: what is called while a naive reader loads it."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.how = (function, arguments)

    def __reduce__(self) -> Any:
        return self.how


def storage_file(value: Any, numbers: bytes = b"\0" * 16, count: int = 4) -> bytes:
    """Return a storage as `torch.save` wrote it before PyTorch 1.6.

    Args:
        value: pickled in place of the storage; None for a right one.
        numbers: the bytes behind the length.
        count: of numbers that there are said to be.
    """

    class Pickler(pickle.Pickler):
        def persistent_id(self, found: Any) -> Any:
            if isinstance(found, str) and found == "the storage":
                return "storage", torch.FloatStorage, "key", "cpu", count, None
            return None

    file = io.BytesIO()
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    for head in (0x1950A86A20F9469CFC6C, 1001, system):
        pickle.dump(head, file, protocol=2)
    Pickler(file, protocol=2).dump("the storage" if value is None else value)
    pickle.dump(["key"], file, protocol=2)
    return file.getvalue() + struct.pack("<q", count) + numbers


def change(theirs: Saved, where: str, name: str, value: Any) -> Saved:
    module = theirs.get_submodule(where) if where else theirs
    setattr(module, name, value)
    return theirs


def refused(run: Run, status: int, *options: object, name: str = "net.pkl") -> str:
    """Return the one line in which `shapeshd score` refuses the file."""
    base = ["score", name, "--samples", 6000, "--device", "cpu", *options]
    found, out, err = run(*base)
    lines = err.splitlines()
    assert (found, out, len(lines)) == (status, "", 1), err
    assert lines[0].startswith(f"shapeshd: error: {name}: ") and "internal" not in lines[0]
    assert lines[0].isprintable()
    assert not Path(MARKER).exists()
    return lines[0]
