"""Where a saved StyleGAN2 generator of NVlabs keeps what ours needs: names and numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .pickle_tensors import StoredTensor


class LayoutError(Exception):
    """The module is not one that our generator can express; says what it is."""


@dataclass(frozen=True)
class SavedModule:
    """A module of a network pickle.

    Attributes:
        class_name: of its class.
        source: code of the class, as the file has it; never run.
        state: attributes by name; of PyTorch's own, `_parameters`, `_buffers` and `_modules`
            hold tensors and modules by name.
    """

    class_name: str
    source: str
    state: dict[Any, Any]

    def members(self, kind: str) -> dict[str, Any]:
        """Return those of `_parameters`, `_buffers` or `_modules` that are not None."""
        held = self.state.get(kind)
        wanted = SavedModule if kind == "_modules" else StoredTensor
        if not isinstance(held, dict):
            raise LayoutError(f"holds a {self.class_name} that is no PyTorch module")
        members = {key: value for key, value in held.items() if value is not None}
        for key, value in members.items():
            if not isinstance(key, str) or not isinstance(value, wanted):
                raise LayoutError(f"holds a {self.class_name} that is no PyTorch module")
        return members


@dataclass(frozen=True)
class Layout:
    """What our generator is to be made of.

    Attributes:
        config: the arguments of `GeneratorConfig`.
        tensors: by our names; leading axes of 1 may be missing.
        optional: those of our names that the file lacks, which are then zero.
        clamps: names of our modules whose output is cut to [-value, value].
        latent_dim: components of z.
        classes: of labels, 0 if there are none; with them our network's latents are z and an
            embedding of the label side by side, both normalised.
        embedding: weight and bias of that embedding.
    """

    config: dict[str, Any]
    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    clamps: dict[str, float] = field(default_factory=dict)
    latent_dim: int = 0
    classes: int = 0
    embedding: dict[str, StoredTensor] = field(default_factory=dict)


# The plain attributes that each class has in one of the repositories: a module with others is of
# another class of the same name, whose forward pass may be any.
_ATTRIBUTES = {
    "Generator": "z_dim c_dim w_dim img_resolution img_channels num_ws",
    "MappingNetwork": "z_dim c_dim w_dim num_ws num_layers w_avg_beta",
    "FullyConnectedLayer": "in_features out_features activation weight_gain bias_gain",
    "SynthesisNetwork": "w_dim img_resolution img_resolution_log2 img_channels block_resolutions "
    "num_ws num_fp16_res",
    "SynthesisBlock": "in_channels w_dim resolution img_channels is_last architecture use_fp16 "
    "channels_last fused_modconv_default num_conv num_torgb",
    "SynthesisLayer": "in_channels out_channels w_dim resolution up use_noise activation "
    "conv_clamp padding act_gain",
    "ToRGBLayer": "in_channels out_channels w_dim conv_clamp weight_gain",
}
_KNOWN = {name: {"training", *names.split()} for name, names in _ATTRIBUTES.items()}
_TENSORS = {"weight", "bias", "const", "w_avg", "noise_strength", "noise_const", "resample_filter"}
_FILTER = (1.0, 3.0, 3.0, 1.0)
_WHAT = "a StyleGAN2 network"
_LARGEST = 1e30


def find_layout(generator: SavedModule) -> Layout:
    """Return what our generator needs of theirs.

    Raises:
        LayoutError: if `generator` is of another class, or a variant that ours cannot express.
        PickleError: if a tensor that must be looked at is damaged.
    """
    return _Finder(generator).layout


class _Finder:
    def __init__(self, generator: SavedModule) -> None:
        parts = self._require_stylegan2(generator)
        size = self._whole(generator, "img_resolution")
        mapping, synthesis = parts["mapping"], parts["synthesis"]
        blocks = _checked(synthesis, "SynthesisNetwork", None)
        sizes = [2**power for power in range(2, size.bit_length())]
        if size != 2 ** (size.bit_length() - 1) or list(blocks) != [f"b{side}" for side in sizes]:
            raise LayoutError(f"is {_WHAT} of {size} pixels whose blocks are others")
        self.layout = Layout(
            {
                "size": size,
                "latent_dim": self._whole(generator, "z_dim"),
                "style_dim": self._whole(generator, "w_dim"),
                "mapping_layers": self._whole(mapping, "num_layers", most=64),
                "normalize_latent": True,
            },
            latent_dim=self._whole(generator, "z_dim"),
            classes=self._whole(generator, "c_dim", least=0),
        )
        self._noise: set[bool] = set()
        self._widths: dict[int, int] = {}
        self._read_mapping(mapping)
        for number, side in enumerate(sizes):
            self._read_block(blocks[f"b{side}"], number, side, side == size)
        if len(self._noise) != 1:
            raise LayoutError(f"is {_WHAT} with noise in some of its layers alone")
        self.layout.config["noise"] = self._noise.pop()
        self.layout.config.update(_channels(self._widths))

    def _require_stylegan2(self, generator: SavedModule) -> dict[str, SavedModule]:
        if generator.class_name != "Generator":
            known = {"SuperresGenerator": " (StyleGAN-XL)"}.get(generator.class_name, "")
            raise LayoutError(
                f"is a network pickle of the class {_shown(generator.class_name)}{known}, not of "
                "StyleGAN2's Generator"
            )
        parts = generator.members("_modules")
        synthesis = parts.get("synthesis")
        if synthesis is None or "mapping" not in parts:
            raise LayoutError("is a network pickle whose generator is none of StyleGAN2")
        inner = synthesis.members("_modules")
        if "input" in inner:
            raise LayoutError("is a network pickle of StyleGAN3 or StyleGAN-XL, not of StyleGAN2")
        colours = self._whole(generator, "img_channels")
        if colours != 3:
            raise LayoutError(f"is {_WHAT} of images of {colours} channels, not 3")
        for block in inner.values():
            architecture = block.state.get("architecture")
            if architecture != "skip":
                raise LayoutError(
                    f"is {_WHAT} of the architecture {_shown(architecture)}; ours is 'skip' alone"
                )
        return _checked(generator, "Generator", ["mapping", "synthesis"])

    def _read_mapping(self, mapping: SavedModule) -> None:
        count = self.layout.config["mapping_layers"]
        names = [f"fc{i}" for i in range(count)] + ["embed"] * bool(self.layout.classes)
        layers = _checked(mapping, "MappingNetwork", names)
        if self.layout.classes:
            self._read_embedding(mapping, layers["embed"])
        buffers = mapping.members("_buffers")
        if "w_avg" in buffers:
            self.layout.tensors["mapping.average"] = buffers["w_avg"]
        else:  # never asked for without truncation
            self.layout.optional.add("mapping.average")
        rates = set()
        for number in range(count):
            rates.add(self._read_dense(layers[f"fc{number}"], f"mapping.layers.{number}", "lrelu"))
        if len(rates) != 1:
            raise LayoutError(f"is {_WHAT} whose mapping layers learn at different rates")
        self.layout.config["mapping_rate"] = rates.pop()

    def _read_embedding(self, mapping: SavedModule, embed: SavedModule) -> None:
        """Take how labels go in: our network's latents are then longer, and normal already."""
        layout = self.layout
        self._require(mapping, "c_dim", layout.classes)
        if self._read_dense(embed, "embedding", "linear") != 1:
            raise LayoutError(f"is {_WHAT} whose embedding learns at another rate")
        for name in ("weight", "bias"):
            layout.embedding[name] = layout.tensors.pop(f"embedding.{name}")
        shape, bias = (layout.embedding[name].shape for name in ("weight", "bias"))
        if len(shape) != 2 or shape[1] != layout.classes or bias != shape[:1]:
            raise LayoutError(f"is {_WHAT} whose embedding of labels is {shape}")
        layout.config["latent_dim"] += shape[0]
        layout.config["normalize_latent"] = False

    def _read_block(self, block: SavedModule, number: int, side: int, last: bool) -> None:
        names = ["conv1", "torgb"] if number == 0 else ["conv0", "conv1", "torgb"]
        parts = _checked(block, "SynthesisBlock", names)
        key = f"blocks.{number}"
        if number == 0:
            self._take(block, "const", "constant")
        else:
            self._read_layer(parts["conv0"], f"{key}.up", 2)
        self._read_layer(parts["conv1"], f"{key}.keep", 1)
        _require_filter(block)
        self._widths[side] = parts["conv1"].members("_parameters")["weight"].shape[0]
        rgb = parts["torgb"]
        affine = _checked(rgb, "ToRGBLayer", ["affine"])["affine"]
        if self._read_dense(affine, f"{key}.rgb.style", "linear") != 1:
            raise LayoutError(f"is {_WHAT} whose styles learn at another rate")
        self._take(rgb, "weight", f"{key}.rgb.weight")
        self._take(rgb, "bias", f"{key}.rgb_bias")
        inputs = math.prod(rgb.members("_parameters")["weight"].shape[1:])
        self._require(rgb, "weight_gain", 1 / math.sqrt(inputs))
        self._note_clamp(rgb, key)

    def _read_layer(self, layer: SavedModule, key: str, up: int) -> None:
        affine = _checked(layer, "SynthesisLayer", ["affine"])["affine"]
        if self._read_dense(affine, f"{key}.convolution.style", "linear") != 1:
            raise LayoutError(f"is {_WHAT} whose styles learn at another rate")
        self._take(layer, "weight", f"{key}.convolution.weight")
        self._take(layer, "bias", f"{key}.bias")
        self._require(layer, "up", up)
        self._require(layer, "padding", 1)
        self._require(layer, "act_gain", math.sqrt(2))
        _require_activation(layer, "lrelu")
        _require_filter(layer)
        noise = layer.state.get("use_noise")
        self._noise.add(noise is True)
        if noise is True:
            self._take(layer, "noise_strength", f"{key}.strength")
            self._take(layer, "noise_const", f"{key}.noise", "_buffers")
        self._note_clamp(layer, key)

    def _read_dense(self, layer: SavedModule, key: str, activation: str) -> float:
        """Take weight and bias, and return the factor by which the layer learns more slowly."""
        _checked(layer, "FullyConnectedLayer")
        _require_activation(layer, activation)
        self._take(layer, "weight", f"{key}.weight")
        self._take(layer, "bias", f"{key}.bias")
        rate = _real(layer, "bias_gain")
        inputs = layer.members("_parameters")["weight"].shape[-1]
        self._require(layer, "weight_gain", rate / math.sqrt(inputs))
        return rate

    def _take(self, module: SavedModule, name: str, key: str, kind: str = "_parameters") -> None:
        found = module.members(kind)
        if name not in found or (name == "weight" and not found[name].shape):
            raise LayoutError(f"is {_WHAT} whose {module.class_name} has no {name}")
        self.layout.tensors[key] = found[name]

    def _note_clamp(self, module: SavedModule, key: str) -> None:
        if module.state.get("conv_clamp") is not None:
            most = _real(module, "conv_clamp")
            if not most >= 0:
                raise LayoutError(f"is {_WHAT} whose conv_clamp is {most:g}")
            self.layout.clamps[key] = most

    @staticmethod
    def _require(module: SavedModule, name: str, value: float) -> None:
        if not math.isclose(_real(module, name), value, rel_tol=1e-6):
            raise LayoutError(
                f"is {_WHAT} whose {module.class_name} has {name} {_real(module, name):g}, not "
                f"{value:g}"
            )

    @staticmethod
    def _whole(module: SavedModule, name: str, *, least: int = 1, most: int = 2**20) -> int:
        value = module.state.get(name)
        if type(value) is not int or not least <= value <= most:
            raise LayoutError(
                f"is a network pickle whose {module.class_name} has no sensible {name}"
            )
        return value


