"""A generator in a network pickle of NVlabs: StyleGAN2(-ADA), without running what is in it.

Such a ``.pkl`` holds whole modules with the source code of their classes, which their own loader
executes. Here the file is read as data (`pickle_data`); of ``G_ema`` the names of the classes, the
plain attributes and the tensors are taken, and these go into our own `Generator`. The source code
in the file is never looked at, so a file is refused whose modules, attributes, tensors or hooks
are not exactly those of the two repositories that write this architecture,
stylegan2-ada-pytorch and stylegan3 (``--cfg=stylegan2``).

What is exact: the equalised learning rates (both store weights of unit variance), the clamping of
activations (``conv_clamp``), the noise as ``noise_mode='const'`` has it: each layer's fixed noise
times its strength, so that an image depends on z alone (``--noise`` chooses another mode), and the
truncation of styles, w = w_avg + psi (w - w_avg) for the first ``truncation_cutoff`` of them. What
is not taken over: half precision (all is computed in float32, as their ``force_fp32``).

Compared once with the authors' code, run beside the project in float32 on a CPU
(``noise_mode='const'``, the same 16 z; weights, biases, noise strengths drawn at random; values of
standard deviation 1.8 to 3.0). The largest difference of any value was 9e-6 at 32 pixels without
noise, 1.3e-5 at 64 with noise, 8e-6 at 64 with noise and ``conv_clamp`` 2, and 1e-5 for a network
of stylegan3's ``stylegan2`` at 64. Of a class-conditional one (10 classes, 32 pixels, 8 samples)
2 of 24,576 levels of 0 to 255 differed, by 1. A file of 100 MB (256 pixels, 512 channels) is read
in 0.7 s.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapeshd.benchmark.sources.labels import choose_labels, refuse_labels
from shapeshd.benchmark.sources.networks.checkpoint import network_source, require_known_form
from shapeshd.benchmark.sources.networks.generator import GeneratorSource
from shapeshd.benchmark.sources.networks.style_options import apply_sampling
from shapeshd.benchmark.sources.options import ENTRY_HINT
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import ShapesHDError, UsageError, named
from shapeshd.models.networks.checkpoints import ClampedGenerator
from shapeshd.models.networks.generator import Generator, GeneratorConfig
from shapeshd.support.checkpoint import load_weights
from shapeshd.support.device import usable_device

from .layout import Layout, LayoutError, SavedModule, find_layout
from .pickle_data import ForbiddenNameError, PickleError, Table, read_pickle
from .pickle_tensors import MODULE_TABLE

KIND = "network-pickle"
MAX_BYTES = 4 * 2**30
"""The largest file that is read; StyleGAN2's largest networks take 0.4 GB."""

_TENSORFLOW = "dnnlib.tflib"
_EPSILON = 1e-8


def open_network_pickle(request: OpenRequest) -> GeneratorSource:
    """Open a network pickle of StyleGAN2(-ADA); its images are in [-1, 1] by definition.

    Nothing in it can run code, so trust is not asked for. With ``options.code_dir`` any network
    pickle is loaded by its authors' code instead, see `network_process`.

    Raises:
        UsageError: if it is another pickle, a network that our generator cannot express, or
            does not fit the options.
        ShapesHDError: if it is damaged.
    """
    name, options = request.name, request.options
    require_known_form(request, "a StyleGAN2 network's")
    place = usable_device(request.device)
    network, facts = load_network(request.path, name)
    facts |= apply_sampling(network, options, name)
    if not facts["classes"]:
        refuse_labels(options, name, "is a network without classes")
    labels = choose_labels(facts["classes"], name, options, "onehot") if facts["classes"] else None
    return network_source(
        network.to(place).eval(),
        facts["latent_dim"],
        request,
        place,
        kind=KIND,
        facts=facts,
        labels=labels,
    )


