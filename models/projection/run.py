"""Projects images of a dataset into a generator's latent space, and evaluates what is found."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy
import torch
from pydantic import Field
from torch import Tensor

from shapeshd.benchmark.statistics.intervals import CONFIDENCE
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import ShapesHDError, UsageError, one_line
from shapeshd.factors import NAMES, FloatArray
from shapeshd.models.data.images import ImageData, open_training_images, rendered_at
from shapeshd.models.networks.checkpoints import read_generator
from shapeshd.models.networks.generator import Generator
from shapeshd.support.batching import NO_MEMORY, says_no_memory
from shapeshd.support.checkpoint import SUFFIX, read_card
from shapeshd.support.progress import progress_bar
from shapeshd.support.schema import configuration

from .encoder_file import find_encoder, read_encoder
from .encoder_place import own_encoder_place
from .evaluate import choose_limit
from .factors import AUTO, NONE, FactorReader, open_reader
from .optimize import ProjectionConfig, Projector

FORMAT = "shapeshd-projection"
FORMAT_VERSION = 3
_LEVELS = 255.0


@configuration
class ProjectionOptions:
    """Settings: which images to project, and how to evaluate what is found.

    Attributes:
        count: images.
        spread: whether they are spread evenly over the dataset, or its last ones, which a
            training on this dataset has held out.
        batch: images to search for at a time.
        reference: samples of the generator's own to search for, too; 0 for none.
        limit: residual in 8-bit levels above which an image counts as not generated; None for
            `choose_limit`.
        encoder: "auto" for the one that belongs to the generator (see `find_encoder`), "none", or
            the path of an ``encoder.safetensors`` or of the folder that holds it.
        recognizer: "auto", "none", or as `load_recognizer` takes it.
    """

    count: Annotated[int, Field(ge=1, le=10**6)] = 64
    spread: bool = False
    batch: Annotated[int, Field(ge=1, le=10**6)] = 16
    reference: Annotated[int, Field(ge=0, le=10**6)] = 16
    limit: Annotated[float, Field(gt=0, le=255)] | None = None
    encoder: str = AUTO
    recognizer: str = AUTO


@dataclass(frozen=True)
class ProjectionResult:
    """The result of a projection.

    Attributes:
        values: what ``result.json`` holds.
        latents: float32 (n, latent_dim), of the images in order.
        data: the images.
        projector: makes images of the latents.
    """

    values: dict[str, Any]
    latents: FloatArray
    data: ImageData
    projector: Projector


def project_images(
    generator: Path,
    source: Path | RenderSpec,
    config: ProjectionConfig,
    options: ProjectionOptions,
    *,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> ProjectionResult:
    """Project images into the latent space of a generator.

    Args:
        generator: its checkpoint.
        source: where the images are; see `open_training_images`. They are brought to the
            generator's size.
        config: of the search.
        options: what to project, and how to evaluate it.
        device: where.
        progress: show a bar on stderr.

    Raises:
        UsageError: if there is no such generator, encoder, recognizer or dataset, they do not fit
            together, or an argument is impossible.
        ShapesHDError: if something is damaged, or memory is out.
    """
    if generator.is_dir() or generator.suffix != SUFFIX:
        raise UsageError(f"{generator}: is no {SUFFIX} file, such as RUN/gan/generator{SUFFIX}")
    began = time.monotonic()
    place = torch.device(device)
    path = _encoder_path(generator, options.encoder)
    projector = _load(generator, path, config, place)
    data = open_training_images(rendered_at(source, projector.size), projector.size)
    indices = choose_images(len(data), options.count, options.spread, data.name)
    reader = open_reader(data, indices, projector.size, options.recognizer, place)
    try:
        own, found = _search(projector, config, data, indices, reader, options, progress)
    except NO_MEMORY as error:
        if not says_no_memory(error):
            raise
        raise ShapesHDError(
            f"out of memory ({one_line(error)[:80]}): use a smaller --batch than {options.batch}"
        ) from None
    limit = choose_limit(found.residuals, own, options.limit)
    images, recognizer = _evaluate(indices, found, reader, limit.rmse)
    values = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "generator": {
            **_named(generator), "size": projector.size, "latent_dim": projector.latent_dim
        },
        "encoder": None if path is None else _named(path),
        "dataset": {**data.describe(), "chosen": "spread" if options.spread else "last"},
        "search": {
            **config.to_json(),
            "batch": options.batch,
            "shell": list(projector.shell),
            "device": str(place),
        },
        "recognizer": recognizer,
        "why_no_factors": reader.why_not,
        "limit": limit.to_json(),
        "reference": {"images": len(own), "rmse": summary_of(own)},
        "summary": summarise(images),
        "images": images,
        "seconds": round(time.monotonic() - began, 2),
        "versions": {"torch": torch.__version__},
    }  # fmt: skip
    return ProjectionResult(values, found.z, data, projector)


def choose_images(available: int, count: int, spread: bool, name: str) -> list[int]:
    """Return which images to project: the last `count`, or as many spread evenly.

    Raises:
        UsageError: if there are fewer.
    """
    if count > available:
        raise UsageError(f"{name}: has {available:,} images, fewer than --count {count:,}")
    if not spread:
        return list(range(available - count, available))
    return [(2 * place + 1) * available // (2 * count) for place in range(count)]


def residual(a: Tensor, b: Tensor) -> FloatArray:
    """Return the root mean square difference of images, uint8 (n, 3, H, W), in levels: (n,)."""
    error = (a.cpu().double() - b.cpu().double()).square().mean((1, 2, 3)).sqrt()
    values: FloatArray = error.numpy()
    return values


def peak_ratio(rmse: float) -> float | None:
    """Return the peak signal-to-noise ratio of 8-bit images, dB; None where they are equal."""
    return 20 * math.log10(_LEVELS / rmse) if rmse > 0 else None


def summary_of(residuals: FloatArray) -> dict[str, float] | None:
    """Return median, 95% quantile and largest of some residuals; None of none."""
    if not len(residuals):
        return None
    return {
        "median": float(np.median(residuals)),
        "p95": float(np.quantile(residuals, 0.95)),
        "largest": float(residuals.max()),
    }


def summarise(images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Count the images that cannot be generated, with the exact 95% interval of their share."""
    failed = sum(image["not_generated"] for image in images)
    interval = scipy.stats.binomtest(failed, len(images)).proportion_ci(CONFIDENCE, "exact")
    worst = max(images, key=lambda image: image["rmse"])
    known = images[0]["factors"] is not None
    return {
        "images": len(images),
        "not_generated": failed,
        "share": failed / len(images),
        "low": float(interval.low),
        "high": float(interval.high),
        "above_limit": sum(image["above_limit"] for image in images),
        "wrong_factors": {
            name: sum(name in image["factors"]["wrong"] for image in images) for name in NAMES
        }
        if known
        else None,
        "rmse": summary_of(np.array([image["rmse"] for image in images])),
        "worst": worst["index"],
    }


