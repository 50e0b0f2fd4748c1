"""A diffusers pipeline that makes images of noise, and of a class at most, from its folder.

All noise of sample i comes from a generator of its own, seeded by `sample_seeds`; the pipelines
hand such generators on to their schedulers. What a pipeline draws without them (PNDM and latent
diffusion do, with a scheduler that adds noise) comes from PyTorch's global generator, which is
seeded by the number of the batch meanwhile. So an image depends on the seed, the sample's number
and, in the second case or by a network's rounding, on ``--batch``, and never on how a run is cut.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.labels import Labels, choose_labels, refuse_labels
from shapeshd.benchmark.sources.latents import sample_seeds
from shapeshd.benchmark.sources.networks.generator import (
    GeneratorSource,
    check_batch,
    seeded_by_batch,
)
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.checks import whole_number
from shapeshd.errors import ShapesHDError, UsageError, explain, named
from shapeshd.support.device import usable_device

from .load import UNCONDITIONAL, load_pipeline

KIND = "diffusers"
_ASKED = ("batch_size", "generator", "output_type")
_CLASSES = "class_labels"
_STEPS = "num_inference_steps"


def open_pipeline(request: OpenRequest) -> GeneratorSource:
    """Open a pipeline; images of the library's own are in [0, 1], channels last, by definition.

    Raises:
        UsageError: if it is no pipeline of images of noise, needs code that is not
            trusted, or does not fit the options.
        MissingPackageError: if diffusers is not installed.
        ShapesHDError: if it is damaged.
    """
    place = usable_device(request.device)
    pipeline, trusted = load_pipeline(request.path, request.name, trust=request.trust)
    batches = PipelineBatches(pipeline, request, place, trusted=trusted)
    return GeneratorSource(request.name, KIND, batches)


class PipelineBatches:
    """Batches that a pipeline makes.

    Args:
        pipeline: of diffusers, on the CPU; called with ``batch_size``, ``generator`` (one for
            each sample), ``output_type="np"`` and, if it takes it, ``num_inference_steps``.
        request: its name, seed (of the noise) and options are used.
        device: where it runs.
        trusted: whether it needed trust, for the description.

    Raises:
        UsageError: if it takes other things, or fewer steps than are wanted.
    """

    def __init__(
        self, pipeline: Any, request: OpenRequest, device: torch.device, *, trusted: bool
    ) -> None:
        name, options = request.name, request.options
        self.batch = options.batch
        self._name = name
        self._seed = request.seed
        self._device = device
        _require_arguments(pipeline, name)
        self._labels = _find_labels(pipeline, options, name)
        steps = _choose_steps(pipeline, options.steps, name)
        self._more = {} if steps is None else {_STEPS: steps}
        self._facts = {
            "pipeline": type(pipeline).__name__,
            "scheduler": type(getattr(pipeline, "scheduler", None)).__name__,
            "steps": steps,
            "trusted": trusted,
        }
        self._form = ImageFormat(_image_options(pipeline, options, name), name=name)
        try:
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline: Any = pipeline.to(device)
        except Exception as error:
            raise ShapesHDError(f"{name}: cannot be used on {device} ({explain(error)})") from error

    def make(self, numbers: range) -> Iterator[Tensor]:
        """Yield the batches of these numbers: uint8 (batch, 3, H, W), on the CPU."""
        for number in numbers:
            yield self._form.batch(number, self._run)

    def alone(self, start: int, stop: int) -> Tensor | None:
        """Return the images `start` .. `stop` - 1 as a batch of their own."""
        return self._form.aside()(self._make(start, stop))

    def _run(self, number: int) -> Any:
        return self._make(number * self.batch, (number + 1) * self.batch)

    def _make(self, start: int, stop: int) -> Any:
        seeds = sample_seeds(self._seed, start, stop)
        more: dict[str, Any] = dict(self._more)
        if self._labels is not None:
            more[_CLASSES] = torch.from_numpy(self._labels.numbers(self._seed, start, stop))
        own = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        with seeded_by_batch(self._seed, start, self._device):
            try:
                said = self._pipeline(batch_size=len(own), generator=own, output_type="np", **more)
            except Exception as error:
                raise ShapesHDError(
                    f"{self._name}: failed on the samples {start} to {stop - 1}: {explain(error)}"
                ) from error
        images = getattr(said, "images", said[0] if isinstance(said, tuple) and said else said)
        images = np.stack(images) if isinstance(images, list) and images else images
        return check_batch(images, len(own), self._name)

    def describe(self) -> dict[str, Any]:
        """Return the pipeline, the seed, the batch, the device and how the images were read."""
        return {
            **self._facts,
            **(self._labels.describe() if self._labels else {}),
            "seed": self._seed,
            "batch": self.batch,
            "device": str(self._device),
            **self._form.describe(),
        }

    def close(self) -> None:
        """Let the pipeline go."""
        self._pipeline = None


def _image_options(pipeline: Any, options: SourceOptions, name: str) -> SourceOptions:
    """Return `options` with what is known of a pipeline's images; of foreign code nothing is."""
    kind = type(pipeline)
    if not (kind.__name__ in UNCONDITIONAL and kind.__module__.startswith("diffusers.")):
        return options
    if options.range not in ("auto", "unit") or options.layout not in ("auto", "nhwc"):
        raise UsageError(
            f"{name}: a {kind.__name__}'s images are in [0, 1] and channels last: leave "
            f"{named('range')} and {named('layout')} away"
        )
    return replace(options, range="unit", layout="nhwc")


def _require_arguments(pipeline: Any, name: str) -> None:
    parameters = inspect.signature(type(pipeline).__call__).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    lacking = [asked for asked in _ASKED if asked not in parameters and not anything]
    if lacking:
        raise UsageError(
            f"{name}: its {type(pipeline).__name__} takes no {lacking[0]}: write a function that "
            "calls it, and give file.py:function"
        )


def _find_labels(pipeline: Any, options: SourceOptions, name: str) -> Labels | None:
    """Return the classes to draw; None if the pipeline's network takes none."""
    config = getattr(getattr(pipeline, "unet", None), "config", None) or {}
    classes, embedding = config.get("num_class_embeds"), config.get("class_embed_type")
    if classes is None and embedding is None:
        refuse_labels(options, name, "is a pipeline without classes")
        return None
    takes = _CLASSES in inspect.signature(type(pipeline).__call__).parameters
    if not isinstance(classes, int) or embedding is not None or not takes:
        raise UsageError(
            f"{name}: is class-conditional, but its {type(pipeline).__name__} takes no classes: "
            "write a function that draws them and calls its network, and give file.py:function"
        )
    return choose_labels(classes, name, options, "index")


def _choose_steps(pipeline: Any, wanted: int | None, name: str) -> int | None:
    """Return the user's number of steps, or the pipeline's own; None if it has none.

    A scheduler that was trained with fewer steps than the pipeline's default takes all it has.
    """
    parameter = inspect.signature(type(pipeline).__call__).parameters.get(_STEPS)
    if parameter is None:
        if wanted is not None:
            raise UsageError(
                f"{name}: its pipeline has no steps to choose: leave out {named('steps')}"
            )
        return None
    config = getattr(getattr(pipeline, "scheduler", None), "config", None) or {}
    most = config.get("num_train_timesteps")
    most = most if isinstance(most, int) else None
    if wanted is None:
        default = parameter.default
        return min(default, most or default) if isinstance(default, int) else None
    if most is not None and wanted > most:
        raise UsageError(
            f"{name}: its scheduler has {most} steps: {named('steps', wanted)} is too many"
        )
    return whole_number(named("steps"), wanted, 1)
