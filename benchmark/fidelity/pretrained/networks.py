"""Features of the pretrained networks that the literature compares images by.

- ``inception:PATH``: the Inception network of FID, 2048 numbers of its last pooling, as
  torch-fidelity builds it; its file ``weights-inception-2015-12-05-6726825d.pth`` is the one to
  give. The network enlarges images to 299 x 299 itself, as TensorFlow did.
- ``vgg:PATH``: VGG16 of torchvision, the 4096 numbers of its second dense layer, on which
  precision and recall were published; torchvision's ``vgg16-397923af.pth``.
- either of these as TorchScript, with trust, called as ``network(images, return_features=True)``
  with uint8 images: so NVlabs' ``inception-2015-12-05.pt`` and ``vgg16.pt`` are.
- ``dinov2:PATH``: the class token of a DINOv2 vision transformer, as Stein et al. 2023 compare
  images by; Meta's ``dinov2_vitl14_pretrain.pth`` or another one without registers.
- ``clip:PATH``: what CLIP's image encoder gives; OpenAI's ``ViT-B-32.pt`` or another one of them,
  which is TorchScript, of which the tensors are taken, or a file of its tensors.

For the first two, images larger than a network's input are first resized with antialiasing; DINOv2
and CLIP are given them as torch-fidelity prepares them. A file of weights is read as tensors and
nothing else. Without a path the published weights are downloaded once, and checked by their digest.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import urllib.error
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapeshd.benchmark.sources.examine import is_torchscript
from shapeshd.benchmark.sources.trust import TORCHSCRIPT_RUNS, require_trust
from shapeshd.errors import (
    ShapesHDError,
    UsageError,
    explain,
    one_line,
)
from shapeshd.images.resize import resized
from shapeshd.support.device import moved, usable_device
from shapeshd.support.progress import note
from shapeshd.support.state_dict import fitting, read_tensors

from .vision_transformers import clip, dinov2, torch_fidelity_module

_SIDES = {"inception": 299, "vgg": 224}
_PROBED = 64  # pixels a side of an image that tells how many features a network gives
_BATCH = 32
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_FIRST = {
    "inception": "Conv2d_1a_3x3.conv.weight",
    "dinov2": "patch_embed.proj.weight",
    "clip": "visual.conv1.weight",
}
"""The name of each network's first tensor, by which it is told."""
_CLIP = "clip-vit-b-32"
_DINOV2 = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
_DINOV2_SHA256 = "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, of ImageNet


