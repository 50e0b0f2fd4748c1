"""FID against real images without rendering any: their mean and covariance are shipped.

``shipped/NAME-SIZE.safetensors`` holds mean and covariance of the features that the recognizer
NAME gives for real images of SIZE pixels, and the scale of these features: of the very images that
a score with `fidelity` of the same number takes. So the distance is that score's FID, up to
rounding, where as many images are compared; like every FID it falls with their number.

Mean and covariance give FID alone. Its interval and its value without bias, KID, precision,
recall, density, coverage and the floor of the residual compare single images: `fidelity` renders
and measures them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.recognizer.find import shipped_for
from shapeshd.benchmark.recognizer.reader import Reader
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.errors import UsageError, named
from shapeshd.factors import FloatArray
from shapeshd.scene.version import SCENE_VERSION
from shapeshd.support.checkpoint import CheckpointCard, load_checkpoint, save_checkpoint
from shapeshd.support.schema import validated

from .compare_features import MIN_IMAGES
from .features import RecognizerFeatures
from .frechet import Moments, frechet_between
from .intervals import Interval

KIND = "real-statistics"
SHIPPED = (("lite", 64), ("hd", 256))
"""Names of recognizers, and of each the size of the images, pixels."""
DIMENSION = 278
"""Features of these recognizers."""
FOLDER = Path(__file__).parent / "shipped"


class RealStatisticsCard(CheckpointCard):
    """Describes the real images whose statistics a file holds.

    Attributes:
        recognizer: name of the one whose features they are, which computed in fp32.
        recognizer_sha256: digest of its weights.
        size: width and height of the images, pixels.
        images: how many there are, from number 0.
        seed: of their factors, of the uniform distribution.
        renderer: that made them.
        scene_sha256: of the scene as that renderer takes it.
        scene_version: see `SCENE_VERSION`.
        fid_of_real_images: of as many other real images, the following ones of the seed.
        torch: version of PyTorch.
        commit: of the program.
    """

    recognizer: str
    recognizer_sha256: str
    size: int
    images: int
    seed: int
    renderer: str
    scene_sha256: str
    scene_version: int
    fid_of_real_images: Interval
    torch: str
    commit: str


@dataclass(frozen=True)
class RealStatistics:
    """Mean and covariance of real images' features, and what gives such features.

    Attributes:
        mean: float64 (d,).
        covariance: float64 (d, d).
        scale: as of `RecognizerFeatures`.
        card: of the images.
    """

    mean: FloatArray
    covariance: FloatArray
    scale: tuple[FloatArray, FloatArray]
    card: RealStatisticsCard

    def moments(self, images: Tensor, recognizer: Recognizer) -> Moments:
        """Return sums over images' features, taken about the real mean.

        Args:
            images: uint8 (n, 3, size, size), sRGB.
            recognizer: that of the card; it computes in fp32 here, whatever its precision.
        """
        if recognizer.precision != "fp32":
            recognizer = Recognizer(
                recognizer.network,
                recognizer.name,
                recognizer.digest,
                recognizer.card,
                recognizer.device,
            )
        features = RecognizerFeatures(recognizer, self.scale)(images)
        return Moments.of(features.astype(np.float64) - self.mean)

    def distance(self, moments: Moments) -> float:
        """Return the FID of images whose `moments` were added up, at least two of them."""
        mean, covariance = moments.normal()
        return frechet_between(mean, covariance, np.zeros_like(mean), self.covariance)


def save_real_statistics(
    path: Path,
    features: FloatArray,
    scale: tuple[FloatArray, FloatArray],
    card: Mapping[str, object],
) -> None:
    """Write mean and covariance of features, float64 (n, d), and a card; see `save_checkpoint`.

    The covariance's upper triangle is kept, in fp32.
    """
    mean = features.mean(0)
    _, covariance = Moments.of(features - mean).normal()
    upper = covariance[np.triu_indices(len(mean))].astype(np.float32)
    arrays = {"mean": mean, "covariance": upper, "scale_mean": scale[0], "scale_spread": scale[1]}
    save_checkpoint(
        path, KIND, {name: torch.from_numpy(array) for name, array in arrays.items()}, card
    )


def load_real_statistics(reader: Reader, side: int) -> RealStatistics:
    """Return the statistics for what a recognizer says of images of `side` pixels.

    Raises:
        UsageError: if none come with the program: of another size, recognizer or scene.
        ShapesHDError: if the file is damaged.
    """
    paths = {size: FOLDER / f"{name}-{size}.safetensors" for name, size in SHIPPED}
    known = " and ".join(f"{name} at {size} pixels" for name, size in SHIPPED)
    path = paths.get(side)
    if path is None or not isinstance(reader, Recognizer):
        raise _other(f"{reader.name} at {side} pixels", known)
    found = load_checkpoint(path, KIND)
    card = validated(RealStatisticsCard, found.card, f"{path}: its card: ")
    if card.recognizer_sha256 != reader.digest:
        raise _other(f"{reader.name} at {side} pixels", known)
    if card.scene_version != SCENE_VERSION:
        raise _other(f"version {SCENE_VERSION} of the scene", f"version {card.scene_version}")
    arrays = {name: tensor.numpy() for name, tensor in found.tensors.items()}
    mean = arrays["mean"]
    covariance = np.zeros((len(mean), len(mean)))
    covariance[np.triu_indices(len(mean))] = arrays["covariance"]
    covariance += np.triu(covariance, 1).T
    return RealStatistics(mean, covariance, (arrays["scale_mean"], arrays["scale_spread"]), card)


def _other(asked: str, known: str) -> UsageError:
    return UsageError(
        f"statistics of real images come with the program for {known}, not for {asked}: "
        f"{named('fidelity')} of a score measures real images itself"
    )


def frechet_distance_to_real(
    images: Tensor | Iterable[Tensor], recognizer: str | Path | Recognizer | None = None
) -> float:
    """Return the FID of images against 10,000 real ones, in a recognizer's features.

    No real image is rendered: their mean and covariance come with the program, for ``lite`` and
    images of 64 pixels and for ``hd`` and 256. With 10,000 images it is the FID of a score with
    ``fidelity=10_000``, up to rounding; with fewer it is larger, also for perfect ones.

    Args:
        images: uint8 (n, 3, H, W), sRGB, or batches of such, all of one size; 100 or more.
        recognizer: "lite" or "hd", its path, or one that is loaded, which tells the device; by
            default hd for images of 128 pixels and more, else lite.

    Raises:
        UsageError: if the images are too few or no such images, or nothing comes with the program
            for their size or for the recognizer.
    """
    statistics, total, side = None, None, 0
    one = isinstance(images, Tensor) or not isinstance(images, Iterable)
    for batch in [images] if one else images:
        if not isinstance(batch, Tensor):
            raise UsageError(
                "images must be a tensor or batches that are tensors, "
                f"not of type {type(batch).__name__}"
            )
        if batch.dtype != torch.uint8 or batch.ndim != 4 or batch.shape[1] != 3:
            raise UsageError(
                f"images must be uint8 of shape (n, 3, H, W), not {str(batch.dtype)[6:]} "
                f"{tuple(batch.shape)}"
            )
        if batch.shape[-2] != batch.shape[-1]:
            raise UsageError(f"images must be square, not of {tuple(batch.shape[-2:])} pixels")
        if statistics is None:
            side = batch.shape[-1]
            if not isinstance(recognizer, Recognizer):
                recognizer = load_recognizer(recognizer or shipped_for(side))
            statistics = load_real_statistics(recognizer, side)
        if batch.shape[-2:] != (side, side):
            raise UsageError(f"images must be of one size: {side}, then {tuple(batch.shape[-2:])}")
        assert isinstance(recognizer, Recognizer)
        found = statistics.moments(batch, recognizer)
        total = found if total is None else total.plus(found)
    if statistics is None or total is None or total.count < MIN_IMAGES:
        count = 0 if total is None else total.count
        raise UsageError(f"images are too few for FID: {count}, and it takes {MIN_IMAGES}")
    return statistics.distance(total)
