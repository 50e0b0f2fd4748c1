"""A user's own function, found and understood; only the process made for it imports this code."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from shapeshd.benchmark.sources.arguments import (
    PARAMETERS,
    SEEDS,
    arguments_of,
    handed_on,
    set_options,
)
from shapeshd.benchmark.sources.labels import Labels, choose_labels, refuse_labels, stated_classes
from shapeshd.benchmark.sources.latents import Seeds, normal_latents, sample_seeds
from shapeshd.benchmark.sources.networks.generator import (
    check_batch,
    choose_latent_dim,
    describe_type,
    stated_dim,
)
from shapeshd.benchmark.sources.networks.latent_shape import ShapedLatents
from shapeshd.benchmark.sources.networks.reached import Evaluated
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.errors import UsageError, explain, named

_EXPECTED = (
    "expected is a function of latents, float32 tensor (n, latent_dim), or of `seeds`, int64 array "
    "(n,), and of class labels, int64 (n,), if it has classes, that returns n images; or an "
    "nn.Module"
)
_MOST_NAMES = 6


@dataclass(frozen=True)
class UserFunction:
    """A function that makes images.

    Attributes:
        call: latents or seeds, and labels if there are any -> images.
        takes_seeds: whether it takes seeds; its labels are then an array, else a tensor.
        latent_dim: components of a latent, None if it takes seeds.
        file: where it was found, for messages; None if that has no file.
        labels: what is drawn for its second argument; None if it takes no labels.
        facts: what else a result must say of it, ready for JSON.
    """

    call: Callable[..., Any]
    takes_seeds: bool
    latent_dim: int | None
    file: str | None
    labels: Labels | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def run(self, seed: int, start: int, count: int, device: torch.device) -> Any:
        """Return what it makes of the samples `start` .. `start` + `count` - 1."""
        stop = start + count
        given: list[Any]
        if self.takes_seeds:
            given = [Seeds.of(sample_seeds(seed, start, stop))]
            if self.labels is not None:
                given.append(self.labels.numbers(seed, start, stop))
            return self.call(*given)
        assert self.latent_dim is not None
        given = [normal_latents(seed, start, stop, self.latent_dim, device)]
        if self.labels is not None:
            given.append(self.labels.draw(seed, start, stop, device))
        return self.call(*given)

    def describe(self) -> dict[str, Any]:
        """Return its labels, the shape of its latents and facts, ready for JSON."""
        shaped = self.call.describe() if isinstance(self.call, ShapedLatents) else {}
        return {**(self.labels.describe() if self.labels else {}), **shaped, **self.facts}


class UserError(Exception):
    """The user's code raised; the message says what and at which line, without the name."""


def load_function(
    target: str, attribute: str, *, name: str, device: torch.device, options: SourceOptions
) -> UserFunction:
    """Import `target` and return its function `attribute`.

    Args:
        target: the absolute path of a ``.py`` file, or the name of a module.
        attribute: a name in it, dots allowed.
        name: what the user called it, for messages.
        device: an nn.Module is moved there.
        options: may state the latent dimension, labels, and what is handed on to it.

    Raises:
        UserError: if the user's code raises while it is imported.
        UsageError: if there is no such function, or it is of another kind.
    """
    module = import_user_code(target, name)
    found = attribute_of(module, attribute, name)
    takes_seeds, takes_labels = _check_signature(found, name, options)
    handed = handed_on(found, options, name)
    call, facts = found, set_options(options)
    if isinstance(found, nn.Module):
        found.eval().to(device)
        call = partial(_call_module, found)
    else:
        call = Evaluated(found)
        if call.changed:
            facts["evaluation_mode"] = call.changed
    if handed:
        call = partial(call, **handed)
    for option in ("latent_dim", "latent_shape"):
        if takes_seeds and getattr(options, option) is not None:
            raise UsageError(f"{name}: takes seeds, no latents: leave {named(option)} away")
    latent_dim = None
    if not takes_seeds:
        stated = stated_dim(found) or stated_dim(module)
        if stated is None and options.latent_dim is None and options.latent_shape is None:
            raise UsageError(
                f"{name}: how many values has a latent? give {named('latent_dim')}, or set "
                "latent_dim in the file"
            )
        latent_dim = choose_latent_dim(stated, options, name)
    labels = None
    if takes_labels:
        stated = stated_classes(found) or stated_classes(module)
        labels = choose_labels(stated, name, options, "index")
    file = getattr(module, "__file__", None)
    shaped = call if takes_seeds else ShapedLatents(call, options.latent_shape)
    return UserFunction(shaped, takes_seeds, latent_dim, file, labels, facts)


