"""A network or a function of the program that calls: nothing is loaded, nothing is left behind."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from shapeshd.benchmark.caller_state import seed_random_state
from shapeshd.benchmark.sources.arguments import SEEDS, arguments_of, handed_on, set_options
from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.latents import Seeds, batch_seed, normal_latents, sample_seeds
from shapeshd.benchmark.sources.options import HANDED_ON, SourceOptions
from shapeshd.errors import ShapesHDError, UsageError, explain, named
from shapeshd.factors import check_seed
from shapeshd.support.device import usable_device

from .generator import (
    GeneratorSource,
    check_batch,
    choose_latent_dim,
    describe_type,
    stated_dim,
)
from .latent_shape import ShapedLatents

Takes = Literal["latents", "count", "seeds"]

_EXPECTED = (
    "expected is an nn.Module or a function of latents, float32 (n, latent_dim), or a function of "
    "a number n, that returns n images"
)
_DIGITS = 12  # of a digest that is shown


class CallableBatches:
    """Batches that a function of this process makes: the `Batches` of a `GeneratorSource`.

    Before batch b all random generators are seeded by a number that `seed` and b decide. So
    what the function draws from them is the same whenever a batch is asked for. Gradients are
    off, by `no_grad`: what a network stores away in `inference_mode` could not be trained on.

    Args:
        function: latents (batch, latent_dim), a number, or seeds -> images.
        takes: which of these.
        name: what to call it in messages.
        latent_dim: components of a latent; None if it takes no latents.
        seed: of latents and seeds.
        device: where latents are put.
        dtype: of the latents.
        options: of which `batch`, `range`, `layout`, `latent_shape` and what is handed on are used.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        takes: Takes,
        *,
        name: str,
        latent_dim: int | None,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        options: SourceOptions,
    ) -> None:
        self.batch = options.batch
        if takes == "latents":
            function = ShapedLatents(function, options.latent_shape)
        self._function, self._takes, self._name = function, takes, name
        self._latent_dim, self._seed = latent_dim, check_seed(seed)
        self._device, self._dtype = device, dtype
        self._handed = set_options(options)
        self._form = ImageFormat(options, name=name)

    def make(self, numbers: range) -> Iterator[Tensor]:
        """Yield the batches of these numbers: uint8 (batch, 3, H, W)."""
        for number in numbers:
            yield self._form.batch(number, self._run)

    def alone(self, start: int, stop: int) -> Tensor | None:
        """Return the images `start` .. `stop` - 1 as a batch of their own.

        None of a function of a number, whose images belong to their batch.
        """
        if self._takes == "count":
            return None
        return self._form.aside()(self._make(start, stop))

    def _run(self, number: int) -> Any:
        return self._make(number * self.batch, (number + 1) * self.batch)

    def _make(self, start: int, stop: int) -> Any:
        seed_random_state(batch_seed(self._seed, start))
        given, said = self._input(start, stop)
        try:
            with torch.no_grad():
                images = self._function(given)
        except Exception as error:
            hint = "; for latents give latent_dim" if self._takes == "count" else ""
            raise ShapesHDError(
                f"{self._name}: failed on {said}: {explain(error)}{hint}"
            ) from error
        return check_batch(images, stop - start, self._name)

    def _input(self, start: int, stop: int) -> tuple[Any, str]:
        """Return what the function gets for some samples, and a word for it."""
        if self._takes == "count":
            return self.batch, f"n = {self.batch}"
        if self._takes == "seeds":
            return Seeds.of(sample_seeds(self._seed, start, stop)), f"{stop - start} seeds"
        assert self._latent_dim is not None
        latents = normal_latents(self._seed, start, stop, self._latent_dim, self._device)
        return latents.to(self._dtype), f"latents {tuple(latents.shape)}"

    def describe(self) -> dict[str, Any]:
        """Return what the function takes, the batch, the device and how the images were read."""
        return {
            "takes": self._takes,
            "latent_dim": self._latent_dim,
            **(self._function.describe() if isinstance(self._function, ShapedLatents) else {}),
            "seed": self._seed,
            "batch": self.batch,
            "device": str(self._device),
            **self._handed,
            **self._form.describe(),
        }

    def close(self) -> None:
        """Let the function go."""
        self._function = _closed


