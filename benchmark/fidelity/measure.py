"""The fidelity of a source's images, measured in the same pass over them as its score."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.recognizer.data import images_in_common
from shapeshd.benchmark.recognizer.reader import (
    Reader,
    card_of,
    piece_length,
    precision_in_use,
    read_factors,
)
from shapeshd.benchmark.recognizer.recognizer import Recognizer
from shapeshd.benchmark.result.fidelity import FidelityRecord
from shapeshd.benchmark.sources.base import Source
from shapeshd.checks import whole_number
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import open_dataset
from shapeshd.distribution import Distribution
from shapeshd.errors import InterruptedRunError, ShapesHDError, UsageError, named
from shapeshd.factors import FloatArray
from shapeshd.images.drawn import DRAWN
from shapeshd.scene.sampling import make_sampling
from shapeshd.support.atomic_files import remove_hidden_files
from shapeshd.support.device import moved
from shapeshd.support.distributed import Ranks
from shapeshd.support.progress import progress_bar

from .compare_features import MIN_IMAGES, compare_features, theoretical
from .features import FeatureNetwork, load_features
from .measurement_files import MeasurementFiles, Measurements
from .pretrained.names import DEFAULT
from .real_cache import folder_of
from .rerender import DEFAULT_ENGINE, Renderer
from .residual import residuals, summarize

REAL_SEED = 1_000_002
"""Of the real images with which a source is compared: no recognizer of ours is trained on it."""

_VERSION = 1  # raised when other numbers come out of the same images
_REAL_PER_IMAGE = 2  # two disjoint halves: one to compare with, both for the theoretical row


@dataclass(frozen=True)
class FidelitySettings:
    """What is measured of single images.

    Attributes:
        images: of how many: the first samples, or some of all images that are drawn by the seed
            where these are scored in an order that may mean something.
        features: the network by which they are compared with real ones, or its name; see
            `load_features`.
        engine: "torch" or "povray", which renders real images and re-renders.
        trust: whether code in the network's file may run.
        cache: folder that keeps what was measured of real images for other scores; None for none.
            Of several processes that share a score, the first one's counts.
    """

    images: int
    features: str | FeatureNetwork = DEFAULT
    engine: str = DEFAULT_ENGINE
    trust: bool = False
    cache: Path | None = None


def open_fidelity(
    settings: FidelitySettings,
    samples: int,
    reader: Reader,
    side: int,
    distribution: Distribution | None = None,
    *,
    drawn: bool = False,
) -> Fidelity:
    """Return what measures the fidelity of a source's images.

    Args:
        settings: what is asked for.
        samples: of the score.
        reader: reads factors; "recognizer" are the features of a `Recognizer`.
        side: width and height of the source's images, pixels.
        distribution: that they should follow.
        drawn: as of `Fidelity`.

    Raises:
        UsageError: if there are too few images, or more than samples; there is no such network or
            engine; `reader` has no features, or was trained on the real images.
        RendererError: if POV-Ray is asked for and missing.
    """
    whole_number(named("fidelity"), settings.images, MIN_IMAGES)
    if settings.images > samples:
        raise UsageError(
            f"{named('fidelity', settings.images)}: more images than samples ({samples:,}); ask "
            f"for fewer, or for more {named('samples')}"
        )
    features = settings.features
    if isinstance(features, str):
        if features == DEFAULT and not hasattr(reader, "features"):
            raise UsageError(
                f"{reader.name}: has no features to compare images by: give features "
                "inception, vgg, dinov2 or clip"
            )
        features = load_features(
            features, cast(Recognizer, reader), reader.device, trust=settings.trust
        )
    renderer = Renderer(settings.engine, side, reader.device)
    return Fidelity(
        settings.images, features, renderer, reader, side, distribution,
        cache=settings.cache, drawn=drawn,
    )  # fmt: skip


class Fidelity:
    """Measures images of a source, and real ones in the same way.

    Each image is given its features, its recognised factors are rendered again at its own size,
    and both pictures are compared. What is measured lies in a folder in pieces, so that a run
    can be stopped, shared out or extended. `collect` measures pieces as they are counted, and
    `finish` what is missing: all of those that are drawn from the source.

    Args:
        images: N, how many: the first ones of the source that `finish` is given.
        features: gives their features.
        renderer: renders factors at the images' size.
        reader: reads factors.
        side: width and height of the source's images, pixels.
        distribution: that they should follow: the real images do.
        cache: as of `FidelitySettings`.
        drawn: whether that source has another order than the images that `collect` is shown, one
            that the seed decides.

    Raises:
        UsageError: if the recognizer was trained on the real images.
    """

    def __init__(
        self,
        images: int,
        features: FeatureNetwork,
        renderer: Renderer,
        reader: Reader,
        side: int,
        distribution: Distribution | None = None,
        *,
        cache: Path | None = None,
        drawn: bool = False,
    ) -> None:
        spec = RenderSpec(REAL_SEED, _REAL_PER_IMAGE * images, reader.size)
        if images_in_common(card_of(reader), open_dataset(spec)):
            raise UsageError(
                f"{reader.name} was trained on images of seed {REAL_SEED}, which "
                f"{named('fidelity')} keeps "
                "for the comparison"
            )
        self.images, self._cache = images, cache
        self._features, self._renderer, self._reader = features, renderer, reader
        self._length = piece_length(side)
        self._real = make_sampling("uniform", seed=REAL_SEED, distribution=distribution)
        self.settings = {
            "images": images,
            "seed": REAL_SEED,
            "side": side,
            "features": {
                "name": features.name,
                "digest": features.digest,
                "dimension": features.dimension,
            },
            "engine": {"name": renderer.name, "scene_sha256": renderer.digest},
            "distribution": None if distribution is None else distribution.digest,
            "version": _VERSION,
        }
        if drawn:
            self.settings["order"] = DRAWN

    def open(self, work: Path, ranks: Ranks) -> None:
        """Go on with what lies in the folder `work`; all processes must call it."""
        text = json.dumps(self._decisive(), sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        folder = work / f"fidelity-{key}"
        if ranks.first:
            folder.mkdir(exist_ok=True)
            remove_hidden_files(folder)
        ranks.wait()
        self.sample = MeasurementFiles(folder, "sample", self.images, self._length)
        count = _REAL_PER_IMAGE * self.images
        kept = self._shared_folder() if ranks.first else None
        self._kept = None if kept is None else MeasurementFiles(kept, "real", count, self._length)
        if ranks.count == 1:
            self.real = self._kept or MeasurementFiles(folder, "real", count, self._length)
            return
        # Processes on several machines have `work` in common, and may each have another cache.
        self.real = MeasurementFiles(folder, "real", count, self._length)
        if self._kept is not None:
            self._kept.copy_to(self.real)
        ranks.wait()

    def _decisive(self) -> dict[str, Any]:
        return {name: value for name, value in self.settings.items() if name != "images"}

    def _shared_folder(self) -> Path | None:
        """Return where other scores find the real images' measurements; None if nowhere."""
        reader = self._reader
        if self._cache is None or not (self._features.digest and reader.digest):
            return None
        decisive = self._decisive()
        decisive.pop("order", None)  # of the source's images
        return folder_of(
            self._cache,
            {
                **decisive,
                "recognizer": {
                    "digest": reader.digest,
                    "size": reader.size,
                    "precision": precision_in_use(reader),
                },
                "piece": self._length,
                # Rounding differs between processors, and may between versions.
                "device": reader.device.type,
                "torch": torch.__version__,
            },
        )

    def matches(self, entry: FidelityRecord | None) -> bool:
        """Tell whether what a result says of fidelity is what this would measure."""
        return entry is not None and entry.settings.to_json() == self.settings

    def exceeded(self, entry: FidelityRecord | None) -> int | None:
        """Return of how many images an entry is, if it is of the same kind and of more than N."""
        if entry is None or not self.matches(
            entry.model_copy(
                update={"settings": entry.settings.model_copy(update={"images": self.images})}
            )
        ):
            return None
        return entry.settings.images if entry.settings.images > self.images else None

    def collect(self, first: int, images: Tensor, factors: FloatArray) -> None:
        """Measure a piece of the source unless that is done, or other images are drawn from it.

        Args:
            first: number of its first image.
            images: uint8 (n, 3, side, side), the whole piece.
            factors: (n, 6), as recognised.
        """
        if "order" not in self.settings:
            self._measure(self.sample, first, images, factors)

    def finish(
        self, source: Source, ranks: Ranks, *, progress: bool = False
    ) -> tuple[dict[str, Any], Measurements] | None:
        """Measure what is missing; all processes must call it.

        Args:
            source: the images 0 .. N - 1 of it are measured.
            ranks: the processes that share the work.
            progress: show bars on stderr.

        Returns:
            What a result says, ready for JSON, and what was measured of each image; None in all
            processes but the first.

        Raises:
            InterruptedRunError: if SIGINT or SIGTERM came; what was measured is kept.
        """

        def taken(first: int) -> Tensor:
            last = first + self._length
            return source.images(first, last if source.count is None else min(last, source.count))

        def made(first: int) -> Tensor:
            return self._renderer(self._real.factors(first, first + self._length))

        try:
            self._fill(self.sample, taken, ranks, "fidelity", progress)
            self._fill(self.real, made, ranks, "real images", progress)
            real = self._real_if_whole() if ranks.count == 1 else None
            if ranks.count == 1 and real is None:  # another score has damaged a piece, now deleted
                self._fill(self.real, made, ranks, "real images", progress)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                "interrupted; all samples are counted, and what is measured of the fidelity is "
                "kept: the same command goes on from there"
            ) from None
        ranks.wait()
        if not ranks.first:
            return None
        sample, real = self.sample.load(), self.real.load() if real is None else real
        if ranks.count > 1 and self._kept is not None:
            self.real.copy_to(self._kept)
        classes = getattr(self._features, "class_weights", None)
        entry = {
            "settings": self.settings,
            "residual": summarize(sample.residuals, real.residuals),
            "statistics": compare_features(
                sample.features, real.features[: self.images], class_weights=classes
            ),
            "theoretical": theoretical(real.features, class_weights=classes),
        }
        return entry, sample

    def _real_if_whole(self) -> Measurements | None:
        try:
            return self.real.load()
        except ShapesHDError:
            return None

    def rerender(self, factors: FloatArray) -> Tensor:
        """Return the renderings of recognised factors (n, 6): uint8 (n, 3, side, side)."""
        return self._renderer(factors)

    def _fill(
        self,
        pieces: MeasurementFiles,
        images: Callable[[int], Tensor],
        ranks: Ranks,
        description: str,
        progress: bool,
    ) -> None:
        spans = list(pieces.spans())[ranks.rank :: ranks.count]
        missing = [(first, last) for first, last in spans if pieces.wants(first)]
        total = sum(last - first for first, last in missing)
        shown = progress and ranks.first and total > 0
        with progress_bar(total, description, shown=shown) as bar:
            for first, last in missing:
                piece = images(first)
                factors = read_factors(piece, self._reader)
                self._measure(pieces, first, piece, factors)
                bar.update(last - first)

    def _measure(
        self, pieces: MeasurementFiles, first: int, images: Tensor, factors: FloatArray
    ) -> None:
        wanted = pieces.wants(first)
        if not wanted:
            return
        images, factors = images[:wanted], factors[:wanted]
        again = self._renderer(factors)
        found = residuals(moved(images, again.device), again)
        features = np.asarray(self._features(images), dtype=np.float32)
        pieces.save(first, Measurements(features, factors, found))
