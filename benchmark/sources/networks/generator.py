"""What all networks share: latents go in by batches, images come out through `ImageFormat`.

Batches are cut at multiples of their length from sample 0 on and always made whole, however
the range that is asked for is cut. So a network sees the same latents side by side in a run
that is resumed, shared out or asked for single images, and gives the same pixels; what it
makes beyond the range is thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.labels import Labels
from shapeshd.benchmark.sources.latents import (
    MAX_DIM,
    batch_seed,
    check_samples,
    normal_latents,
)
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.checks import whole_number
from shapeshd.errors import ShapesHDError, UsageError, explain, named
from shapeshd.factors import MAX_IMAGE
from shapeshd.images.numbered import Closing

from .latent_shape import ShapedLatents

_DIMENSIONS = ("latent_dim", "z_dim")


class Batches(Protocol):
    """What makes the batches of a `GeneratorSource`.

    Attributes:
        batch: samples in a batch; batch b holds the samples b `batch` .. (b + 1) `batch` - 1.
    """

    batch: int

    def make(self, numbers: range) -> Iterator[Tensor]:
        """Yield the batches of these numbers: uint8 (batch, 3, H, W).

        Each holds only until the next is asked for.
        """
        ...

    def alone(self, start: int, stop: int) -> Tensor | None:
        """Return the images `start` .. `stop` - 1 as a batch of their own: uint8 (n, 3, H, W).

        None where the samples of a batch are drawn together, or its length is fixed.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a result must say of them, ready for JSON."""
        ...

    def close(self) -> None:
        """End what belongs to them."""
        ...


class GeneratorSource(Closing):
    """The images of a generator, a `Source` without end.

    Attributes:
        name: what the user called it.
        kind: such as "torchscript".
        count: None, as many as are asked for.
        digest: SHA-256 of what makes the images, where the name is not the path of a file.
    """

    count: int | None = None
    digest: str | None = None

    def __init__(self, name: str, kind: str, batches: Batches) -> None:
        self.name = name
        self.kind = kind
        self._batches = batches
        self._kept: tuple[int, Tensor] | None = None  # a batch of which the rest may be wanted

    def images(self, start: int, stop: int) -> Tensor:
        """Return the images `start` .. `stop` - 1: uint8 (n, 3, H, W), sRGB.

        Args:
            start: first sample, >= 0.
            stop: one past the last sample, >= `start`.

        Raises:
            UsageError: if the range is impossible.
            ShapesHDError: in one line, if the generator fails.
        """
        check_samples(start, stop, MAX_IMAGE)
        length = self._batches.batch
        numbers = range(start // length, max(start, stop - 1) // length + 1)
        images: Tensor | None = None
        for number, batch in self._numbered(numbers):
            first = max(start, number * length)
            last = min(stop, (number + 1) * length)
            if images is None:
                images = batch.new_empty((stop - start, *batch.shape[1:]))
            images[first - start : last - start] = batch[
                first - number * length : last - number * length
            ]
            if number == numbers[-1]:
                self._kept = (number, batch.clone()) if stop % length else None
        assert images is not None
        return images

    def in_own_batch(self, start: int, stop: int) -> Tensor | None:
        """Return images made as a batch of their own, to compare; None where that cannot be.

        They are those of `images` unless what makes them mixes the samples of a batch.
        """
        return self._batches.alone(start, stop)

    def _numbered(self, numbers: range) -> Iterator[tuple[int, Tensor]]:
        if self._kept is not None and self._kept[0] == numbers[0]:
            yield self._kept
            numbers = numbers[1:]
        if numbers:
            yield from zip(numbers, self._batches.make(numbers), strict=True)

    def describe(self) -> dict[str, Any]:
        """Return how the images were made and read, ready for JSON."""
        return self._batches.describe()

    def close(self) -> None:
        """End the generator; it is not asked again."""
        self._kept = None
        self._batches.close()


class NetworkBatches:
    """Batches that a network in this process makes of normal latents.

    Args:
        network: float32 (batch, latent_dim) on `device`, and labels if there are any -> images,
            as `ImageFormat` takes them.
        name: what the user called it, for messages.
        latent_dim: components of a latent.
        seed: of the latents.
        device: where the network runs.
        batch: latents at a time.
        form: turns what comes out into uint8.
        facts: what else `describe` says.
        labels: what the network takes as its second argument; None if it takes latents alone.
        lengths: the least and the largest number of latents that it takes at a time; None for any.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        *,
        name: str,
        latent_dim: int,
        seed: int,
        device: torch.device,
        batch: int,
        form: ImageFormat,
        facts: Mapping[str, Any] | None = None,
        labels: Labels | None = None,
        lengths: tuple[int, int] | None = None,
    ) -> None:
        self.batch = batch
        self._lengths = lengths
        self._network = network
        self._facts = facts or {}
        self._labels = labels
        self._name = name
        self._latent_dim = latent_dim
        self._seed = seed
        self._device = device
        self._form = form

    def make(self, numbers: range) -> Iterator[Tensor]:
        """Yield the batches of these numbers: uint8 (batch, 3, H, W)."""
        for number in numbers:
            with torch.inference_mode():  # not around the yield: it would reach the caller
                batch = self._form.batch(number, self._run)
            yield batch

    def alone(self, start: int, stop: int) -> Tensor | None:
        """Return images as a batch of their own; None if the network takes none so long."""
        if self._lengths and not self._lengths[0] <= stop - start <= self._lengths[1]:
            return None
        with torch.inference_mode():
            return self._form.aside()(self._make(start, stop))

    def _run(self, number: int) -> Any:
        return self._make(number * self.batch, (number + 1) * self.batch)

    def _make(self, start: int, stop: int) -> Any:
        shape = (stop - start, self._latent_dim)
        given = [normal_latents(self._seed, start, stop, shape[1], self._device)]
        said = f"latents {shape}"
        if self._labels is not None:
            given.append(self._labels.draw(self._seed, start, stop, self._device))
            said += f" and {self._labels.form} labels {tuple(given[1].shape)}"
        with seeded_by_batch(self._seed, start, self._device):
            try:
                images = self._network(*given)
            except Exception as error:
                hint = self._hint(given)
                raise ShapesHDError(
                    f"{self._name}: failed on {said}: {explain(error)}{hint}"
                ) from error
            try:
                return check_batch(images, stop - start, self._name)
            except ShapesHDError as error:
                if not (hint := self._hint(given)):
                    raise
                raise ShapesHDError(f"{error}{hint}") from None

    def _hint(self, given: Sequence[Tensor]) -> str:
        """Say which batch would do, if the network makes one image of one latent, as exported."""
        if len(given[0]) == 1:
            return ""
        try:
            found = check_batch(self._network(*(tensor[:1] for tensor in given)), 1, self._name)
        except Exception:  # the first error says more
            return ""
        return (
            f"; it takes one latent at a time: give {named('batch', 1)}" if len(found) == 1 else ""
        )

    def describe(self) -> dict[str, Any]:
        """Return the latents, the batch, the device and how the images were read."""
        return {
            **self._facts,
            **(self._labels.describe() if self._labels else {}),
            "latent_dim": self._latent_dim,
            **(self._network.describe() if isinstance(self._network, ShapedLatents) else {}),
            "seed": self._seed,
            "batch": self.batch,
            "device": str(self._device),
            **self._form.describe(),
        }

    def close(self) -> None:
        """Let the network go."""
        self._network = _closed


