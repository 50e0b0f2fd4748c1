"""Trains a recognizer: batches of images, one loss, an average of the weights.

The loss counts errors in bins, because a wrong bin is what an error costs: the absolute error
of each factor over the width of its bin, and cross-entropy for the shape. What is kept is the
exponential moving average of the weights.

A run is a folder. Its state is saved every so often and when it is stopped; the same command
goes on from there, and ends as an uninterrupted run does, bit for bit on a CPU with as many
threads.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.errors import UsageError, with_argument_named
from shapeshd.factors import FACTORS, SHAPE
from shapeshd.scene.version import scene_version
from shapeshd.support.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from shapeshd.support.device import moved
from shapeshd.support.progress import note
from shapeshd.support.random_numbers import mixed_seed
from shapeshd.support.schema import configuration
from shapeshd.support.state_dict import fitting
from shapeshd.support.training.loop import ResumableTraining
from shapeshd.support.training.state import move_average, restore_tensors, state_tensors
from shapeshd.support.training.tracker import Tracker

from .card import Accuracy, Origin
from .data import (
    check_split,
    open_images,
    ordered_batches,
    origin_of,
    training_batches,
)
from .degrade import Degradation, degrade
from .evaluate import evaluate
from .find import FILE_NAME, find_recognizer
from .network import NetworkConfig, Reading, RecognitionNetwork
from .precision import default_precision
from .recipe import default_held_out, recipe_for
from .recognizer import KIND, Recognizer, encode_factors

_WIDTHS = [factor.period / factor.bins for factor in FACTORS]
_ENTRY = "geometry.enter.weight"
_LENGTH = {"mild": 1.0, "strong": 0.2}
"""Weight of the error in a hue vector's length, where its direction counts 1. Strong noise makes
colours paler and vectors shorter, by more than it turns them; only their direction is read."""
_GEOMETRY = 2.0  # scale and orientation are the hardest to read: they weigh more


@configuration
class TrainingConfig:
    """How a recognizer is trained; the defaults are those that ``lite`` was trained with.

    Attributes:
        images: how many images are shown in all, repetitions included.
        batch: images in a step.
        learning_rate: of Adam, at its highest; it rises over `warm_up` steps and falls to 0
            along a cosine.
        warm_up: steps.
        weight_decay: of AdamW.
        average: decay of the moving average of the weights, per step.
        degraded: share of images that are degraded; see `degrade`.
        degradation: "mild" for a little blur or noise, "strong" for JPEG, noise, blur and gain.
        precision: "bf16" or "fp32", of the convolutions.
        exact: share of the run at its end that is in fp32 in any case.
        held_out: images at the end of the dataset that are kept for the evaluation.
        seed: decides the first weights, the order, and the degradations.

    Raises:
        UsageError: if a value is impossible.
    """

    images: Annotated[int, Field(ge=1)] = 700_000
    batch: Annotated[int, Field(ge=1)] = 64
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-3
    warm_up: Annotated[int, Field(ge=0)] = 200
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    average: Annotated[float, Field(ge=0, le=1)] = 0.999
    degraded: Annotated[float, Field(ge=0, le=1)] = 0.15
    degradation: Degradation = "mild"
    precision: Literal["bf16", "fp32"] = "bf16"
    exact: Annotated[float, Field(ge=0, le=1)] = 0.2
    held_out: Annotated[int, Field(ge=1)] = 10_000
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0

    @field_validator("batch")
    @classmethod
    def _fill_a_step(cls, batch: int, info: ValidationInfo) -> int:
        """Refuse a batch of more images than are shown in all."""
        if batch > info.data.get("images", batch):
            raise ValueError(f"must be at most images, {info.data['images']:,}, not {batch:,}")
        return batch

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.images // self.batch

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        rise = min(1.0, (step + 1) / max(1, self.warm_up))
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def to_json(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def reading_loss(reading: Reading, factors: Tensor, length: float = 1.0) -> dict[str, Tensor]:
    """Return the error of each factor, in bins; of the shape, its cross-entropy.

    Args:
        reading: of n images.
        factors: float64 (n, 6), the true ones; on the CPU.
        length: weight of the error along the true hue's vector.

    Returns:
        Scalars by name of the factor. A hue's is the distance from the point on the unit
        circle, which a hue vector shorter than 1 has too.
    """
    place = reading.hues.device
    true = [moved(part, place) for part in encode_factors(factors)]  # MPS has no float64
    hues, scale, orientation, shape = true
    error = reading.hues.float() - hues
    along = (error * hues).sum(2, keepdim=True) * hues
    turns = (error - (1 - length) * along).norm(dim=2).mean(0) / (2 * math.pi)
    losses = {FACTORS[column].name: turns[column] / _WIDTHS[column] for column in range(3)}
    error = (reading.scale.float() - scale).abs().mean()
    losses[FACTORS[3].name] = error * FACTORS[3].bins
    losses[FACTORS[SHAPE].name] = F.cross_entropy(reading.shape.float(), shape)
    error = (reading.orientation.float() - orientation).abs().mean()
    losses[FACTORS[5].name] = error * FACTORS[5].bins / 2
    return losses


def total_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Return the sum over the factors, in which scale and orientation count twice."""
    double = (FACTORS[3].name, FACTORS[5].name)
    return torch.stack(
        [loss * (_GEOMETRY if name in double else 1.0) for name, loss in losses.items()]
    ).sum()


