"""Weights of public networks: downloaded once, and checked by the digest in their names."""

from __future__ import annotations

import hashlib
import re
import urllib.error
from importlib import import_module
from pathlib import Path

import torch

from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError, one_line
from shapeshd.support.progress import note

_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def published_weights(kind: str) -> Path:
    """Return the file of a public network's weights, downloading it if it is not there yet.

    It lies where `torch.hub` keeps such files (``TORCH_HOME``, else a cache in the user's home).

    Args:
        kind: "inception" or "vgg".

    Raises:
        UsageError: if it cannot be downloaded.
        MissingPackageError: if the package that knows its address is not installed.
        ShapesHDError: if what is there, or came, has another digest than its name says.
    """
    return fetch_checked(_address(kind), f"{kind}:PATH")


def fetch_checked(url: str, otherwise: str) -> Path:
    """Download a file whose name ends in the first digits of its SHA-256, unless it is there.

    Args:
        url: such as ``https://.../vgg16-397923af.pth``.
        otherwise: what to give if that does not work, for the message.

    Raises:
        UsageError: if it cannot be downloaded.
        ShapesHDError: if its digest is another one; what was downloaded is then deleted.
    """
    name = url.rpartition("/")[2]
    match = _DIGEST.search(name)
    assert match is not None, name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        note(f"downloading {url} to {path.parent}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), match[1], progress=False)
        except RuntimeError as error:  # another digest
            raise ShapesHDError(f"{url}: is not what its name says ({one_line(error)})") from None
        except (urllib.error.URLError, OSError) as error:
            raise UsageError(
                f"{url}: cannot be downloaded ({one_line(error)}): give the weights as {otherwise}"
            ) from None
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(match[1]):
        raise ShapesHDError(f"{path}: is damaged: delete it, and it is downloaded again")
    return path


def _address(kind: str) -> str:
    if kind == "vgg":
        from torchvision.models import VGG16_Weights

        url: str = VGG16_Weights.IMAGENET1K_V1.url
        return url
    try:
        extractor = import_module("torch_fidelity.feature_extractor_inceptionv3")
    except ImportError:
        raise MissingPackageError.of("torch-fidelity", "fidelity", "Inception") from None
    return str(extractor.URL_INCEPTION_V3)
