"""A network pickle loaded by the code that wrote it; only the process made for it imports this.

NVlabs' pickles (StyleGAN2-ADA, StyleGAN3, StyleGAN-XL and what is derived from them) hold the
source code of their networks, which their ``torch_utils.persistence`` executes. Here that is
allowed: the user trusts the file, and names the repository, which is first on the search path.
"""

from __future__ import annotations

import io
import pickle
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from shapeshd.benchmark.sources.labels import choose_labels, refuse_labels
from shapeshd.benchmark.sources.latents import MAX_CHOICES
from shapeshd.benchmark.sources.networks.generator import (
    choose_latent_dim,
    describe_type,
    stated_dim,
)
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.errors import UsageError, named

from .user_function import UserError, UserFunction, describe_failure

GENERATOR = "G_ema"


def load_network(
    place: str, repository: str, *, name: str, device: torch.device, options: SourceOptions
) -> UserFunction:
    """Return the generator of a network pickle, as a function of latents and labels.

    It is called as ``G_ema(z, c, truncation_psi=1, noise_mode="const")``, or with the options'
    truncation, its cutoff and noise; without classes, c is (n, 0). Its images are cut to [-1, 1],
    as they are when they are saved. On a CPU it computes in float32 throughout and compiles
    nothing.

    Args:
        place: path of the pickle.
        repository: path of the authors' code, which is on the search path.
        name: what the user called the pickle, for messages.
        device: where it runs.
        options: `latent_dim`, `labels`, `classes`, `truncation`, `truncation_cutoff` and `noise`.

    Raises:
        UserError: if the code raises.
        UsageError: if it is another pickle, the code is not in the repository, or the options
            do not fit.
    """
    _stand_in_for_pkg_resources()
    network = _find_generator(_unpickle(Path(place), repository), name)
    latent_dim = choose_latent_dim(stated_dim(network), options, name)
    classes = getattr(network, "c_dim", 0)
    if type(classes) is not int or not 0 <= classes <= MAX_CHOICES:
        raise UsageError(f"{name}: its {GENERATOR} has no sensible c_dim")
    if not classes:
        refuse_labels(options, name, "is a network without classes")
    labels = choose_labels(classes, name, options, "onehot") if classes else None
    try:
        network.eval().requires_grad_(False)
        if device.type == "cpu":
            _use_full_precision(network)
            _compile_nothing()
        network.to(device)
    except BaseException as error:
        raise UserError(describe_failure(error, None)) from error
    noise = options.noise or "const"
    how: dict[str, Any] = {"truncation_psi": 1, "noise_mode": noise}
    facts: dict[str, Any] = {
        "network_class": type(network).__name__,
        "noise": noise,
        "code_dir": repository,
    }
    if options.truncation is not None:
        how["truncation_psi"] = facts["truncation"] = options.truncation
    if options.truncation_cutoff is not None:
        how["truncation_cutoff"] = facts["truncation_cutoff"] = options.truncation_cutoff
    call = partial(_images, network, how)
    return UserFunction(call, False, latent_dim, None, labels, facts)


def _images(
    network: nn.Module, how: dict[str, Any], latents: Tensor, labels: Tensor | None = None
) -> Any:
    if labels is None:
        labels = latents.new_zeros(len(latents), 0)
    with torch.inference_mode():
        images = network(latents, labels, **how)
        return images.clamp(-1, 1) if isinstance(images, Tensor) else images


class _Unpickler(pickle.Unpickler):
    """Puts the tensors of a network that was saved on a GPU on the CPU."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return lambda data: torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
        return super().find_class(module, name)


def _unpickle(path: Path, repository: str) -> Any:
    folder = Path(repository).name
    try:
        with path.open("rb") as file:
            return _Unpickler(file).load()
    except ModuleNotFoundError as error:
        raise UserError(
            f"needs the module {error.name}, which is neither in {named('code_dir', folder)} nor "
            "installed: is that the repository whose code wrote it?"
        ) from error
    except BaseException as error:
        text = describe_failure(error, None)
        raise UserError(f"{text} while it was loaded with the code in {folder}") from error


def _find_generator(content: Any, name: str) -> nn.Module:
    if not isinstance(content, dict) or GENERATOR not in content:
        raise UsageError(
            f"{name}: is a pickle, but no network pickle of NVlabs (a dictionary with a generator "
            f"{GENERATOR}): write a function that loads it, and give file.py:function"
        )
    network = content[GENERATOR]
    if not isinstance(network, nn.Module):
        raise UsageError(f"{name}: its {GENERATOR} is {describe_type(network)}, no network")
    channels = getattr(network, "img_channels", 3)
    if channels != 3:
        raise UsageError(f"{name}: makes images of {channels} channels, not 3")
    return network


def _use_full_precision(network: nn.Module) -> None:
    """Switch off the half precision that some of these networks have for GPUs."""
    for module in network.modules():
        if getattr(module, "use_fp16", False) is True:
            module.use_fp16 = False  # type: ignore[assignment]


def _stand_in_for_pkg_resources() -> None:
    """Let StyleGAN3 compare PyTorch's version by a module that later setuptools have no more."""
    if "pkg_resources" in sys.modules or find_spec("pkg_resources") is not None:
        return
    stand_in: Any = ModuleType("pkg_resources")
    stand_in.parse_version = TorchVersion
    sys.modules["pkg_resources"] = stand_in


def _compile_nothing() -> None:
    """Refuse to compile extensions, which are CUDA's: for a CPU, there are other ways."""
    compiler = sys.modules.get("torch.utils.cpp_extension")
    for function in ("load", "load_inline"):
        if compiler is not None:
            setattr(compiler, function, _refuse_to_compile)


def _refuse_to_compile(*_: Any, **__: Any) -> None:
    raise RuntimeError("it would compile an extension, which is not done for the device cpu")