class RecognizerTraining(ResumableTraining):
    """Trains a recognizer in its folder.

    Args:
        dataset: the images, of the network's size.
        origin: where they come from.
        out: folder of the run; it is made.
        network: what to train.
        config: how.
        device: where.
        start_from: a recognizer whose weights are taken over, as far as they fit.
        workers: processes that read images.
        command: the command line, for the card.
        trackers: what else shows the log; see `ResumableTraining.resume`.

    Raises:
        UsageError: if an argument is impossible, or `out` holds another run.
        ShapesHDError: if the state in `out` is damaged.
    """

    state_file = "training.safetensors"
    save_seconds = 60.0
    memory_names = "--batch"

    def __init__(
        self,
        dataset: ShapesHD,
        origin: Origin,
        out: Path,
        network: NetworkConfig,
        config: TrainingConfig,
        device: str | torch.device = "cpu",
        start_from: str | Path | None = None,
        workers: int = 0,
        command: str | None = None,
        trackers: Sequence[str | Tracker] = (),
    ) -> None:
        self.config, self.origin, self.command = config, origin, command
        self.device = torch.device(device)
        self._dataset, self._workers = dataset, workers
        self._left = check_split(len(dataset), config.held_out, config.batch)
        torch.manual_seed(config.seed)
        self.network = RecognitionNetwork(network)
        settings = {
            "network": network.to_json(),
            "config": config.to_json(),
            "data": origin.to_json(),
            "start_from": None if start_from is None else _take_over(self.network, start_from),
        }
        super().__init__(out, settings, name="recognizer", steps=config.steps, batch=config.batch)
        self.network.to(self.device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
        )
        self.resume(trackers=trackers)

    def run(self, *, progress: bool = False) -> Accuracy:
        """Train to the end, save the recognizer, and evaluate it on the held-out images.

        Args:
            progress: show a bar on stderr.

        Raises:
            InterruptedRunError: if SIGINT or SIGTERM came; the state is saved.
            ShapesHDError: if the loss is no longer a number, or images cannot be read.
        """
        try:
            return self._finish(progress)
        finally:
            self.close()

    def _finish(self, progress: bool) -> Accuracy:
        self.take_steps(progress=progress)
        note("reading the held-out images")
        recognizer = Recognizer(self.average, str(self.folder), device=self.device)
        first, last = self._left, len(self._dataset)
        result = evaluate(recognizer, ordered_batches(self._dataset, first, last))
        data = {**self.origin.to_json(), "images": last - first, "held_out_from": first}
        card = {
            "network": self.network.config.to_json(),
            "training": {
                **self.settings,
                "command": self.command,
                "data": {**self.origin.to_json(), "images": self._left},
                "scene_version": scene_version(self.origin.scene_sha256),
                "steps": self.step,
                "images_seen": self.step * self.batch,
                "seconds": round(self.seconds, 1),
                "device": self.device.type,
                "versions": {"torch": torch.__version__},
            },
            "accuracy": {**result.to_json(), "data": data},
        }
        save_checkpoint(self.folder / FILE_NAME, KIND, self.average.state_dict(), card)
        return result

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images, uint8, and their factors."""
        config = self.config
        return training_batches(
            self._dataset, self._left, self.batch, config.seed, self.step, self.steps, self._workers
        )

    def take_step(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Return the loss, and its parts by the factor's name."""
        config, (images, factors) = self.config, batch
        for group in self._optimizer.param_groups:
            group["lr"] = config.rate_at(self.step)
        generator = torch.Generator().manual_seed(mixed_seed(config.seed, self.step, 1))
        pixels = degrade(
            moved(images, self.device),
            config.degraded,
            generator,
            config.degradation,
        )
        coarse = config.precision == "bf16" and self.step < self.steps * (1 - config.exact)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=coarse):
            reading = self.network(pixels)
        losses = reading_loss(
            reading,
            factors,
            _LENGTH[config.degradation],
        )
        loss = total_loss(losses)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        move_average(self.average, self.network, config.average, self.step + 1)
        return {name: part.detach() for name, part in {"loss": loss, **losses}.items()}

    def trained(self) -> Mapping[str, nn.Module]:
        """Return the network."""
        return {"network": self.network}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the network, its average and the optimizer's moments."""
        return state_tensors(self._networks(), {"adam": self._optimizer}), {}

    def restore(self, state: Checkpoint) -> None:
        """Take over the network, its average and the optimizer's moments."""
        restore_tensors(self._networks(), {"adam": self._optimizer}, state.tensors, state.path)

    def saved_settings(self, card: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the settings in a state's card; earlier versions knew mild degradations alone."""
        return {**card, "config": {"degradation": "mild", **card.get("config", {})}}

    def _networks(self) -> dict[str, nn.Module]:
        return {"network": self.network, "average": self.average}


def complete_settings(
    settings: Mapping[str, Any], size: int, images: int, device: torch.device
) -> TrainingConfig:
    """Return the settings of a training, with defaults for those that are missing or None.

    Args:
        settings: as of `train_recognizer`.
        size: of an image, pixels.
        images: in the dataset.
        device: where it will be trained.

    Raises:
        UsageError: if a value is impossible.
    """
    recipe = recipe_for(size)
    values: dict[str, Any] = {
        "images": recipe.images,
        "learning_rate": recipe.learning_rate,
        "held_out": default_held_out(images),
        **{name: value for name, value in settings.items() if value is not None},
    }
    if values.get("precision") == "auto":
        values["precision"] = default_precision(device)
    try:
        return TrainingConfig(**values)
    except UsageError as error:
        raise with_argument_named(error, values) from None


def train_recognizer(
    source: Path | RenderSpec,
    out: Path,
    network: NetworkConfig,
    settings: Mapping[str, Any],
    *,
    device: str | torch.device = "cpu",
    start_from: str | Path | None = None,
    workers: int | None = None,
    command: str | None = None,
    trackers: Sequence[str | Tracker] = (),
    progress: bool = False,
) -> Accuracy:
    """Train a recognizer, or go on with it, and evaluate it.

    Args:
        source: the images.
        out: folder of the training.
        network: what to train.
        settings: fields of `TrainingConfig`; one that is None is `recipe_for` the network's size,
            a `held_out` of None `default_held_out`, a `precision` of "auto" `default_precision`.
        device: where.
        start_from: a recognizer whose weights are taken over.
        workers: processes that read images; None for one, or none where images are made.
        command: the command line, which the card repeats.
        trackers: what else shows the log; see `ResumableTraining.resume`.
        progress: show a bar and notes on stderr.

    Raises:
        UsageError: as `RecognizerTraining`, and if the images are not of the network's size.
        ShapesHDError: likewise.
        InterruptedRunError: if SIGINT or SIGTERM came.
    """
    dataset = open_images(source, network.size)
    config = complete_settings(settings, network.size, len(dataset), torch.device(device))
    if workers is None:
        workers = 0 if isinstance(source, RenderSpec) else 1
    training = RecognizerTraining(
        dataset, origin_of(dataset, source), out, network, config, device, start_from, workers,
        command, trackers,
    )  # fmt: skip
    if training.step and progress:
        note(f"going on after {training.step:,} of {config.steps:,} steps")
    return training.run(progress=progress)


def _take_over(network: RecognitionNetwork, name: str | Path) -> str:
    """Copy what fits from a trained recognizer, and return its digest.

    The first convolution of a network for larger images has more inputs, from the stem: those
    stay as they are, at first without effect.
    """
    checkpoint = load_checkpoint(find_recognizer(name), KIND)
    own = network.state_dict()
    tensors = fitting(checkpoint.tensors, lambda left: left.keys() <= own.keys(), str(name))
    for key, tensor in tensors.items():
        if key in own and own[key].shape == tensor.shape:
            own[key].copy_(tensor)
        elif key == _ENTRY and tensor.ndim == 4 and _widened(own[key], tensor):
            own[key].zero_()  # the stem's channels come last
            own[key][:, : tensor.shape[1]] = tensor
        else:
            raise UsageError(f"{name}: its tensor {key} does not fit the network to be trained")
    return checkpoint.digest


def _widened(own: Tensor, old: Tensor) -> bool:
    """Tell whether `own`, the weight of a convolution, is `old` with more inputs."""
    same = own.shape[0] == old.shape[0] and own.shape[2:] == old.shape[2:]
    return same and own.shape[1] > old.shape[1]