def load_network(path: Path, name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return the generator ``G_ema`` of a network pickle, on the CPU, and what it is.

    Args:
        path: the file.
        name: what the user called it, for messages.

    Returns:
        float32 latents (n, latent_dim), and one-hot labels (n, classes) if there are classes ->
        images (n, 3, size, size) in [-1, 1], clamped to it; and for JSON: ``latent_dim``,
        ``classes`` (None if there are none), ``noise``, ``activations_clamped_at``, and the
        SHA-256 of the source code in the file, which was not run.

    Raises:
        UsageError: as `open_network_pickle`.
        ShapesHDError: likewise.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UsageError(
            f"{name}: is a pickle of {size / 2**30:,.1f} GiB; at most {MAX_BYTES // 2**30} are "
            f"read: {ENTRY_HINT}"
        )
    data = path.read_bytes()
    if data[:1] != b"\x80":
        raise UsageError(f"{name}: is no pickle of protocol 2 or later")
    try:
        module = _find_generator(data, name)
        layout = find_layout(module)
        return build_network(layout, len(data), name), _facts(layout, module)
    except LayoutError as error:
        raise UsageError(f"{name}: {error}: {_code_hint()}") from None
    except ForbiddenNameError as error:
        if error.full_name.startswith(_TENSORFLOW):
            raise UsageError(
                f"{name}: is a pickle of StyleGAN's TensorFlow code, which is not read: convert it "
                "by legacy.py of NVlabs/stylegan2-ada-pytorch"
            ) from None
        raise UsageError(
            f"{name}: is a pickle, but it {error}, which no StyleGAN2 network needs; it could run "
            f"any code, so nothing of it was loaded: {_code_hint()}"
        ) from None
    except PickleError as error:
        raise ShapesHDError(
            f"{name}: is a pickle, but it {error}: {ENTRY_HINT} with {named('trust')}"
        ) from None


def _code_hint() -> str:
    return (
        f"if you know where it comes from, give {named('trust')}, and its authors' code as "
        f"{named('code_dir')}"
    )


def _persistent(meta: object) -> SavedModule:
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise PickleError("holds a module saved in an unknown way")
    name, source, state = meta.get("class_name"), meta.get("module_src"), meta.get("state")
    if not (isinstance(name, str) and isinstance(source, str) and isinstance(state, dict)):
        raise PickleError("holds a module saved in an unknown way")
    return SavedModule(name, source, state)


def _easy_dict(*arguments: object) -> dict[Any, Any]:
    if arguments:
        raise PickleError("holds a dictionary made in an unknown way")
    return {}


_TABLE: Table = {
    **MODULE_TABLE,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("dnnlib.util", "EasyDict"): _easy_dict,
}


def _find_generator(data: bytes, name: str) -> SavedModule:
    content, end = read_pickle(data, _TABLE)
    if end != len(data):
        raise PickleError(f"has {len(data) - end:,} bytes behind its end")
    module = content.get("G_ema") if isinstance(content, dict) else None
    if not isinstance(module, SavedModule):
        raise UsageError(
            f"{name}: is a pickle, but no network pickle of NVlabs (a dictionary with a generator "
            f"G_ema): {ENTRY_HINT} with {named('trust')}"
        )
    return module


def build_network(layout: Layout, size: int, name: str) -> nn.Module:
    """Return our generator with the weights of `layout`, which come from a file of `size` bytes."""
    try:
        config = GeneratorConfig(**layout.config)
    except UsageError as error:
        raise LayoutError(f"is a StyleGAN2 network that cannot be built here ({error})") from None
    if 2 * _numbers(config) > size:  # before any memory is taken for it
        raise PickleError("is smaller than the network that it describes")
    with torch.random.fork_rng(devices=[]):
        network = Generator(config)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    tensors = {key: torch.zeros(shape) for key, shape in shapes.items() if key in layout.optional}
    for key, stored in layout.tensors.items():
        shape = tuple(shapes[key])
        if not _fits(stored.shape, shape):
            raise LayoutError(
                f"is a StyleGAN2 network whose {key} would be {stored.shape}, where ours is {shape}"
            )
        tensors[key] = stored.read().reshape(shape)
    load_weights(network, tensors, Path(name))
    _clamp(network, layout)
    wrapped: nn.Module = ClampedGenerator(network)
    if layout.classes:
        parts = (layout.embedding[key].read() for key in ("weight", "bias"))
        return LabelledNetwork(wrapped, *parts)
    return wrapped


def _numbers(config: Any) -> int:
    """Return how many numbers the large tensors of a generator of this configuration hold."""
    style = config.style_dim
    count: int = style * (config.latent_dim + style * (config.mapping_layers - 1))
    for side in (2**power for power in range(2, config.size.bit_length())):
        inputs, outputs = (config.width(side // 2) if side > 4 else 0), config.width(side)
        count += (9 * outputs + style) * (inputs + outputs) + side**2 * config.noise
    return count


def _fits(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Tell whether a shape is the wanted one, up to leading axes of 1."""
    missing = len(wanted) - len(found)
    return missing >= 0 and wanted == (1,) * missing + found


def _clamp(network: nn.Module, layout: Layout) -> None:
    """Let the activations of `network` be cut where those of the file's network are."""
    for key, most in layout.clamps.items():
        part = network.get_submodule(key)

        def cut(_: nn.Module, __: Any, output: Any, most: float = most) -> Any:
            if isinstance(output, tuple):  # of a block: features, which its layers cut, and RGB
                return output[0], output[1].clamp(-most, most)
            return output.clamp(-most, most)

        part.register_forward_hook(cut)


def _facts(layout: Layout, module: SavedModule) -> dict[str, Any]:
    clamps = sorted(set(layout.clamps.values()))
    digest = hashlib.sha256(module.source.encode("utf-8", "replace")).hexdigest()
    return {
        "latent_dim": layout.latent_dim,
        "classes": layout.classes or None,
        "noise": "const" if layout.config["noise"] else "none",
        "activations_clamped_at": clamps[0] if len(clamps) == 1 else clamps or None,
        "source_not_run_sha256": digest,
    }


class LabelledNetwork(nn.Module):
    """A generator whose mapping network also sees an embedding of the class.

    Its input is z and the embedding, an affine function of the one-hot label, each scaled to a
    mean square of 1, side by side; after the conditional networks of Karras et al. 2020
    (arXiv:2006.06676).

    Args:
        network: latents (n, latent_dim + width) -> images; it normalises nothing itself.
        weight: of the embedding as it is stored, (width, classes), unit variance.
        bias: (width,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, network: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("weight", weight / weight.shape[1] ** 0.5)
        self.register_buffer("bias", bias)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Map latents (n, latent_dim) and one-hot labels (n, classes), float32, to images."""
        embedded = F.linear(labels, self.weight, self.bias)
        images: Tensor = self.network(torch.cat([_normalised(z), _normalised(embedded)], 1))
        return images


def _normalised(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + _EPSILON)
