"""Measures how well a recognizer reads: its accuracy where factors are known, its noise floor.

The noise floor is what images of the true process score: errors of a recognizer would make
them look wrong. Its interval must contain a divergence of 0.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.histogram import require_samples
from shapeshd.benchmark.statistics.record import EstimateRecord
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import ShapesHD, open_dataset
from shapeshd.errors import UsageError, named
from shapeshd.factors import FACTORS, NUM_BINS, FloatArray, bin_indices, joint_bins
from shapeshd.render.plan import plan_render
from shapeshd.render.run import run_render
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import UniformSampling
from shapeshd.support.checkpoint import load_checkpoint, save_checkpoint
from shapeshd.support.progress import note, progress_bar

from .card import (
    Accuracy,
    FactorAccuracy,
    GrossError,
    GrossErrors,
    NoiseFloor,
    Origin,
)
from .data import images_in_common, ordered_batches, origin_of
from .degrade import KnownDegradation
from .find import SHIPPED, find_recognizer
from .reader import count_bins
from .recognizer import KIND, Recognizer, load_recognizer

EVALUATION_SEED = 1_000_000
NOISE_FLOOR_SEED = 1_000_001
SHOWN_GROSS_ERRORS = 20
_DEGREES = 360.0


def accuracy(truth: FloatArray, found: FloatArray) -> Accuracy:
    """Compare recognised factors with the true ones.

    Args:
        truth: (n, 6), n >= 1.
        found: (n, 6), what the recognizer says.

    Raises:
        UsageError: if there is nothing to compare, or the shapes differ.
    """
    if not len(truth) or truth.shape != found.shape:
        raise UsageError(f"factors of shape {found.shape} cannot be compared with {truth.shape}")
    true_bins, found_bins = bin_indices(truth), bin_indices(found)
    error = found - truth
    factors: dict[str, FactorAccuracy] = {}
    gross = np.zeros(truth.shape, dtype=bool)
    in_bins = np.full(truth.shape, np.inf)
    for column, factor in enumerate(FACTORS):
        confusion = np.zeros((factor.bins, factor.bins), dtype=np.int64)
        np.add.at(confusion, (true_bins[:, column], found_bins[:, column]), 1)
        wrong = true_bins[:, column] != found_bins[:, column]
        share = float(1 - wrong.mean())
        if factor.topology == "discrete":
            gross[:, column] = wrong
            factors[factor.name] = FactorAccuracy(
                unit=None,
                accuracy=share,
                mean_absolute_error=None,
                median_absolute_error=None,
                p99_absolute_error=None,
                largest_error=None,
                bias=None,
                confusion=tuple(map(tuple, confusion.tolist())),
                border_errors=0,
                gross_errors=int(wrong.sum()),
            )
            continue
        signed = error[:, column]
        if factor.topology == "circle":
            signed = (signed + factor.period / 2) % factor.period - factor.period / 2
        size = np.abs(signed)
        in_bins[:, column] = size / (factor.period / factor.bins)
        gross[:, column] = in_bins[:, column] > 0.5
        unit, by = ("degree", _DEGREES) if factor.unit == "turn" else (factor.unit, 1.0)
        factors[factor.name] = FactorAccuracy(
            unit=unit,
            accuracy=share,
            mean_absolute_error=float(size.mean() * by),
            median_absolute_error=float(np.median(size) * by),
            p99_absolute_error=float(np.quantile(size, 0.99) * by),
            largest_error=float(size.max() * by),
            bias=float(signed.mean() * by),
            confusion=tuple(map(tuple, confusion.tolist())),
            border_errors=int((wrong & ~gross[:, column]).sum()),
            gross_errors=int(gross[:, column].sum()),
        )
    right = (true_bins == found_bins).all(1)
    return Accuracy(
        images=len(truth),
        joint_accuracy=float(right.mean()),
        factors=factors,
        gross_errors=GrossErrors(
            count=int(gross.any(1).sum()), worst=_worst(truth, found, gross, in_bins)
        ),
        border_errors=sum(factor.border_errors for factor in factors.values()),
    )


def evaluate(
    recognizer: Callable[[Tensor], FloatArray], batches: Iterable[tuple[Tensor, FloatArray]]
) -> Accuracy:
    """Read batches of images and compare with their factors.

    Args:
        recognizer: gives factors (n, 6) for images uint8 (n, 3, size, size).
        batches: images and their true factors.
    """
    truth, found = [], []
    for images, factors in batches:
        found.append(recognizer(images))
        truth.append(factors)
    if not truth:
        raise UsageError("there are no images to read")
    return accuracy(np.concatenate(truth), np.concatenate(found))


def evaluate_on(
    recognizer: Recognizer,
    dataset: ShapesHD,
    degradations: Sequence[KnownDegradation] = (),
    *,
    progress: bool = False,
) -> Accuracy:
    """Let a recognizer read a dataset whose images it was not trained on.

    Args:
        recognizer: what reads.
        dataset: the images.
        degradations: what is done to them before they are read, one after the other.
        progress: show a bar on stderr.

    Raises:
        UsageError: if their size is another, or it was trained on some of them.
    """
    shape = dataset.image_shape
    if shape != (3, recognizer.size, recognizer.size):
        raise UsageError(
            f"{dataset.name}: its images are of {shape[2]}x{shape[1]} pixels, but the recognizer "
            f"{recognizer.name} reads {recognizer.size}x{recognizer.size}"
        )
    if known := images_in_common(recognizer.card, dataset):
        raise UsageError(
            f"{dataset.name}: {recognizer.name} was trained on {known:,} of its images; take "
            "another seed"
        )
    batches = _counted(dataset, f"read by {recognizer.name}", progress)
    return evaluate(recognizer, _degraded(batches, degradations))


def evaluate_fresh(
    recognizer: Recognizer,
    count: int,
    seed: int = EVALUATION_SEED,
    engine: str = "povray",
    degradations: Sequence[KnownDegradation] = (),
    *,
    progress: bool = False,
) -> Accuracy:
    """Render images and let a recognizer read them.

    Args:
        recognizer: what reads.
        count: images.
        seed: of their factors.
        engine: "povray" or "torch".
        degradations: see `evaluate_on`.
        progress: show bars on stderr.

    Raises:
        UsageError: if it was trained on them.
        RendererError: if POV-Ray is missing.
    """
    spec = RenderSpec(seed, count, recognizer.size)
    if known := images_in_common(recognizer.card, open_dataset(spec)):
        raise UsageError(
            f"{recognizer.name} was trained on {known:,} of these images; take another "
            f"{named('seed')}"
        )
    with tempfile.TemporaryDirectory(prefix="shapeshd-") as folder:
        plan = plan_render(
            Path(folder) / "images",
            UniformSampling(seed),
            count,
            RenderOptions(recognizer.size),
            engine=engine,
        )
        run_render(plan, progress=progress)
        return evaluate_on(recognizer, ShapesHD(plan.dataset), degradations, progress=progress)


def measure_noise_floor(
    recognizer: Recognizer, images: int, seed: int = NOISE_FLOOR_SEED, *, progress: bool = False
) -> NoiseFloor:
    """Score images of the true process, made by the ray tracer.

    Args:
        recognizer: what reads.
        images: how many, enough for a test.
        seed: of their factors.
        progress: show a bar on stderr.

    Raises:
        UsageError: if there are too few, or it was trained on some.
    """
    require_samples(images, NUM_BINS)
    spec = RenderSpec(seed, images, recognizer.size, device=str(recognizer.device))
    dataset = open_dataset(spec)
    if images_in_common(recognizer.card, dataset):
        raise UsageError(f"{recognizer.name} was trained on images of seed {seed}")
    batches = _counted(dataset, "noise floor", progress)
    fit = goodness_of_fit(count_bins(joint_bins(recognizer(batch)) for batch, _ in batches))
    reduced = fit.prediction.reduced_chi_square
    return NoiseFloor(
        images=images,
        seed=seed,
        divergence=EstimateRecord.model_validate(fit.divergence),
        reduced_chi_square=EstimateRecord.model_validate(reduced),
        p_value=fit.p_value,
    )


class Evaluation(NamedTuple):
    """What was measured of a recognizer."""

    recognizer: Recognizer
    accuracy: Accuracy
    noise_floor: NoiseFloor | None
    degradations: tuple[KnownDegradation, ...] = ()

    def measured(self) -> dict[str, Any]:
        """Return what its card says of that, ready for JSON."""
        found: dict[str, Any] = {"accuracy": self.accuracy.to_json()}
        if self.noise_floor is not None:
            found["noise_floor"] = self.noise_floor.to_json()
        return found

    def card(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return a card with these figures: at its top those in fp32, below "bf16" the others."""
        if self.recognizer.precision == "fp32":
            return {**before, **self.measured()}
        return {**before, "bf16": {**(before.get("bf16") or {}), **self.measured()}}

    def to_json(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        known = {
            "name": self.recognizer.name,
            "digest": self.recognizer.digest,
            "precision": self.recognizer.precision,
        }
        if self.degradations:
            known["degraded"] = ", ".join(map(str, self.degradations))
        return {"recognizer": known, **self.measured()}


def evaluate_recognizer(
    name: str,
    source: Path | RenderSpec | None = None,
    *,
    count: int = 10_000,
    seed: int = EVALUATION_SEED,
    engine: str = "povray",
    noise_floor: int | None = None,
    device: str = "cpu",
    degrade: Sequence[str] = (),
    precision: str = "fp32",
    write_card: bool = False,
) -> Evaluation:
    """Measure how well a recognizer reads images of known factors, with bars on stderr.

    Args:
        name: as `load_recognizer` takes it.
        source: the images; by default a fresh render, of which the next three say what.
        count: images to render.
        seed: of their factors.
        engine: "povray" or "torch".
        noise_floor: of how many images the noise floor is measured, too.
        device: where the recognizer computes.
        degrade: what is done to the images before they are read, one after the other: see
            `KnownDegradation.parse`.
        precision: of its convolutions, as `load_recognizer` takes it; with `write_card` "auto" is
            "fp32", so that no figures are replaced but those that were asked for.
        write_card: write the figures into the recognizer's card.

    Raises:
        UsageError: if the recognizer cannot be loaded, its card is that of a shipped one and should
            be written, what was measured of degraded images should go into a card, or it cannot
            read the images or was trained on some of them.
        RendererError: if POV-Ray is missing.
    """
    if write_card and name in SHIPPED:
        raise UsageError(f"the card of the shipped {name} stays as it is: copy it, or give a path")
    changes = tuple(map(KnownDegradation.parse, degrade))
    if changes and (write_card or noise_floor is not None):
        other = named("write_card" if write_card else "noise_floor")
        raise UsageError(f"{other} is of images as they are: leave out {named('degrade')}")
    if write_card and precision == "auto":
        precision = "fp32"
    recognizer = load_recognizer(name, device, precision)
    if source is not None:
        dataset = open_dataset(source)
        found = evaluate_on(recognizer, dataset, changes, progress=True)
        data = origin_of(dataset, source)
    else:
        found = evaluate_fresh(recognizer, count, seed, engine, changes, progress=True)
        data = Origin(renderer=engine, seed=seed, start=0, images=count)
    floor = None
    if noise_floor is not None:
        floor = measure_noise_floor(recognizer, noise_floor, progress=True)
    accurate = found.model_copy(update={"data": data})
    evaluation = Evaluation(recognizer, accurate, floor, changes)
    if write_card:
        path = find_recognizer(name)
        checkpoint = load_checkpoint(path, KIND)
        save_checkpoint(path, KIND, checkpoint.tensors, evaluation.card(checkpoint.card))
        note(f"{path}: card written")
    return evaluation


def describe_accuracy(found: Accuracy, name: str, floor: NoiseFloor | None = None) -> str:
    """Return a table of an accuracy for people, with the noise floor if there is one."""
    gross = found.gross_errors.count if found.gross_errors else 0
    lines = [
        f"{name}: {found.joint_accuracy:.2%} of {found.images:,} images in the right joint "
        f"bin, {gross} gross errors",
        f"  {'factor':12} {'right bin':>9} {'mean error':>11} {'99% below':>10} "
        f"{'largest':>9} {'at borders':>10} {'gross':>8}",
    ]
    for factor, row in (found.factors or {}).items():
        errors = (row.mean_absolute_error, row.p99_absolute_error, row.largest_error)
        sizes = ["-" if error is None else f"{error:.4f}" for error in errors]
        lines.append(
            f"  {factor:12} {row.accuracy:9.2%} {sizes[0]:>11} {sizes[1]:>10} {sizes[2]:>9} "
            f"{row.border_errors:10,} {row.gross_errors:8,}  {row.unit or ''}"
        )
    if floor is not None:
        value = floor.divergence
        lines.append(
            f"  {floor.images:,} real images: D = {value.value:+.4f} "
            f"[{value.low:.4f}, {value.high:.4f}]"
        )
    return "\n".join(lines)


def _counted(
    dataset: ShapesHD, description: str, progress: bool
) -> Iterator[tuple[Tensor, FloatArray]]:
    with progress_bar(len(dataset), description, shown=progress) as bar:
        for images, factors in ordered_batches(dataset, 0, len(dataset)):
            yield images, factors
            bar.update(len(images))


def _degraded(
    batches: Iterable[tuple[Tensor, FloatArray]], degradations: Sequence[KnownDegradation]
) -> Iterator[tuple[Tensor, FloatArray]]:
    generator = torch.Generator().manual_seed(0)
    for images, factors in batches:
        for degradation in degradations:
            images = degradation(images, generator)
        yield images, factors


def _worst(
    truth: FloatArray, found: FloatArray, gross: np.ndarray[Any, Any], in_bins: FloatArray
) -> tuple[GrossError, ...]:
    rows, columns = np.nonzero(gross)
    order = np.argsort(-in_bins[rows, columns], kind="stable")[:SHOWN_GROSS_ERRORS]
    return tuple(
        GrossError(
            image=int(row),
            factor=FACTORS[column].name,
            true=float(truth[row, column]),
            recognised=float(found[row, column]),
        )
        for row, column in zip(rows[order], columns[order], strict=True)
    )