def _checked(
    module: SavedModule, class_name: str, parts: Sequence[str] | None = ()
) -> dict[str, SavedModule]:
    """Return the modules in `module`, if it is just what the class of that name is.

    Args:
        module: to look at.
        class_name: what its class must be called.
        parts: names of the modules that it must have; None leaves them open.
    """
    if module.class_name != class_name:
        raise LayoutError(f"is {_WHAT} with a {_shown(module.class_name)} for a {class_name}")
    for name, value in module.state.items():
        if isinstance(name, str) and name.startswith("_"):
            if "hooks" in name and value:
                raise LayoutError(f"is {_WHAT} whose {class_name} has hooks, code of its own")
        elif name not in _KNOWN[class_name]:
            raise LayoutError(
                f"is {_WHAT} of other code than NVlabs': its {class_name} has {_shown(name)}"
            )
    found: dict[str, SavedModule] = module.members("_modules")
    tensors = {*module.members("_parameters"), *module.members("_buffers")}
    odd = tensors - _TENSORS | (set() if parts is None else set(found) ^ set(parts))
    if odd:
        name = min(odd)
        how = "has" if name in tensors or name in found else "lacks"
        raise LayoutError(
            f"is {_WHAT} of other code than NVlabs': its {class_name} {how} {_shown(name)}"
        )
    return found