@dataclass(frozen=True)
class _Found:
    """The latents and residuals that were found for the images, in order.

    Attributes:
        z: float32 (n, latent_dim).
        encoded: bool (n,); see `Projection`.
        residuals: (n,), levels.
        read: factors of each batch of images and of their projections; see `FactorReader.read`.
    """

    z: FloatArray
    encoded: list[bool]
    residuals: FloatArray
    read: list[tuple[FloatArray, FloatArray] | None]


def _encoder_path(generator: Path, wanted: str) -> Path | None:
    if wanted == NONE:
        return None
    return find_encoder(generator) if wanted == AUTO else own_encoder_place(wanted)


def _load(
    generator: Path, encoder: Path | None, config: ProjectionConfig, device: torch.device
) -> Projector:
    network = read_generator(generator)
    if not isinstance(network, Generator):
        raise UsageError(
            f"{generator}: is a flow, whose latents have as many components as its images "
            f"({network.latent_dim:,}) and which can be inverted: almost every image has a latent, "
            "so that none to be found would say nothing; project takes a StyleGAN2"
        )
    networks: list[Any] = [network]
    if encoder is not None:
        networks.append(read_encoder(encoder))
    placed = [net.to(device).to(memory_format=torch.channels_last) for net in networks]
    return Projector(placed[0], config, *placed[1:])


def _named(path: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": str(read_card(path)["sha256"])}


def _search(
    projector: Projector,
    config: ProjectionConfig,
    data: ImageData,
    indices: Sequence[int],
    reader: FactorReader,
    options: ProjectionOptions,
    progress: bool,
) -> tuple[FloatArray, _Found]:
    """Return the residuals of the generator's own samples, and what is found for the images."""
    own, residuals, found, read = [np.empty(0)], [], [], []
    with progress_bar(len(indices) + options.reference, "project", shown=progress) as bar:
        done = 0

        def advance(images: int) -> None:
            nonlocal done
            done += images
            bar.update(done // config.steps - bar.n)

        for rows in _parts(range(options.reference), options.batch):
            images = projector.samples(rows[0], rows[-1] + 1)
            own.append(residual(images, projector.project(images, rows, advance).images))
        for rows in _parts(indices, options.batch):
            images = data.batch(rows)
            projection = projector.project(images, rows, advance)
            found.append(projection)
            residuals.append(residual(images, projection.images))
            read.append(reader.read(images, projection.images))
    z = torch.cat([projection.z for projection in found]).numpy()
    encoded = torch.cat([projection.encoded for projection in found]).tolist()
    return np.concatenate(own), _Found(z, encoded, np.concatenate(residuals), read)


def _parts(numbers: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    return (numbers[start : start + length] for start in range(0, len(numbers), length))


def _evaluate(
    indices: Sequence[int], found: _Found, reader: FactorReader, limit: float
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Describe each image, and the recognizer."""
    compared = reader.compare(found.read)
    lengths = np.linalg.norm(found.z, axis=1)
    images = []
    for row, index in enumerate(indices):
        value = float(found.residuals[row])
        factors = reader.row(row, compared)
        above = value > limit
        images.append(
            {
                "index": index,
                "rmse": value,
                "psnr": peak_ratio(value),
                "length": float(lengths[row]),
                "start": "encoder" if found.encoded[row] else "sample",
                "factors": factors,
                "above_limit": above,
                "not_generated": above or (factors is not None and bool(factors["wrong"])),
            }
        )
    return images, reader.describe(compared)