@contextmanager
def seeded_by_batch(seed: int, start: int, device: torch.device) -> Iterator[None]:
    """Let PyTorch's own generators begin anew for a batch, and go on afterwards as before.

    What a network draws inside is then the same whenever the batch is made again.

    Args:
        seed: of the samples.
        start: the batch's first sample.
        device: where the network runs.
    """
    cuda = [device] if device.type == "cuda" else []
    chosen = batch_seed(seed, start)
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(chosen)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(chosen)
        yield


def _closed(*given: Tensor) -> Tensor:
    raise ValueError("the source is closed")


def check_batch(images: Any, count: int, name: str) -> Any:
    """Return `images` if it is a tensor or an array of `count` images.

    Whatever else is wrong with its shape is left to `ImageFormat`, which knows more of it.

    Raises:
        ShapesHDError: naming what was returned.
    """
    if not isinstance(images, Tensor) and not hasattr(images, "__array__"):
        what = f"{describe_type(images)}, not a tensor or an array of images"
        if isinstance(images, (tuple, list)):
            what += f" (it holds {', '.join(map(describe_type, images[:4])) or 'nothing'})"
        raise ShapesHDError(f"{name}: returned {what}")
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) == 4 and shape[0] != count:
        raise ShapesHDError(f"{name}: returned {shape[0]} images for {count} samples")
    return images


def describe_type(value: object) -> str:
    """Name the type of `value` with its article, such as "a list"."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def stated_dim(holder: object) -> int | None:
    """Return the attribute `latent_dim` or `z_dim` of `holder` if it is a sensible number."""
    for attribute in _DIMENSIONS:
        value = getattr(holder, attribute, None)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_DIM:
            return value
    return None


def choose_latent_dim(stated: int | None, options: SourceOptions, name: str) -> int:
    """Return the components of a latent, as the model states or the user says.

    Raises:
        UsageError: if neither does, both do and differ, or the user's is impossible.
    """
    wanted = options.latent_dim
    if wanted is not None:
        wanted = whole_number(named("latent_dim"), wanted, 1, MAX_DIM)
    if options.latent_shape is not None:
        size = math.prod(options.latent_shape)
        if wanted not in (None, size):
            raise UsageError(
                f"{name}: {named('latent_shape')} {options.latent_shape} is of {size} values, "
                f"{named('latent_dim')} {wanted}: leave one out"
            )
        wanted = whole_number(named("latent_shape"), size, 1, MAX_DIM)
    if wanted is None:
        if stated is None:
            raise UsageError(
                f"{name}: does not say how many values a latent has: give {named('latent_dim')}"
            )
        return stated
    if stated is not None and stated != wanted:
        raise UsageError(f"{name}: takes latents of {stated} values, not of {wanted}")
    return wanted
