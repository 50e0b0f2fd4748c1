"""A StyleGAN2(-ADA) generator from tensors named as NVlabs' ``G_ema.state_dict()`` names them.

The tensors are put into the form of a network pickle (`SavedModule`) and go the same way. What a
state_dict does not say is taken as the repositories' defaults have it: the mapping network learns
at a hundredth of the rate, activations are not clamped. (Training with half precision clamps
them at 256, which float32 hardly ever reaches.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from shapeshd.benchmark.sources.networks.named_tensors import NamedTensors

from .layout import LayoutError, SavedModule, find_layout
from .network_pickle import build_network
from .pickle_tensors import StoredTensor

_MAPPING_RATE = 0.01
_SIDES = [2**power for power in range(2, 13)]


@dataclass(frozen=True)
class LoadedTensor(StoredTensor):
    """A tensor that is in memory already.

    Attributes:
        tensor: float32.
    """

    tensor: Tensor

    def read(self) -> Tensor:
        """Return the tensor."""
        return self.tensor


def build_stylegan2(tensors: Mapping[str, Tensor], name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return the generator whose tensors these are, and what it is, for JSON.

    Args:
        tensors: by the names of ``G_ema.state_dict()``.
        name: of the file, for messages.

    Raises:
        LayoutError: if they are not just those of a StyleGAN2 generator that ours can express.
    """
    generator = _Reader(tensors).generator
    layout = find_layout(generator)
    size = 4 * sum(tensor.numel() for tensor in tensors.values())
    network = build_network(layout, size, name)
    return network, {
        "latent_dim": layout.latent_dim,
        "classes": layout.classes or None,
        "size": layout.config["size"],
        "noise": "const" if layout.config["noise"] else "none",
        "assumed": {"mapping_rate": _MAPPING_RATE, "activations_clamped_at": None},
    }


class _Reader:
    """Makes the modules that a network pickle would have, from the tensors' names and shapes."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = left = NamedTensors(tensors, "a StyleGAN2 generator")
        sides = [side for side in _SIDES if f"synthesis.b{side}.torgb.weight" in left]
        if not sides:
            raise LayoutError(
                "holds no tensor synthesis.b4.torgb.weight: is no state_dict of NVlabs' StyleGAN2"
            )
        self._style = left.take("mapping.w_avg", None)
        width = self._style.shape[0]
        mapping, latent, classes = self._mapping(width)
        blocks = {f"b{side}": self._block(f"synthesis.b{side}", side, width) for side in sides}
        left.require_empty()
        shared = {"w_dim": width, "img_resolution": sides[-1], "img_channels": 3}
        self.generator = _module(
            "Generator",
            {**shared, "z_dim": latent, "c_dim": classes},
            modules={"mapping": mapping, "synthesis": _module("SynthesisNetwork", shared, blocks)},
        )

    def _mapping(self, width: int) -> tuple[SavedModule, int, int]:
        """Return the mapping network, the components of a latent, and the number of classes."""
        left = self._left
        layers: dict[str, SavedModule] = {}
        inputs = 0
        classes, embedded = 0, 0
        if "mapping.embed.weight" in left:
            layers["embed"], classes = self._dense("mapping.embed", "linear", 1.0)
            embedded = layers["embed"].members("_parameters")["weight"].shape[0]
        count = 0
        while f"mapping.fc{count}.weight" in left or not count:
            layer, fan_in = self._dense(f"mapping.fc{count}", "lrelu", _MAPPING_RATE)
            layers[f"fc{count}"] = layer
            inputs = fan_in if count == 0 else inputs
            count += 1
        state = {"c_dim": classes, "w_dim": width, "num_layers": count}
        buffers = {"w_avg": _loaded(self._style)}
        return _module("MappingNetwork", state, layers, buffers=buffers), inputs - embedded, classes

    def _block(self, key: str, side: int, width: int) -> SavedModule:
        first = side == _SIDES[0]
        parameters, modules = {}, {}
        if first:
            parameters["const"] = _loaded(self._left.take(f"{key}.const", None, side, side))
        else:
            modules["conv0"] = self._layer(f"{key}.conv0", side, width, up=2)
        modules["conv1"] = self._layer(f"{key}.conv1", side, width, up=1)
        modules["torgb"] = self._rgb(f"{key}.torgb", width)
        state = {"architecture": "skip", "resolution": side, "img_channels": 3}
        return _module(
            "SynthesisBlock", state, modules, parameters, {"resample_filter": self._filter(key)}
        )

    def _layer(self, key: str, side: int, width: int, *, up: int) -> SavedModule:
        left = self._left
        weight = left.take(f"{key}.weight", None, None, 3, 3)
        parameters = {
            "weight": _loaded(weight),
            "bias": _loaded(left.take(f"{key}.bias", weight.shape[0])),
        }
        buffers = {"resample_filter": self._filter(key)}
        noise = f"{key}.noise_strength" in left
        if noise:
            parameters["noise_strength"] = _loaded(left.take(f"{key}.noise_strength"))
            buffers["noise_const"] = _loaded(left.take(f"{key}.noise_const", side, side))
        affine = self._affine(f"{key}.affine", weight.shape[1], width)
        state = {"up": up, "use_noise": noise, "activation": "lrelu", "padding": 1}
        state |= {"act_gain": math.sqrt(2), "conv_clamp": None}
        return _module("SynthesisLayer", state, {"affine": affine}, parameters, buffers)

    def _rgb(self, key: str, width: int) -> SavedModule:
        weight = self._left.take(f"{key}.weight", 3, None, 1, 1)
        inputs = weight.shape[1]
        parameters = {
            "weight": _loaded(weight),
            "bias": _loaded(self._left.take(f"{key}.bias", 3)),
        }
        affine = self._affine(f"{key}.affine", inputs, width)
        state = {"weight_gain": 1 / math.sqrt(inputs), "conv_clamp": None}
        return _module("ToRGBLayer", state, {"affine": affine}, parameters)

    def _affine(self, key: str, outputs: int, width: int) -> SavedModule:
        affine, _ = self._dense(key, "linear", 1.0, outputs, width)
        return affine

    def _dense(
        self,
        key: str,
        activation: str,
        rate: float,
        outputs: int | None = None,
        inputs: int | None = None,
    ) -> tuple[SavedModule, int]:
        weight = self._left.take(f"{key}.weight", outputs, inputs)
        bias = self._left.take(f"{key}.bias", weight.shape[0])
        gain = rate / math.sqrt(weight.shape[1])
        state = {"activation": activation, "bias_gain": rate, "weight_gain": gain}
        parameters = {"weight": _loaded(weight), "bias": _loaded(bias)}
        return _module("FullyConnectedLayer", state, parameters=parameters), weight.shape[1]

    def _filter(self, key: str) -> StoredTensor:
        return _loaded(self._left.take(f"{key}.resample_filter", 4, 4))


def _loaded(tensor: Tensor) -> LoadedTensor:
    return LoadedTensor(b"", 0, tuple(tensor.shape), tuple(tensor.stride()), tensor)


def _module(
    class_name: str,
    state: Mapping[str, Any],
    modules: Mapping[str, SavedModule] | None = None,
    parameters: Mapping[str, StoredTensor] | None = None,
    buffers: Mapping[str, StoredTensor] | None = None,
) -> SavedModule:
    held = {"_modules": modules, "_parameters": parameters, "_buffers": buffers}
    return SavedModule(
        class_name, "", {**state, **{kind: dict(members or {}) for kind, members in held.items()}}
    )
