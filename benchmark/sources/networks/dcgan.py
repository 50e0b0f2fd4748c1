"""DCGAN's generator from its tensors, after Radford et al. 2016 (arXiv:1511.06434).

The names are those of PyTorch's tutorial on it: one sequence ``main`` of transposed convolutions
of 4 x 4 without a bias, each but the last followed by batch normalisation and ReLU, the last by
tanh. The first makes 4 x 4 pixels of the latent, each further one doubles the side.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from shapeshd.benchmark.sources.stylegan.layout import LayoutError

from .named_tensors import NamedTensors

_STEP = 3  # modules of a layer: convolution, normalisation, ReLU
_KERNEL = 4
_MOST_LAYERS = 11  # 4096 pixels
_STATISTICS = ("weight", "bias", "running_mean", "running_var")


class _Dcgan(nn.Module):
    """Latents (n, latent_dim) to images (n, 3, H, W) in [-1, 1]."""

    def __init__(self, layers: list[tuple[int, int]]) -> None:
        super().__init__()
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (inputs, outputs) in enumerate(layers):
            stride, padding = (1, 0) if number == 0 else (2, 1)
            parts[str(_STEP * number)] = nn.ConvTranspose2d(
                inputs, outputs, _KERNEL, stride, padding, bias=False
            )
            if number < len(layers) - 1:
                parts[str(_STEP * number + 1)] = nn.BatchNorm2d(outputs)
                parts[str(_STEP * number + 2)] = nn.ReLU()
        self.main = nn.Sequential(parts)

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.main(z[:, :, None, None]).tanh()
        return images


def build_dcgan(tensors: Mapping[str, Tensor], name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return the generator whose tensors these are, and what it is, for JSON.

    Args:
        tensors: by the names of its ``state_dict``.
        name: of the file; messages begin with it, and it is not needed here.

    Raises:
        LayoutError: if they are not just those of a DCGAN of images with three channels.
    """
    left = NamedTensors(tensors, "a DCGAN")
    state: dict[str, Tensor] = {}
    layers: list[tuple[int, int]] = []
    while (key := f"main.{_STEP * len(layers)}.weight") in left or not layers:
        inputs = layers[-1][1] if layers else None
        weight = left.take(key, inputs, None, _KERNEL, _KERNEL)
        state[key] = weight
        layers.append((weight.shape[0], weight.shape[1]))
        if len(layers) > _MOST_LAYERS:
            raise LayoutError(f"is a DCGAN of more than {_MOST_LAYERS} layers")
    for number, (_, width) in enumerate(layers[:-1]):
        norm = f"main.{_STEP * number + 1}"
        state |= {f"{norm}.{one}": left.take(f"{norm}.{one}", width) for one in _STATISTICS}
        left.drop(f"{norm}.num_batches_tracked")
    left.require_empty()
    if len(layers) < 2 or layers[-1][1] != 3:
        raise LayoutError(f"is a DCGAN of {len(layers)} layers and {layers[-1][1]} channels, not 3")
    network = _Dcgan(layers)
    network.load_state_dict(state, strict=False)  # without the counts of batches, used in training
    return network, {"latent_dim": layers[0][0], "classes": None, "size": 2 ** (len(layers) + 1)}