class PretrainedFeatures:
    """A network for images of its own size.

    Args:
        name: for a result.
        digest: SHA-256 of its file.
        network: uint8 (n, 3, H, W) on `device` -> (n, d).
        side: larger images are resized to so many pixels a side; None if it does that itself.
        device: where it computes.
        class_weights: (classes, d), by which the Inception score reads its features; None of
            other networks.

    Raises:
        ShapesHDError: if it gives something else.
    """

    def __init__(
        self,
        name: str,
        digest: str,
        network: Callable[[Tensor], Any],
        side: int | None,
        device: torch.device,
        class_weights: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.name, self.digest, self.class_weights = name, digest, class_weights
        self._network, self._side, self._device = network, side, device
        probe = torch.zeros(1, 3, side or _PROBED, side or _PROBED, dtype=torch.uint8)
        self.dimension = self(probe).shape[1]

    def __call__(self, images: Tensor) -> npt.NDArray[np.float32]:
        """Return float32 (n, d) for uint8 images (n, 3, H, W)."""
        found = [self._features(part) for part in images.split(_BATCH)]
        return np.concatenate(found)

    def _features(self, images: Tensor) -> npt.NDArray[np.float32]:
        part = moved(images, self._device)
        if self._side is not None and max(part.shape[-2:]) > self._side:
            part = resized(part, self._side)
        try:
            with torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
                values = self._network(part)
        except RuntimeError as error:  # TorchScript's own errors are of it
            raise ShapesHDError(f"{self.name}: fails on images ({explain(error)})") from error
        if not isinstance(values, Tensor) or values.ndim != 2 or len(values) != len(part):
            raise ShapesHDError(f"{self.name}: does not give a vector for each image")
        return values.float().cpu().numpy()


def load_pretrained(
    kind: str, path: Path, device: str | torch.device = "cpu", *, trust: bool = False
) -> PretrainedFeatures:
    """Load the network of a file.

    Args:
        kind: of `names.KINDS`.
        path: an existing file of weights: ``.safetensors``, what ``torch.save`` wrote, or
            TorchScript.
        device: where it computes.
        trust: run code that the file may hold.

    Raises:
        UsageError: if it holds other tensors, or it could run code.
        MissingPackageError: if torch-fidelity is needed and not installed.
        ShapesHDError: if the file is damaged.
    """
    name = f"{kind}:{path.name}"
    place = usable_device(str(device))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    build = {"inception": _inception, "vgg": _vgg, "dinov2": dinov2, "clip": clip}[kind]
    classes = None
    if not is_torchscript(path):
        tensors = read_tensors(path, name, trust=trust)
        if kind in _FIRST:
            tensors = dict(fitting(tensors, lambda left: _FIRST[kind] in left, name))
        network = build(tensors, place, name)
        classes = tensors["fc.weight"].float().numpy() if kind == "inception" else None
    elif kind == "clip":
        if digest not in _published_clips().values():
            require_trust(trust, name, "a TorchScript file holds code that runs when it is loaded")
        network = build(
            dict(_load_script(path, torch.device("cpu"), name).state_dict()), place, name
        )
    else:
        require_trust(trust, name, TORCHSCRIPT_RUNS)
        network = _script(path, place, name)
    return PretrainedFeatures(name, digest, network, _SIDES.get(kind), place, classes)


def _script(path: Path, device: torch.device, name: str) -> Callable[[Tensor], Any]:
    module = _load_script(path, device, name)
    return lambda images: module(images, return_features=True)


def _load_script(path: Path, device: torch.device, name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "use torch.export": the user's choice
        try:
            module: nn.Module = torch.jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise ShapesHDError(f"{name}: cannot be loaded ({explain(error)})") from error
    return module


def _inception(
    tensors: dict[str, Tensor], device: torch.device, name: str
) -> Callable[[Tensor], Any]:
    extractor = _inception_module(f"{name}: Inception")
    # Its own loader runs whatever a file holds: it gets a file of ours, with these tensors.
    with tempfile.TemporaryDirectory(prefix="shapeshd-") as folder:
        safe = Path(folder) / "weights.pth"
        torch.save(tensors, safe)
        try:
            network = extractor.FeatureExtractorInceptionV3(
                "inception", ["2048"], feature_extractor_weights_path=str(safe)
            )
        except RuntimeError as error:
            raise UsageError(f"{name}: holds other tensors than FID's Inception has") from error
    network = network.to(device)
    return lambda images: network(images)[0]


def _vgg(tensors: dict[str, Tensor], device: torch.device, name: str) -> Callable[[Tensor], Any]:
    from torchvision.models import vgg16

    with torch.device("meta"):  # random weights for nothing take seconds
        network = vgg16()
    names = network.state_dict().keys()
    tensors = dict(fitting(tensors, lambda left: left.keys() == names, name))
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise UsageError(f"{name}: holds other tensors than torchvision's VGG16") from error
    network.classifier = nn.Sequential(*network.classifier[:5])  # to the second ReLU
    network = network.to(device).float().eval().requires_grad_(False)
    mean, deviation = (
        torch.tensor(values, device=device).view(3, 1, 1) for values in (_MEAN, _DEVIATION)
    )
    side = (_SIDES["vgg"], _SIDES["vgg"])

    def features(images: Tensor) -> Tensor:
        values = images.float() / 255
        if values.shape[-2:] != side:
            values = F.interpolate(values, side, mode="bilinear", antialias=True)
        found: Tensor = network((values - mean) / deviation)
        return found

    return features


def published_weights(kind: str) -> Path:
    """Return the file of a public network's weights, downloading it if it is not there yet.

    It lies where `torch.hub` keeps such files (``TORCH_HOME``, else a cache in the user's home).

    Args:
        kind: of `names.KINDS`. Of DINOv2 that is ViT-L/14, of CLIP ViT-B/32.

    Raises:
        UsageError: if it cannot be downloaded.
        MissingPackageError: if the package that knows its address is not installed.
        ShapesHDError: if what is there, or came, has another digest than the published file.
    """
    otherwise = f"{kind}:PATH"
    if kind == "dinov2":
        return fetch_checked(_DINOV2, otherwise, _DINOV2_SHA256)
    if kind == "clip":
        digest = _published_clips()[_CLIP]
        url = f"{_clip_module().MODEL_BASE_URL}/{digest}/ViT-B-32.pt"
        return fetch_checked(url, otherwise, digest, f"{_CLIP}-{digest}.pt")
    return fetch_checked(_address(kind), otherwise)


def fetch_checked(
    url: str, otherwise: str, digest: str | None = None, name: str | None = None
) -> Path:
    """Download a file of a known digest, unless it is there.

    Args:
        url: such as ``https://.../vgg16-397923af.pth``.
        otherwise: what to give if that does not work, for the message.
        digest: its SHA-256, or the first digits of it; by default those in which its name ends.
        name: under which to keep it; by default the one of `url`.

    Raises:
        UsageError: if it cannot be downloaded.
        ShapesHDError: if its digest is another one; what was downloaded is then deleted.
    """
    name = name or url.rpartition("/")[2]
    if digest is None:
        match = _DIGEST_IN_NAME.search(name)
        assert match is not None, name
        digest = match[1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        note(f"downloading {url} to {path.parent}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), digest, progress=False)
        except RuntimeError as error:  # another digest
            raise ShapesHDError(
                f"{url}: is not the file that was published ({one_line(error)})"
            ) from None
        except (urllib.error.URLError, OSError) as error:
            raise UsageError(
                f"{url}: cannot be downloaded ({one_line(error)}): give the weights as {otherwise}"
            ) from None
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest):
        raise ShapesHDError(f"{path}: is damaged: delete it, and it is downloaded again")
    return path


def _clip_module() -> Any:
    return torch_fidelity_module(
        lambda: import_module("torch_fidelity.feature_extractor_clip"), "CLIP"
    )


def _published_clips() -> dict[str, str]:
    """Return the SHA-256 of OpenAI's files by torch-fidelity's names."""
    return {name: str(entry["hash"]) for name, entry in _clip_module().MODEL_METADATA.items()}


def _address(kind: str) -> str:
    if kind == "vgg":
        from torchvision.models import VGG16_Weights

        url: str = VGG16_Weights.IMAGENET1K_V1.url
        return url
    return str(_inception_module("Inception").URL_INCEPTION_V3)


def _inception_module(needed_for: str) -> Any:
    return torch_fidelity_module(
        lambda: import_module("torch_fidelity.feature_extractor_inceptionv3"), needed_for
    )
