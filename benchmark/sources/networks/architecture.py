"""Tensors of a known architecture: a .safetensors file without a card of ours, or a state_dict.

The file has names and shapes, no description. ``--architecture`` says whose names they are, and
all sizes are found from the shapes. Nothing in such a file can run code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from shapeshd.benchmark.sources.labels import choose_labels, refuse_labels
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.benchmark.sources.stylegan.layout import LayoutError
from shapeshd.benchmark.sources.stylegan.network_pickle import MAX_BYTES
from shapeshd.benchmark.sources.stylegan.pickle_data import PickleError
from shapeshd.benchmark.sources.stylegan.state_dict import build_stylegan2
from shapeshd.errors import UsageError, named
from shapeshd.support.checkpoint import SUFFIX, has_card
from shapeshd.support.device import usable_device
from shapeshd.support.state_dict import read_tensors, say_prefix, unwrapped

from .checkpoint import network_source, require_known_form
from .dcgan import build_dcgan
from .generator import GeneratorSource
from .style_options import apply_sampling

KIND = "safetensors"

Builder = Callable[[Mapping[str, Tensor], str], tuple[nn.Module, dict[str, Any]]]

ARCHITECTURES: dict[str, Builder] = {"stylegan2": build_stylegan2, "dcgan": build_dcgan}
"""By name: tensors and the file's name to a network on the CPU, and what it is, for JSON.

The facts hold ``latent_dim`` and ``classes`` (None if it takes latents alone). A network gives
images (n, 3, H, W) in [-1, 1].
"""


def open_architecture(request: OpenRequest) -> GeneratorSource:
    """Open the tensors of a generator of the architecture that the options name.

    Nothing in the file can run code, so trust is not asked for.

    Raises:
        UsageError: if there is no such architecture, the tensors are not just those that it has,
            or an option does not fit.
        ShapesHDError: if the file is damaged.
    """
    path, name, options = request.path, request.name, request.options
    build = ARCHITECTURES.get(options.architecture or "")
    if build is None:
        raise UsageError(
            f"{name}: no architecture {options.architecture!r} is known: "
            f"{named('architecture')} is {' or '.join(ARCHITECTURES)}"
        )
    if path.suffix.lower() == SUFFIX and has_card(path):
        raise UsageError(
            f"{name}: has a card of shapeshd, which says what it is: leave out "
            f"{named('architecture')}"
        )
    require_known_form(request, f"a {options.architecture} network's")
    place = usable_device(request.device)
    try:
        network, facts = _built(build, _checked_tensors(request), name)
    except (LayoutError, PickleError) as error:
        raise UsageError(f"{name}: {error}") from None
    drawn = apply_sampling(network, options, name)
    if not facts["classes"]:
        refuse_labels(options, name, "is a network without classes")
    return network_source(
        network.to(place).eval(),
        facts["latent_dim"],
        request,
        place,
        kind=KIND,
        facts={"architecture": options.architecture, **facts, **drawn},
        labels=choose_labels(facts["classes"], name, options, "onehot")
        if facts["classes"]
        else None,
    )


def _built(
    build: Builder, tensors: Mapping[str, Tensor], name: str
) -> tuple[nn.Module, dict[str, Any]]:
    """Build a network of the first of `unwrapped` that it can be built of.

    What was taken off the names is among the facts, as ``prefix``.
    """
    first: Exception | None = None
    for prefix, left in unwrapped(tensors):
        try:
            network, facts = build(left, name)
        except (LayoutError, PickleError) as error:
            first = first or error
            continue
        say_prefix(prefix, name)
        return network, {**facts, **({"prefix": prefix} if prefix else {})}
    assert first is not None  # there is always one to try
    raise first


def _checked_tensors(request: OpenRequest) -> dict[str, Tensor]:
    """Read the tensors of a file that is not too large."""
    path, name = request.path, request.name
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UsageError(
            f"{name}: has {size / 2**30:,.1f} GiB; at most {MAX_BYTES // 2**30} are read"
        )
    return read_tensors(path, name, trust=request.trust)