def open_callable(
    generator: Callable[[Any], Any],
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
    options: SourceOptions | None = None,
    name: str | None = None,
) -> GeneratorSource:
    """Make a source of a network or a function of this process.

    A parameter called ``seeds`` gets an int64 array (n,), one annotated as ``int`` the number n.
    Otherwise what says how many values a latent has (`options`, or an attribute ``latent_dim``
    or ``z_dim``) gets latents, and a function that does not gets the number.

    Args:
        generator: an nn.Module (also in a DataParallel or DistributedDataParallel) or a function.
        seed: of the latents, in [0, 2^63 - 1].
        device: where latents are put; by default that of the network, or PyTorch's default.
        options: how to read what it gives.
        name: what to call it in messages; by default its own name.

    Raises:
        UsageError: if it is no function of one batch, or does not fit the options.
    """
    options = options or SourceOptions()
    generator = unwrapped(generator)
    name = name or callable_name(generator)
    options.allow(
        "range", "layout", "latent_dim", "latent_shape", "depends", *HANDED_ON,
        source=name, what="a function of this process",
    )  # fmt: skip
    takes = _what_it_takes(generator, name, options)
    handed = handed_on(generator, options, name)
    latent_dim = None
    if takes == "latents":
        stated = stated_dim(generator)
        if stated is None and not _says_latents(options):
            hint = _hint(generator)
            raise UsageError(
                f"{name}: how many values has a latent? give {named('latent_dim')}{hint}"
            )
        latent_dim = choose_latent_dim(stated, options, name)
    elif _says_latents(options):
        given = "latent_shape" if options.latent_dim is None else "latent_dim"
        raise UsageError(f"{name}: takes {_words(takes)}, no latents: leave out {named(given)}")
    batches = CallableBatches(
        partial(generator, **handed) if handed else generator, takes,
        name=name, latent_dim=latent_dim, seed=seed, device=place_of(generator, device, name),
        dtype=_dtype_of(generator), options=options,
    )  # fmt: skip
    kind = "function" if module_of(generator) is None else "network"  # some networks have no len()
    return GeneratorSource(name, kind, batches)


def unwrapped(generator: Any) -> Any:
    """Return what is inside of a DataParallel or DistributedDataParallel.

    A wrapper's forward pass waits for processes that may not be scoring.
    """
    if isinstance(generator, (DataParallel, DistributedDataParallel)):
        return generator.module
    return generator


def module_of(generator: Any) -> nn.Module | None:
    """Return the network that `generator` is, or is a method of; None if there is none."""
    owner = generator if isinstance(generator, nn.Module) else getattr(generator, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def callable_name(generator: Any) -> str:
    """Return the name of a function's or a network's class, such as "Trainer.sample"."""
    named = type(generator) if isinstance(generator, nn.Module) else generator
    name = getattr(named, "__qualname__", None) or type(generator).__qualname__
    return str(name).rpartition("<locals>.")[2].strip("<>")


def place_of(
    generator: Any, device: str | torch.device | None, name: str = "generator"
) -> torch.device:
    """Return the device of a network, or `device`, or PyTorch's default.

    Raises:
        UsageError: if the device cannot be used, or the network lies on another one.
    """
    module = module_of(generator)
    own = None if module is None else next((value.device for value in _values(module)), None)
    if device is None:
        return own or torch.get_default_device()
    wanted = usable_device(str(device))
    if own is not None and (own.type, own.index or 0) != (wanted.type, wanted.index or 0):
        raise UsageError(f"{name}: lies on {own}, not on {wanted}: move it, or leave out device")
    return wanted


def weights_digest(module: nn.Module) -> str:
    """Return digits that change with any parameter or buffer of a network."""
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(key.encode())
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().flatten()
            digest.update(str((value.dtype, tuple(value.shape))).encode())
            digest.update(np.ascontiguousarray(flat.view(torch.uint8).numpy()).tobytes())
    return digest.hexdigest()[:_DIGITS]


def _values(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _dtype_of(generator: Any) -> torch.dtype:
    """Return the type of the latents that a network's first layer takes."""
    module = module_of(generator)
    if module is None:
        return torch.float32
    floats = (value.dtype for value in module.parameters() if value.is_floating_point())
    return next(floats, torch.float32)


def _what_it_takes(generator: Any, name: str, options: SourceOptions) -> Takes:
    if inspect.isclass(generator):
        raise UsageError(f"{name}: is a class; {_EXPECTED}: give an instance of it")
    if not callable(generator):
        raise UsageError(f"{describe_type(generator)} cannot be scored; {_EXPECTED}")
    first = _first_parameter(generator, name, options)
    if first is not None and first.name == SEEDS:
        return "seeds"
    if first is not None and first.annotation in (int, "int"):
        return "count"
    known = _says_latents(options) or stated_dim(generator) is not None
    return "latents" if known or isinstance(generator, nn.Module) else "count"


def _first_parameter(generator: Any, name: str, options: SourceOptions) -> inspect.Parameter | None:
    """Return the first parameter; None if it cannot be known.

    Raises:
        UsageError: if it takes none by position, or needs more than one.
    """
    arguments = arguments_of(generator)
    if arguments is None:
        return None
    if arguments.first is None:
        raise UsageError(f"{name}: takes no argument by position; {_EXPECTED}")
    handed = handed_on(generator, options, name)
    if needed := [one for one in arguments.needed if one not in handed]:
        raise UsageError(
            f"{name}: needs more arguments than one ({', '.join(needed)}): give a "
            "function of one that fills them in"
        )
    return arguments.first


def _says_latents(options: SourceOptions) -> bool:
    return options.latent_dim is not None or options.latent_shape is not None


def _hint(generator: Any) -> str:
    """Say how many values the first layer of a network takes, which may be those of a latent."""
    module = module_of(generator)
    for part in () if module is None else module.modules():
        size = getattr(part, "in_features", getattr(part, "in_channels", None))
        if isinstance(size, int):
            return f" (its first layer takes {size})"
    return ""


def _words(takes: Takes) -> str:
    return {"count": "a number", "seeds": "seeds", "latents": "latents"}[takes]


def _closed(given: Any) -> Any:
    raise ValueError("the source is closed")
