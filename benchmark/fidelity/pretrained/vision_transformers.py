"""The networks DINOv2 and CLIP, from files of their tensors, behind torch-fidelity's preprocessing.

torch-fidelity 0.4 reads CLIP as TorchScript and fetches DINOv2's code from GitHub: both run what
they load. Here the tensors alone are taken: CLIP into torch-fidelity's own network, DINOv2 into the
vision transformer below. Images are prepared by torch-fidelity in both cases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapeshd.errors import MissingPackageError, UsageError, explain

_HEAD = 64  # values of an attention head, in every published DINOv2
_EPSILON = 1e-6
_OFFSET = 0.1  # that the published models add to the grid they interpolate positions to

Network = Callable[[Tensor], Any]


class DinoVisionTransformer(nn.Module):
    """The vision transformer of DINOv2 without registers, for its published tensors.

    Dosovitskiy et al. 2021, with the layer scale of Touvron et al. 2021 and, in the largest one,
    the SwiGLU of Shazeer 2020; Oquab et al. 2024. The form is read from the tensors.

    Args:
        tensors: by the names of ``dinov2_vitl14_pretrain.pth`` and its like.

    Raises:
        KeyError: if one is missing.
        ValueError: if one has another shape, or there are others.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        patches = tensors["patch_embed.proj.weight"]
        self.width, self.patch = patches.shape[0], patches.shape[-1]
        self.depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
        self.gated = "blocks.0.mlp.w12.weight" in tensors
        shapes = self._shapes(tensors)
        for name, shape in shapes.items():
            if tensors[name].shape != torch.Size(shape):
                raise ValueError(f"{name} is of shape {tuple(tensors[name].shape)}, not {shape}")
        if others := tensors.keys() - shapes.keys() - {"mask_token"}:  # of its training
            raise ValueError(f"{min(others)} is a tensor too many")
        self.tensors = nn.ParameterDict(
            {name.replace(".", "/"): tensors[name].detach().float() for name in shapes}
        ).requires_grad_(False)

    def _shapes(self, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        width, places = self.width, tensors["pos_embed"].shape[1]
        if width % _HEAD or not self.depth or round((places - 1) ** 0.5) ** 2 != places - 1:
            raise ValueError(f"{width} channels, {self.depth} blocks and {places} positions")
        hidden = tensors[f"blocks.0.mlp.{'w3' if self.gated else 'fc2'}.weight"].shape[-1]
        first, second = ("w12", "w3") if self.gated else ("fc1", "fc2")
        inner = {
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            f"mlp.{first}": (hidden * (2 if self.gated else 1), width),
            f"mlp.{second}": (width, hidden),
        }
        shapes: dict[str, tuple[int, ...]] = {
            "cls_token": (1, 1, width),
            "pos_embed": (1, places, width),
            "patch_embed.proj.weight": (width, 3, self.patch, self.patch),
            "patch_embed.proj.bias": (width,),
            "norm.weight": (width,),
            "norm.bias": (width,),
        }
        for number in range(self.depth):
            block = f"blocks.{number}."
            for name, (rows, columns) in inner.items():
                shapes[f"{block}{name}.weight"] = (rows, columns)
                shapes[f"{block}{name}.bias"] = (rows,)
            for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
                shapes[block + name] = (width,)
            shapes |= {f"{block}ls1.gamma": (width,), f"{block}ls2.gamma": (width,)}
        return shapes

    def forward(self, images: Tensor) -> Tensor:
        """Return the class token after the last norm, (n, width), for float (n, 3, H, W)."""
        tokens = F.conv2d(images, *self._pair("patch_embed.proj"), stride=self.patch)
        rows, columns = tokens.shape[-2:]
        tokens = tokens.flatten(2).transpose(1, 2)
        tokens = torch.cat((self._get("cls_token").expand(len(images), -1, -1), tokens), 1)
        tokens = tokens + self._positions(rows, columns)
        for number in range(self.depth):
            block = f"blocks.{number}."
            attended = self._attention(block, self._norm(block + "norm1", tokens))
            tokens = tokens + self._get(block + "ls1.gamma") * attended
            mixed = self._mlp(block + "mlp.", self._norm(block + "norm2", tokens))
            tokens = tokens + self._get(block + "ls2.gamma") * mixed
        return self._norm("norm", tokens[:, 0])

    def _get(self, name: str) -> Tensor:
        return self.tensors[name.replace(".", "/")]

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self._get(f"{name}.weight"), self._get(f"{name}.bias")

    def _norm(self, name: str, tokens: Tensor) -> Tensor:
        return F.layer_norm(tokens, (self.width,), *self._pair(name), _EPSILON)

    def _attention(self, block: str, tokens: Tensor) -> Tensor:
        count, length = tokens.shape[:2]
        values = F.linear(tokens, *self._pair(block + "attn.qkv"))
        query, key, value = values.view(count, length, 3, -1, _HEAD).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value)
        return F.linear(found.transpose(1, 2).flatten(2), *self._pair(block + "attn.proj"))

    def _mlp(self, mlp: str, tokens: Tensor) -> Tensor:
        if not self.gated:
            return F.linear(
                F.gelu(F.linear(tokens, *self._pair(mlp + "fc1"))), *self._pair(mlp + "fc2")
            )
        gate, value = F.linear(tokens, *self._pair(mlp + "w12")).chunk(2, -1)
        return F.linear(F.silu(gate) * value, *self._pair(mlp + "w3"))

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Return the positions' embedding for a grid of patches: (1, 1 + rows * columns, width)."""
        places = self._get("pos_embed")
        side = round((places.shape[1] - 1) ** 0.5)
        if (rows, columns) == (side, side):
            return places
        grid = places[:, 1:].view(1, side, side, -1).permute(0, 3, 1, 2)
        scale = ((rows + _OFFSET) / side, (columns + _OFFSET) / side)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat((places[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)), 1)