def describe_failure(error: BaseException, file: str | None) -> str:
    """Say what the user's code raised, and at which line: ``raised ValueError: no (line 7)``."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        same = error.filename == file
        where = "" if same or error.filename is None else f"{Path(error.filename).name}, "
        return f"raised {type(error).__name__}: {error.msg} ({where}line {error.lineno})"
    ours = Path(__file__).parents[1]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if ours not in Path(frame.filename).parents and not frame.filename.startswith("<frozen")
    ]
    theirs = [frame for frame in frames if frame.filename == file]
    text = f"raised {explain(error)}"
    if theirs:
        return f"{text} (line {theirs[-1].lineno})"
    if frames:
        return f"{text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    return text


def to_images(made: Any, count: int, name: str) -> Any:
    """Return what a user's function made as a tensor or a NumPy array of `count` images.

    Arrays of other frameworks are taken, too, through ``__array__``.

    Raises:
        ShapesHDError: if it is nothing of the kind, or of another number.
    """
    made = check_batch(made, count, name)
    if isinstance(made, torch.Tensor):
        return made.detach()
    return np.asarray(made)


def _call_module(network: nn.Module, *given: Any, **handed: Any) -> Any:
    with torch.inference_mode():
        return network(*given, **handed)


def import_user_code(target: str, name: str) -> ModuleType:
    """Import a module of the user's.

    Args:
        target: the absolute path of a ``.py`` file, or the name of a module.
        name: what the user called it, for messages.

    Raises:
        UserError: if the code raises.
        UsageError: if there is no such module.
    """
    file = target if target.endswith(".py") else None
    try:
        if file is None:
            return importlib.import_module(target)
        own = Path(target).stem
        if own in sys.modules:  # such as random.py: theirs must not replace Python's
            own = f"{own}_of_user"
        spec = importlib.util.spec_from_file_location(
            own, target, loader=SourceFileLoader(own, target)
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[own] = module
        spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as error:
        if file is None and error.name is not None and f"{target}.".startswith(f"{error.name}."):
            raise UsageError(
                f"{name}: there is no module {error.name} in the working directory or among the "
                "installed packages"
            ) from None
        raise UserError(describe_failure(error, file)) from error
    except BaseException as error:
        raise UserError(describe_failure(error, file)) from error


def attribute_of(module: ModuleType, attribute: str, name: str) -> Any:
    """Return an attribute of the user's module, dots allowed.

    Raises:
        UsageError: if there is none; names the functions and networks that there are.
    """
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{name}: there is no {part} in it{_names(module)}")
        found = getattr(found, part)
    return found


def _names(module: ModuleType) -> str:
    """Say which functions and networks a module has of its own."""
    names = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            (inspect.isfunction(value) and value.__module__ == module.__name__)
            or isinstance(value, nn.Module)
        )
    ]
    if not names:
        return ""
    more = ", ..." if len(names) > _MOST_NAMES else ""
    return f"; there is: {', '.join(names[:_MOST_NAMES])}{more}"


def _check_signature(found: Any, name: str, options: SourceOptions) -> tuple[bool, bool]:
    """Return whether `found` takes seeds, and labels.

    A second argument that has a default, such as a truncation, is for labels only where the
    user speaks of them.

    Raises:
        UsageError: if it is no function of one batch, or of one with its labels.
    """
    if inspect.isclass(found):
        raise UsageError(
            f"{name}: is a class; {_EXPECTED}: add a line such as `generator = "
            f"{found.__name__}(...)` to the file and name that"
        )
    if not callable(found):
        raise UsageError(f"{name}: is {describe_type(found)}; {_EXPECTED}")
    arguments = arguments_of(found)
    if arguments is None:
        return False, False
    if arguments.first is None:
        raise UsageError(
            f"{name}: takes no argument by position, as what makes a generator does; {_EXPECTED}: "
            "add a line such as `generator = make()` to the file and name that"
        )
    asked = options.labels is not None or options.classes is not None
    second, needed = arguments.second, arguments.needed
    if second is not None and second.name in PARAMETERS:
        second = None  # an option's, no label
    takes_labels = second is not None and (asked or second.name in needed)
    given = handed_on(found, options, name)
    rest = [
        key
        for key in needed
        if key not in given and (second is None or not takes_labels or key != second.name)
    ]
    if rest:
        raise UsageError(
            f"{name}: needs more arguments than latents and labels ({', '.join(rest)}): write a "
            "function of those alone that fills them in"
        )
    if asked and not takes_labels:
        refuse_labels(options, name, "is a function of one argument")
    return arguments.first.name == SEEDS, takes_labels