def _require_activation(module: SavedModule, name: str) -> None:
    activation = module.state.get("activation")
    if activation != name:
        raise LayoutError(f"is {_WHAT} with the activation {_shown(activation)}, not {name!r}")


def _require_filter(module: SavedModule) -> None:
    """Refuse another filter than the one that ours resamples with."""
    stored = module.members("_buffers").get("resample_filter")
    if stored is not None and stored.shape == (len(_FILTER), len(_FILTER)):
        total = sum(_FILTER) ** 2
        expected = [a * b / total for a in _FILTER for b in _FILTER]
        found = stored.read().flatten().tolist()
        if all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(found, expected, strict=True)):
            return
    raise LayoutError(f"is {_WHAT} with another filter than [1, 3, 3, 1] for its resampling")


def _shown(value: object) -> str:
    """Return a text of the file on one short line; of other things, only their type."""
    return ascii(value[:60]) if isinstance(value, str) else type(value).__name__


def _real(module: SavedModule, name: str) -> float:
    value: Any = module.state.get(name)
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not -_LARGEST < value < _LARGEST:
        raise LayoutError(f"is {_WHAT} whose {module.class_name} has no {name}")
    return float(value)


def _channels(widths: dict[int, int]) -> dict[str, int]:
    """Return `channel_base` and `channel_max` of a network with these channels by size.

    The least base that gives each width, min(base // size, max), is looked for: if that does
    not give all of them, none does.
    """
    most = max(widths.values())
    base = max(size * width for size, width in widths.items())
    if any(min(base // size, most) != width for size, width in widths.items()):
        shown = ", ".join(str(width) for width in widths.values())
        raise LayoutError(f"is {_WHAT} with channels ({shown}) that follow no rule of ours")
    return {"channel_base": base, "channel_max": most}