def dinov2(tensors: dict[str, Tensor], device: torch.device, name: str) -> Network:
    """Return DINOv2 for uint8 images (n, 3, H, W): its class token, (n, 384) to (n, 1536).

    Raises:
        UsageError: if the tensors are those of another network.
        MissingPackageError: if torch-fidelity is not installed.
    """
    module = torch_fidelity_module(
        lambda: import_module("torch_fidelity.feature_extractor_dinov2"), f"{name}: features"
    )
    try:
        model = DinoVisionTransformer(tensors)
    except (KeyError, ValueError, IndexError) as error:
        raise UsageError(
            f"{name}: holds other tensors than a DINOv2 without registers ({error})"
        ) from None
    return _extractor(module.FeatureExtractorDinoV2, "dinov2-vit-l-14", "dinov2", model, device)


def clip(tensors: dict[str, Tensor], device: torch.device, name: str) -> Network:
    """Return the image encoder of CLIP for uint8 images (n, 3, H, W): (n, 512) and more.

    Raises:
        UsageError: if the tensors are those of another network.
        MissingPackageError: if torch-fidelity is not installed.
    """
    module = torch_fidelity_module(
        lambda: import_module("torch_fidelity.feature_extractor_clip"), f"{name}: features"
    )
    given = {key: value for key, value in tensors.items() if key.startswith("visual.")}
    wrong = f"{name}: holds other tensors than CLIP's image encoder"
    if not given:
        raise UsageError(f"{wrong}: none is called visual.*, the first {next(iter(tensors), '')!r}")
    try:
        # torch-fidelity reads the number of features from the text encoder, which nothing else
        # here needs: so a file of the image encoder alone will do.
        last = given.get("visual.proj")
        dimension = (
            given["visual.attnpool.c_proj.weight"].shape[0] if last is None else last.shape[1]
        )
        given["text_projection"] = torch.empty(0, dimension)
        model = module.build_model(given, torch.float32)
    except (KeyError, RuntimeError, AssertionError, ValueError, IndexError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else explain(error)
        raise UsageError(f"{wrong} ({missing})") from None
    return _extractor(module.FeatureExtractorCLIP, "clip-vit-b-32", "clip", model, device)


def torch_fidelity_module(load: Callable[[], Any], needed_for: str) -> Any:
    """Return the module of torch-fidelity that `load` imports, or say how to install it.

    Raises:
        MissingPackageError: if torch-fidelity is not installed; it says what it is needed for.
    """
    try:
        return load()
    except ImportError:
        raise MissingPackageError.of("torch-fidelity", "fidelity", needed_for) from None


def _extractor(kind: Any, name: str, layer: str, model: nn.Module, device: torch.device) -> Network:
    """Return torch-fidelity's extractor around a network that was loaded here."""

    class Extractor(kind):
        def __init__(self) -> None:
            super(kind, self).__init__(name, [layer])  # its own would load a network
            self.feature_extractor_internal_dtype = torch.float32
            self.model = model
            visual: Any = getattr(model, "visual", None)
            if visual is not None:
                self.resolution = visual.input_resolution

    extractor = Extractor().to(device).eval().requires_grad_(False)
    return lambda images: extractor(images)[0]
